"""Whether a file of sound is cut off or damaged, by what its container says of itself.

The libraries read such files without an error: of a file that was cut they return what is there, and damaged pages they
pass over.
"""

import re
import zlib
from typing import BinaryIO, Literal

HEAD_BYTES = 4096
CUT = "the file is shorter than its header says; copy it again"
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
# What programs write into the header of a WAV or AIFF if they cannot come back to it: sox and espeak, sox into an AIFF,
# arecord, others.
_LENGTHS_OF_PIPES = {0x7FFFF000, 0x7F000008, 0x7FFFFF00, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF}
_DUMP, _IS_PACKET, _DUMP_HEADER, _DUMP_PACKET = b"\xf0\x7e", 2, 21, 127  # of the MIDI Sample Dump Standard
_MAX_PAGE = 65_307  # bytes of an Ogg page
_SEGMENT = bytes.fromhex("18538067")


def is_cut(file: BinaryIO, head: bytes, size: int) -> bool:
    """Whether the header of an open file promises more bytes than its `size`; it begins with `head` of `HEAD_BYTES`."""
    kind = b"ftyp" if head[4:8] == b"ftyp" else head[:4]
    if kind in _PROMISES:
        return size < _PROMISES[kind](head)
    if kind in _WALKS:
        return _WALKS[kind](file, size)
    return size < _promised_by_asf(head)


def _promised_by_riff(head: bytes) -> int:
    """Of WAV, AVI and AIFF; 0 if a pipe wrote it before the length was known. A last pad byte may be missing."""
    order: Literal["little", "big"] = "little" if head[:4] == b"RIFF" else "big"
    chunk = head.find(b"data" if head[:4] == b"RIFF" else b"SSND", 12)
    lengths = [head[4:8], head[chunk + 4 : chunk + 8] if chunk > 0 else b""]
    promised, of_data = (int.from_bytes(length, order) for length in lengths)
    return 0 if promised in (0, *_LENGTHS_OF_PIPES) or of_data in _LENGTHS_OF_PIPES else promised + 8 - 1


def has_samples_behind(head: bytes) -> bool:
    """Whether a WAV with this head says that it has no samples, but something other than a chunk follows."""
    chunk = head.find(b"data", 12)
    following = head[chunk + 8 : chunk + 12]
    return head[:4] == b"RIFF" and chunk > 0 and len(following) == 4 and not following.strip().isalnum()


def _promised_by_asf(head: bytes) -> int:
    """Of WMA and WMV; 0 for other files and for broadcasts."""
    start = head.find(_ASF_FILE_PROPERTIES)
    if start < 0 or len(head) <= start + 88 or head[start + 88] & 1:
        return 0
    return int.from_bytes(head[start + 40 : start + 48], "little")


def _promised_by_au(head: bytes) -> int:
    """Sun's AU: the offset of the samples and their bytes; all bits set where a pipe wrote it."""
    start, length = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
    return 0 if length == 0xFFFFFFFF else start + length


def _promised_by_w64(head: bytes) -> int:
    """Sony's Wave64: the size of the file, 64 bits."""
    length = int.from_bytes(head[16:24], "little")
    return 0 if length >= 1 << 63 else length


def _promised_by_rf64(head: bytes) -> int:
    """EBU's RF64: its chunk ds64 has the size without the first 8 bytes. A last pad byte may be missing."""
    return int.from_bytes(head[20:28], "little") + 7 if head[12:16] == b"ds64" else 0


def _promised_by_sphere(head: bytes) -> int:
    """NIST SPHERE: a text header, whose second line is its length; only samples that are not compressed."""
    fields = dict(re.findall(rb"^(\w+) -\w+ (\S+)", head, re.MULTILINE))
    sizes = [fields.get(name, b"") for name in (b"sample_count", b"sample_n_bytes", b"channel_count")]
    coding, start = fields.get(b"sample_coding", b"pcm"), head[8:16].strip()
    if not all(text.isdigit() for text in (start, *sizes)) or b"," in coding:
        return 0
    samples, width, channels = map(int, sizes)
    return int(start) + samples * width * channels


_PROMISES = {
    b"RIFF": _promised_by_riff,
    b"FORM": _promised_by_riff,
    b".snd": _promised_by_au,
    b"riff": _promised_by_w64,
    b"RF64": _promised_by_rf64,
    b"NIST": _promised_by_sphere,
}


def _chunks_are_cut(file: BinaryIO, size: int) -> bool:
    """Whether the last chunk of a CAF file ends behind the file; a length of -1 means up to the end of the file."""
    at = 8
    while at + 12 <= size:
        file.seek(at)
        header = file.read(12)
        length = int.from_bytes(header[4:], "big", signed=True)
        if length < 0:
            return False
        at += 12 + length
    return at > size


def _boxes_are_cut(file: BinaryIO, size: int) -> bool:
    """Whether the last box of an MP4, M4A, MOV or 3GP file ends behind the file, or the box `moov` is missing.

    ISO/IEC 14496-12: a box begins with its length, 32 bits, or 64 if that is 1; 0 means up to the end of the file.
    """
    at, kinds = 0, set[bytes]()
    while at + 8 <= size and len(kinds) < 1000:
        file.seek(at)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        kinds.add(kind)
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length == 0:
            return b"moov" not in kinds
        if length < 8:
            return False  # not a box: damaged rather than cut
        at += length
    return at > size or b"moov" not in kinds


def _segment_is_cut(file: BinaryIO, size: int) -> bool:
    """Whether the segment of a Matroska or WebM file ends behind the file (RFC 8794)."""
    file.seek(0)
    head = file.read(4096)
    at = head.find(_SEGMENT) + 4
    length = head[at : at + 8] if at >= 4 else b""
    if not length or length[0] == 0:
        return False
    width = 9 - length[0].bit_length()
    value = int.from_bytes(length[:width], "big") & ((1 << 7 * width) - 1)
    unknown = value == (1 << 7 * width) - 1  # a live recording
    return not unknown and size < at + width + value


def _last_page_is_cut(file: BinaryIO, size: int) -> bool:
    """Whether the last page of an Ogg file ends behind the file (RFC 3533; a page has at most 65,307 bytes)."""
    file.seek(max(0, size - _MAX_PAGE))
    tail = file.read(_MAX_PAGE)
    start = tail.rfind(b"OggS")
    if start < 0:
        return False
    page = tail[start:]
    return len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


_WALKS = {
    b"caff": _chunks_are_cut,
    b"ftyp": _boxes_are_cut,
    b"OggS": _last_page_is_cut,
    bytes.fromhex("1a45dfa3"): _segment_is_cut,
}


def damaged_pages(file: BinaryIO, head: bytes) -> str:
    """What is wrong with the pages of an open Ogg file, in words; empty if nothing is, or for other files.

    Each page has a checksum (RFC 3533). The libraries pass over a page whose checksum is wrong.
    """
    if head[:4] != b"OggS":
        return ""
    bad = skipped = 0
    file.seek(0)
    at, content, reversed_bits, more = 0, b"", b"", head
    while True:
        if more and len(content) - at < _MAX_PAGE and (more := file.read(1 << 20)):
            content, at = content[at:] + more, 0
            reversed_bits = content.translate(_REVERSED)
        if at >= len(content):
            break
        if content[at : at + 4] != b"OggS":
            following = content.find(b"OggS", at)
            if following < 0 and not content[at:].strip(b"\0"):
                break  # padding
            skipped += 1
            at = following if following >= 0 else max(at + 1, len(content) - 3)
            continue
        length = _page_length(content, at)
        if not length:
            break  # `is_cut` says so
        if _has_its_checksum(memoryview(reversed_bits)[at : at + length]):
            at += length
        else:
            bad += 1
            at += 4  # its length may be wrong
    count = max(bad, skipped)
    return f"{count} page{'' if count == 1 else 's'} cannot be read" if count else ""


def _page_length(content: bytes, at: int) -> int:
    """Of the page at byte `at`; 0 if it is not whole."""
    if len(content) < at + 27 or len(content) < at + 27 + content[at + 26]:
        return 0
    segments = content[at + 26]
    length = 27 + segments + sum(content[at + 27 : at + 27 + segments])
    return length if at + length <= len(content) else 0


def damaged_packets(file: BinaryIO, head: bytes) -> str:
    """What is wrong with the packets of an open MIDI sample dump (.sds), in words; else empty.

    Behind a header of 21 bytes are packets of 127. libsndfile prints a line for each that begins otherwise.
    """
    if head[:2] != _DUMP:
        return ""
    file.seek(_DUMP_HEADER)
    content = file.read()
    packets = range(0, len(content) - _DUMP_PACKET + 1, _DUMP_PACKET)
    bad = sum(content[at : at + 2] != _DUMP or content[at + 3] != _IS_PACKET for at in packets)
    return f"{bad} packet{'' if bad == 1 else 's'} cannot be read" if bad else ""


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _has_its_checksum(page: memoryview) -> bool:
    """Whether a page, each byte of which is reversed, has the right one: zlib's CRC-32, but with the highest bit first,
    without inversion, and of zeros in its own place.
    """
    crc = zlib.crc32(page[26:], zlib.crc32(bytes(4), zlib.crc32(page[:22], 0xFFFFFFFF)))
    return (crc ^ 0xFFFFFFFF).to_bytes(4, "big") == page[22:26]
