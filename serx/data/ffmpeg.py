"""Read the sound of a file with FFmpeg: what libsndfile does not read, such as AAC, AMR, WMA, WebM and videos.

The only module that imports PyAV, whose wheels contain FFmpeg. `data.audio` decides what is read here. A file is data
and never a command: it cannot name other files or addresses to open, only containers of sound and video are recognized,
and only decoders of sound run, so that no picture is decoded.
"""

import math
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

# Demuxers of self-contained files that are recognized by their content. Missing are playlists (hls, dash, concat),
# devices, networks, images and samples without a header.
DEMUXERS = """
    aa aac aax ac3 aea aiff amr ape asf ast au avi caf dsf dts dtshd dv eac3 epaf f4v flac flv gxf iff ircam
    loas m4v matroska matroska,webm mlp mmf mov mov,mp4,m4a,3gp,3g2,mj2 mp3 mpc mpc8 mpeg mpegts mxf nistsphere nsv nut
    nuv ogg oma paf qcp qoa rm shn smjpeg sox swf tak tta ty truehd voc vqf w64 wav wsd wtv wv xa xwma
"""
# Their header says how long the sound is; that of the others is an estimate from the size and the bit rate.
EXACT = {"caf", "aiff", "wav", "w64", "au", "flac", "tta", "wv", "ape", "asf", "avi", "matroska", "mov", "tak"}
# Containers that do not record how many samples an AAC encoder prepends: a frame of 1024, as FFmpeg's does. In others,
# FFmpeg skips what the file says.
UNRECORDED_DELAY = {"aac", "flv", "mpegts", "loas", "avi"}
END_TOLERANCE_SECONDS = 0.1  # by which the sound may end before the header says so: containers round
MAX_DAMAGED = 100  # packets in succession that cannot be read; then the rest is given up
READS_PER_BYTE, FREE_READS = 64, 1 << 26  # a demuxer that reads more bytes goes round in circles


class FfmpegError(Exception):
    """FFmpeg cannot read the sound of a file.

    Attributes:
        reason: a reason of `AudioError`, or None if FFmpeg knows no such format.
    """

    def __init__(self, reason: str | None, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class FfmpegFile:
    """The best audio stream of an open file; a context manager.

    Attributes:
        samplerate: in Hz, of the decoded samples.
        channels: of the decoded samples.
        seconds: how long the sound is according to the header; None if the header does not say.
        damaged: packets that could not be decoded so far.
        notes: what a user should know, such as that another audio stream was left out.

    Raises:
        FfmpegError: not a file of sound or video, no sound in it, or none that can be decoded.
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.damaged, self.notes = 0, []  # type: int, list[str]
        self._frames, self._end_seconds = 0, 0.0
        self._file = path.open("rb")
        try:
            self._open(path)
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path) -> None:
        av = _av()
        options = {"format_whitelist": ",".join(DEMUXERS.split()), "codec_whitelist": _audio_decoders()}
        try:
            self._source = _LimitedReader(self._file, path.stat().st_size)
            self._container = av.open(self._source, options=options, metadata_errors="replace", io_open=_refuse)
        except av.error.FFmpegError as error:
            raise self._source.error or FfmpegError(None, str(error)) from error
        streams = self._container.streams
        if not streams.audio:
            what = "a video without sound" if streams.video else "a file without sound"
            raise FfmpegError("not_audio", f"{what}; give one with an audio stream")
        self._stream = streams.best("audio") or streams.audio[0]
        if self._stream.codec_context is None:  # a damaged or unknown tag
            raise FfmpegError("decode_error", "its sound is in a format that has no decoder")
        if len(streams.audio) > 1:
            number = streams.audio.index(self._stream) + 1
            self.notes.append(f"the file has {len(streams.audio)} audio streams; number {number} is used")
        for stream in streams:
            if stream is not self._stream:
                with suppress(AttributeError, ValueError):  # an old PyAV reads and drops their packets
                    stream.discard = "all"
        self._decoded = self._decode()
        first = next(self._decoded, None)
        if first is None:
            what = "no sound can be decoded" if self.damaged else "a header without samples"
            raise FfmpegError("decode_error" if self.damaged else "empty", what)
        self._first: np.ndarray = first
        self.channels, self.seconds = first.shape[1], self._header_seconds()

    def __enter__(self) -> "FfmpegFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        if hasattr(self, "_container"):
            self._container.close()
        self._file.close()

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """Yields the samples as blocks `(n, channels)` float32 of about `size` frames, once.

        Packets that cannot be decoded are skipped and counted in `damaged`. The number of channels may change.

        Raises:
            FfmpegError: the sample rate changes.
        """
        waiting, frames = [self._first], len(self._first)
        for block in self._decoded:
            if frames >= size or block.shape[1] != waiting[0].shape[1]:
                yield np.concatenate(waiting)
                waiting, frames = [], 0
            waiting.append(block)
            frames += len(block)
        yield np.concatenate(waiting)

    def is_cut(self) -> bool:
        """Whether the sound that `blocks` yielded ended before the header says so."""
        return self.seconds is not None and self._end_seconds + END_TOLERANCE_SECONDS < self.seconds

    def _header_seconds(self) -> float | None:
        stream, container = self._stream, self._container
        if container.format.name.split(",")[0] not in EXACT:
            return None
        start = float((stream.start_time or 0) * stream.time_base)
        if stream.duration:
            return float(stream.duration * stream.time_base)
        if tag := stream.metadata.get("DURATION"):  # of Matroska and WebM: when the stream ends
            with suppress(ValueError):
                hours, minutes, seconds = map(float, tag.split(":"))
                return 3600 * hours + 60 * minutes + seconds - start
        if container.duration and len(container.streams) == 1:  # else that of the longest stream
            return container.duration / 1e6
        return None

    def _decode(self) -> Iterator[np.ndarray]:
        """Yields the frames as `(n, channels)` float32; sets `samplerate` at the first."""
        av = _av()
        codec, container = self._stream.codec_context.name, self._container.format.name
        skip_first = codec.startswith("aac") and container in UNRECORDED_DELAY
        start: float | None = None
        for packet in self._packets():
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError):
                self.damaged += 1
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self.damaged += 1
                if not frame.samples:
                    continue
                if not hasattr(self, "samplerate"):
                    self.samplerate = frame.sample_rate
                if frame.sample_rate != self.samplerate:
                    rates = f"{self.samplerate} to {frame.sample_rate} Hz"
                    raise FfmpegError("decode_error", f"its sample rate changes from {rates}; convert it to WAV")
                self._frames += frame.samples
                if frame.pts is not None and start is None:
                    start = float(frame.pts * frame.time_base)
                elapsed = self._frames / frame.sample_rate
                if frame.pts is not None and start is not None:  # where packets are missing, more than was decoded
                    at = float(frame.pts * frame.time_base) - start + frame.samples / frame.sample_rate
                    elapsed = max(elapsed, at)
                self._end_seconds = elapsed
                if skip_first:
                    skip_first = False
                    continue
                yield _samples(frame)

    def _packets(self) -> Iterator[Any]:
        """The packets of the stream. Those that the container cannot read are counted in `damaged`."""
        av, in_succession = _av(), 0
        while in_succession <= MAX_DAMAGED:
            try:
                for packet in self._container.demux(self._stream):
                    if packet.is_corrupt:
                        self.damaged += 1
                    in_succession = 0
                    yield packet
                break
            except EOFError:
                break
            except av.error.FFmpegError:
                self.damaged += 1
                in_succession += 1
        if self._source.error is not None:
            raise self._source.error


class _LimitedReader:
    """A file for FFmpeg to read, which ends a demuxer that never does. Raises nothing: PyAV would print it.

    Attributes:
        error: the first error of the system while reading, or None.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, READS_PER_BYTE * size + FREE_READS
        self.tell, self.error = file.tell, None  # type: Any, OSError | None

    def seek(self, offset: int, whence: int = 0) -> int:
        """The new position; -1 if there is no such position."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none when the limit is reached, or after an error."""
        try:
            data = self._file.read(size) if self._left > 0 else b""
        except OSError as error:
            self.error = self.error or error
            return b""
        self._left -= len(data)
        return data


@cache
def _av() -> Any:
    """PyAV, silent. Imported when first used: it takes time, and WAV and FLAC do not need it."""
    import av  # noqa: PLC0415
    import av.logging  # noqa: PLC0415

    av.logging.set_level(None)
    av.logging.set_libav_level(av.logging.PANIC)
    return av


@cache
def _audio_decoders() -> str:
    """The decoders of sound, separated by commas."""
    av, names = _av(), []
    for name in sorted(av.codecs_available):
        with suppress(ValueError):  # an encoder
            codec = av.Codec(name, "r")
            if codec.type == "audio":
                names.append(codec.name)
    return ",".join(dict.fromkeys(names))


def _refuse(*_: object) -> NoReturn:
    raise PermissionError("a file may not open another one")


def _samples(frame: Any) -> np.ndarray:
    """`(n, channels)` float32 with full scale 1, scaled as libsndfile does."""
    array = frame.to_ndarray()
    array = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    zero = 128 if array.dtype.kind == "u" else 0
    scale = math.ldexp(1, 1 - 8 * array.dtype.itemsize)
    return (array.astype(np.float32 if array.dtype.itemsize < 4 else np.float64) - zero).astype(
        np.float32
    ) * np.float32(scale)
