"""Open a file of sound and read its samples, block by block, or raise an error with a one-word reason.

The only module that reads with soundfile. What libsndfile does not read, FFmpeg does (`ffmpeg.py`). A file is
opened once, by its descriptor where the system allows that, and checked for damage at its end (`damage.py`).
"""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import soundfile

from serx.data.audio.damage import CUT, HEAD_BYTES, damaged_packets, damaged_pages, has_samples_behind, is_cut
from serx.data.audio.error import AudioError
from serx.data.audio.ffmpeg import FfmpegError, FfmpegFile
from serx.files import StrPath
from serx.system import WINDOWS, without_messages

MAX_RATE, MIN_RATE = 384_000, 4_000
MAX_CHANNELS = 32
DAMAGED = "; the file is damaged, copy it again"
_MPEG_ENDINGS = {".mp1", ".mp2", ".mp3"}  # which libsndfile takes for MPEG audio whatever is in the file
_NO_HEADER = "Format not recognised: no header says its sample rate"
_UNKNOWN_FRAMES = (1 << 63) - 1
_PCM_HEADS = {b"RIFF", b"RIFX", b"RF64", b"FORM", b".snd", b"riff", b"caff"}  # of WAV, AIFF, AU, Wave64 and CAF
_AS_IT_IS = nullcontext()
BLOCK, MONO_BLOCK = 1 << 16, 1 << 20  # frames read at a time: a file's channels are mixed block by block


class _SoundFile(soundfile.SoundFile):
    """soundfile's, without what takes time and is not needed to read on from where it is."""

    __setattr__ = object.__setattr__  # soundfile's looks for the names of tags, which are written as attributes

    def seekable(self) -> bool:
        """Whether soundfile asks libsndfile for the place before each read, and sets it afterwards."""
        return False


class OpenedFile:
    """An open file of either library.

    `rate` is in Hz; `seconds` are according to its header, or None; `frames` None where only decoding can tell.
    """

    def __init__(
        self, path: StrPath, content: io.FileIO, head: bytes, size: int, file: soundfile.SoundFile | FfmpegFile
    ) -> None:
        self._path, self._content, self._head, self._size, self._file = path, content, head, size, file
        self._prints = _may_be_mpeg(head)
        self.rate, self.channels = file.samplerate, file.channels
        self.frames = None if isinstance(file, FfmpegFile) else file.frames
        self.seconds = file.seconds if isinstance(file, FfmpegFile) else file.frames / file.samplerate
        self._position = 0

    def blocks(self, size: int = BLOCK) -> Iterator[np.ndarray]:
        """Yields the samples as `(n, channels)` float32, at most about `size` frames at a time."""
        if isinstance(self._file, FfmpegFile):
            yield from self._file.blocks(BLOCK)  # the number of channels may change
            return
        # libsndfile takes longer to convert 16 bits than NumPy, except of FLAC, which it converts as it decodes.
        as_stored = self._head[:4] in _PCM_HEADS and self._file.subtype == "PCM_16"
        while self._position < self._file.frames:
            frames = min(size, self._file.frames - self._position)
            block = np.empty((frames, self.channels), np.int16 if as_stored else np.float32)
            with without_messages() if self._prints else _AS_IT_IS:
                count = self._file.buffer_read_into(block, "int16" if as_stored else "float32")
            if count == 0:
                return
            self._position += count
            block = block if count == frames else block[:count]
            yield block * np.float32(2**-15) if as_stored else block

    def seek(self, frame: int) -> bool:
        """Makes `frame` the next one of `blocks`, if the format allows that to the sample and without decoding."""
        if isinstance(self._file, FfmpegFile) or not soundfile.SoundFile.seekable(self._file):
            return False
        if not self._file.subtype.startswith(("PCM_", "FLOAT", "DOUBLE")):
            return False
        self._position = self._file.seek(frame)
        return self._position == frame

    def damage(self) -> str:
        """What could not be decoded so far, in words; empty if nothing."""
        count = self._file.damaged if isinstance(self._file, FfmpegFile) else 0
        return f"{count} packet{'' if count == 1 else 's'} cannot be decoded" if count else ""

    def check_container(self) -> None:
        """Raises `AudioError` if the file is shorter than it says, or pages are damaged."""
        place = self._content.tell()  # which is also that of libsndfile
        if is_cut(self._content, self._head, self._size):
            raise AudioError(self._path, "truncated", CUT)
        if pages := damaged_pages(self._content, self._head):
            raise AudioError(self._path, "decode_error", f"{pages}{DAMAGED}")
        self._content.seek(place)

    def check_end(self, frames: int) -> None:
        """Raises `AudioError` if the file, of which so many frames were read, is damaged, cut off or empty."""
        self.check_container()
        if self._file.is_cut() if isinstance(self._file, FfmpegFile) else frames < self._file.frames:
            raise AudioError(self._path, "truncated", CUT)
        if damage := self.damage():
            raise AudioError(self._path, "decode_error", f"{damage}{DAMAGED}")
        if frames == 0:
            raise AudioError(self._path, "empty", "a header without samples")


@contextmanager
def opened(path: StrPath, max_seconds: float, notes: list[str], at_once: bool = False) -> Iterator[OpenedFile]:
    """The open file after its header was checked: by soundfile, or by FFmpeg if libsndfile cannot open it.

    Errors of the libraries and of the system become `AudioError`. `at_once`: the whole file is read in this block, and
    nothing else is done.
    """
    try:
        status = os.stat(path)  # raises if the path does not exist
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(path, "unreadable", f"not a regular file ({stat.filemode(status.st_mode)}); name a file")
        if status.st_size == 0:
            raise AudioError(path, "empty", "0 bytes; download or copy it again")
        with io.FileIO(path) as content:
            head = content.read(HEAD_BYTES)
            if packets := damaged_packets(content, head):
                raise AudioError(path, "decode_error", f"{packets}{DAMAGED}")
            with without_messages() if at_once and _may_be_mpeg(head) else _AS_IT_IS:
                sound = _open_with_libsndfile(path, content, head)
                if isinstance(sound, str):
                    sound = _open_with_ffmpeg(path, content, head, sound, notes)
                with sound:
                    file = OpenedFile(path, content, head, status.st_size, sound)
                    _check_header(path, file, max_seconds)
                    yield file
    except OSError as error:
        raise AudioError(path, "unreadable", error.strerror or str(error)) from error
    except soundfile.LibsndfileError as error:
        raise AudioError(path, "decode_error", str(error.error_string)) from error
    except FfmpegError as error:
        raise AudioError(path, error.reason or "decode_error", str(error)) from error


def _open_with_libsndfile(path: StrPath, content: io.FileIO, head: bytes) -> soundfile.SoundFile | str:
    """The file, which is open as `content` and begins with `head`, or why FFmpeg is to read it instead."""
    if head[:4] == b"caff" and head[28:32] == b"alac":  # of a damaged one libsndfile prints to standard output
        return "it cannot be decoded"
    by_name = WINDOWS or _may_be_mpeg(head)  # Windows' libraries cannot share an open file; else the ending may decide
    if by_name and os.path.splitext(path)[1].lower() == ".raw":  # for which soundfile asks for the sample rate
        return _NO_HEADER
    try:
        if by_name:
            with without_messages():
                sound = _SoundFile(os.fsencode(path))  # as bytes: a file name need not be valid text
        else:
            content.seek(0)
            sound = _SoundFile(content.fileno(), closefd=False)
    except soundfile.LibsndfileError as error:
        return str(error.error_string)
    why, subtype = "", sound.subtype if by_name else ""
    if by_name and sound.format == "RAW":  # libsndfile guesses by the ending: .au, .snd, .vox and .gsm
        why = _NO_HEADER
    elif sound.frames == 0 and has_samples_behind(head):  # a recorder broke off: FFmpeg reads what is there
        why = "its header says that it has no samples"
    elif _has_unknown_length(sound, subtype, content, head):
        why = "its header does not say how long it is"
    if why:
        sound.close()
    return why or sound


def _open_with_ffmpeg(path: StrPath, content: io.FileIO, head: bytes, message: str, notes: list[str]) -> FfmpegFile:
    """The file that libsndfile refused with `message`. Raises `AudioError` with the better of two reasons."""
    try:
        return FfmpegFile(Path(path), notes)
    except FfmpegError as error:
        if is_cut(content, head, os.fstat(content.fileno()).st_size):
            raise AudioError(path, "truncated", CUT) from error
        if error.reason is not None:
            raise AudioError(path, error.reason, str(error)) from error
        if "format" not in message.lower() and Path(path).suffix.lower() not in _MPEG_ENDINGS:
            raise AudioError(path, "decode_error", message) from error
        what = message.rstrip(".") if "format" in message.lower() else "Format not recognised"
        raise AudioError(path, "not_audio", f"{what}; convert it to WAV or FLAC, or copy it again") from error


def _check_header(path: StrPath, file: OpenedFile, max_seconds: float) -> None:
    """Raises on a header out of range before anything is decoded, so that a decompression bomb costs nothing."""
    if not MIN_RATE <= file.rate <= MAX_RATE:
        raise AudioError(path, "bad_rate", f"{file.rate} Hz, expected {MIN_RATE} to {MAX_RATE}")
    if file.channels > MAX_CHANNELS:
        raise AudioError(path, "too_many_channels", f"{file.channels}, at most {MAX_CHANNELS}")
    if file.seconds is not None and file.seconds > max_seconds:
        raise AudioError(path, "too_long", f"{file.seconds:.1f} s, data.max_seconds is {max_seconds:g}")


def _has_unknown_length(file: soundfile.SoundFile, subtype: str, content: io.FileIO, head: bytes) -> bool:
    """Whether libsndfile does not know how long a file is, which may be of a `subtype` of MPEG audio.

    It then says the largest number (a FLAC that was written to a pipe, which it cannot read), or of MPEG audio an
    estimate. Only an MP3 whose first frame counts the others is known, and with it the delay of its encoder.
    """
    if not subtype.startswith("MPEG"):
        return bool(file.frames >= _UNKNOWN_FRAMES)
    start = 10 + sum((byte & 127) << 7 * (3 - i) for i, byte in enumerate(head[6:10])) if head[:3] == b"ID3" else 0
    content.seek(start)
    frame = content.read(4096)
    return head[:4] == b"RIFF" or not any(word in frame for word in (b"Xing", b"Info", b"VBRI"))


def _may_be_mpeg(head: bytes) -> bool:
    """Whether libsndfile may ask libmpg123 to read the file with this head, which prints what it thinks of it."""
    if head[:4] == b"RIFF":
        return head[20:22] in (b"\x50\0", b"\x55\0")  # MPEG audio in a WAV
    return head[:4] not in (b"fLaC", b"OggS", b"FORM", b".snd", b"RF64", b"caff")  # else the ending may decide
