"""Read the sound of a file with FFmpeg: what libsndfile does not read, such as AAC, AMR, WMA, WebM and videos.

The only module that imports PyAV, whose wheels contain FFmpeg. `data.audio` decides what is read here. A file is data
and never a command: it cannot name other files or addresses to open, only containers of sound and video are recognized,
and only decoders of sound run, so that no picture is decoded.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

# Demuxers of self-contained files that are recognized by their content. Missing are playlists (hls, dash, concat),
# devices, networks, images and samples without a header.
DEMUXERS = """
    aa aac aax ac3 aea aiff amr ape asf ast au avi caf dsf dts dtshd dv eac3 epaf f4v flac flv gsm gxf iff ilbc
    ircam loas m4v matroska matroska,webm mlp mmf mov mov,mp4,m4a,3gp,3g2,mj2 mp3 mpc mpc8 mpeg mpegts mxf
    nistsphere nsv nut nuv ogg oma paf qcp qoa rm shn smjpeg sox swf tak tta ty truehd voc vqf w64 wav wsd wtv wv xa
    xwma
"""
# Their header says how long the sound is; that of the others is an estimate from the size and the bit rate.
EXACT = {
    "caf", "aiff", "wav", "w64", "au", "flac", "tta", "wv", "ape", "avi", "flv", "matroska", "mov", "tak"
}  # fmt: skip
# Samples of encoders and decoders that precede the sound; dropped where the container does not record them, in others
# FFmpeg drops what the file says. MP3: 576 of LAME and 529 of any decoder. AAC: a frame, as FFmpeg's encoder prepends.
# AMR: the look-ahead of 5 ms, G.723.1 of 7.5. G.722: its filters. Nellymoser: the overlap of its blocks.
DELAYS = {
    "mp3": 1105, "mp2": 481, "ac3": 256, "eac3": 256, "dts": 512, "amr_nb": 40, "adpcm_g722": 22, "g723_1": 60,
    "nellymoser": 128,
}  # fmt: skip
# MPEG-TS has no header of Opus, which says this in other containers: 6.5 ms of libopus, always at 48 kHz.
DELAY_OF_OPUS_IN_TS = 312
DELAY_OF_A_FRAME = {"aac", "aac_latm"}
# FFmpeg's decoder drops two frames of WMA, which is one more than its encoder prepends.
WMA, WMA_FRAMES, WMA_FRAMES_OF_FFMPEG = {"wmav1", "wmav2"}, 2, 1
SKIP_MANUAL = 1 << 29  # AV_CODEC_FLAG2_SKIP_MANUAL: the decoder drops nothing
# Containers whose packets have times of their own: those of the others are counted or estimated.
TIMED = {"asf", "flv", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "mpeg", "mpegts", "nut"}
CHECKED = {"flac", "tta", "wavpack", "ape", "tak"}  # frames with a checksum, which FFmpeg does not heed by itself
GAP_SECONDS = 0.1  # by which a time stamp may be late; beyond, sound is missing and silence takes its place
MAX_GAP_SECONDS = 3600.0
_SILENCE = 1 << 16  # frames at a time
END_TOLERANCE_SECONDS = 0.1  # by which the sound may end before the header says so: containers round
MAX_DAMAGED = 100  # packets in succession that cannot be read; then the rest is given up
MAX_PLANES = 8  # channels in buffers of their own; of more, PyAV reads beyond the last
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
        notes: what a user should know, such as that another audio stream was left out; reading may add to them.

    Raises:
        FfmpegError: not a file of sound or video, no sound in it, or none that can be decoded.
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path, notes: list[str] | None = None) -> None:
        self.damaged = 0
        self.notes: list[str] = [] if notes is None else notes
        self._frames, self._end_seconds = 0, 0.0
        self._gaps, self._delay = 0, 0  # gaps found; samples still to drop
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
        context, container = self._stream.codec_context, self._container.format.name
        self._is_pcm = context.name.startswith("pcm_")  # its last packet is short where no header says how long it is
        recorded = container == "matroska,webm" or context.name not in WMA
        self._drops_nothing = not recorded or (context.name == "alac" and container == "caf")  # its last packet twice
        if self._drops_nothing:
            context.flags2 |= SKIP_MANUAL
        if context.name in CHECKED:
            context.options = {**context.options, "err_detect": "crccheck+explode"}
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
        length = stream.frames if container.format.name == "avi" and stream.frames else stream.duration
        if length:
            return float(length * stream.time_base)
        if tag := stream.metadata.get("DURATION"):  # of Matroska and WebM: when the stream ends
            with suppress(ValueError):
                hours, minutes, seconds = map(float, tag.split(":"))
                return 3600 * hours + 60 * minutes + seconds - start
        if container.duration and len(container.streams) == 1:  # else that of the longest stream
            return container.duration / 1e6
        return None

    def _decode(self) -> Iterator[np.ndarray]:
        """Yields the sound as `(n, channels)` float32; sets `samplerate` at the first frame."""
        container = self._container.format.name
        start: float | None = None  # the time of the first frame
        due = math.inf  # the time at which the next frame should begin
        for frame in self._decoded_frames():
            samples = _samples(frame)
            self._frames += frame.samples
            self._end_seconds = self._frames / frame.sample_rate
            if frame.pts is not None:
                at = float(frame.pts * frame.time_base)
                start = at if start is None else start
                if container == "flac" and (at - due) * frame.sample_rate > 1:  # it leaves damaged frames out
                    self.damaged += 1
                if container in TIMED and at > due + GAP_SECONDS:
                    yield from self._silence(due - start, at - due, samples.shape[1])
                due = at + frame.samples / frame.sample_rate
                self._end_seconds = max(self._end_seconds, due - start)
            dropped = min(self._delay, len(samples))
            self._delay -= dropped
            if dropped < len(samples):
                yield samples[dropped:]

    def _decoded_frames(self) -> Iterator[Any]:
        """The frames that have samples. Packets that cannot be decoded are counted in `damaged`."""
        av, is_first = _av(), True
        for packet in self._packets():
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError):
                self.damaged += packet.size > 0  # NUT ends FLAC with an empty one
                continue
            if is_first:
                self._delay, is_first = self._unrecorded_delay(packet, frames), False
            for frame in frames:
                if frame.is_corrupt and not self._is_pcm:
                    self.damaged += 1
                if not frame.samples:
                    continue
                if not hasattr(self, "samplerate"):
                    self.samplerate = frame.sample_rate
                if frame.sample_rate != self.samplerate:
                    rates = f"{self.samplerate} to {frame.sample_rate} Hz"
                    raise FfmpegError("decode_error", f"its sample rate changes from {rates}; convert it to WAV")
                yield frame

    def _unrecorded_delay(self, packet: Any, frames: Sequence[Any]) -> int:
        """Samples to drop that the container does not record, by the first packet and what it was decoded to."""
        codec = self._stream.codec_context.codec.canonical_name
        samples = frames[0].samples if frames else 0
        if codec in WMA and self._drops_nothing:
            written = any(str(value).startswith("Lavf") for value in self._container.metadata.values())
            return samples * (WMA_FRAMES_OF_FFMPEG if written else WMA_FRAMES)
        if not samples or (packet.pts is not None and packet.pts < 0):
            return 0
        tick = float(packet.time_base or 0)
        if (packet.duration or 0) * tick > samples / frames[0].sample_rate + tick:  # FFmpeg has dropped some
            return 0
        if codec == "opus" and self._container.format.name == "mpegts":
            return DELAY_OF_OPUS_IN_TS
        if codec == "mp3" and _is_layer_2(bytes(packet)):
            codec = "mp2"
        return samples if codec in DELAY_OF_A_FRAME else DELAYS.get(codec, 0)

    def _silence(self, at: float, seconds: float, channels: int) -> Iterator[np.ndarray]:
        """Zeros for sound that is missing within the file, so that times in seconds stay true; and a note.

        Raises:
            FfmpegError: more than an hour is missing.
        """
        if seconds > MAX_GAP_SECONDS:
            raise FfmpegError("decode_error", f"its time jumps by {seconds / 3600:.1f} h; the file is damaged")
        if self._gaps == 0:
            self.notes.append(
                f"{seconds:.2f} s of its sound are missing from {at:.2f} s on, and silence takes their place; it is "
                "damaged or was recorded with pauses"
            )
        self._gaps += 1
        for first in range(0, frames := round(seconds * self.samplerate), _SILENCE):
            yield np.zeros((min(_SILENCE, frames - first), channels), np.float32)

    def _packets(self) -> Iterator[Any]:
        """The packets of the stream. Those that the container cannot read are counted in `damaged`."""
        av, in_succession = _av(), 0
        while in_succession <= MAX_DAMAGED:
            try:
                for packet in self._container.demux(self._stream):
                    if packet.is_corrupt and not self._is_pcm:
                        self.damaged += 1
                    in_succession = 0
                    yield packet
                break
            except EOFError:
                break
            except IndexError:  # PyAV does not know a stream that begins later; what follows is still to come
                continue
            except av.error.FFmpegError:
                self.damaged += 1
                in_succession += 1
        if self._source.error is not None:
            raise self._source.error


def _is_layer_2(frame: bytes) -> bool:
    """Whether a frame of MPEG audio is MP2. MPEG-TS gives both one number, and the decoder of MP3 reads both."""
    return len(frame) > 1 and frame[0] == 0xFF and frame[1] & 0xE6 == 0xE4


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
    """`(n, channels)` float32 with full scale 1, scaled as libsndfile does; without a channel of low effects."""
    count = frame.layout.nb_channels
    if frame.format.is_planar and count > MAX_PLANES:
        raise FfmpegError("too_many_channels", f"{count}, at most {MAX_PLANES} in this format; convert it to WAV")
    names = [channel.name for channel in frame.layout.channels]
    samples = _all_samples(frame)
    if "LFE" in names and len(names) > 1:  # as in 5.1: rumble, which downmixes leave out
        return np.delete(samples, names.index("LFE"), axis=1)
    return samples


def _all_samples(frame: Any) -> np.ndarray:
    try:
        array = frame.to_ndarray()
    except ValueError:  # of 64-bit integers
        frame = _av().AudioResampler(format="dbl").resample(frame)[0]
        array = frame.to_ndarray()
    array = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # `data.audio` raises on infinity
            return array.astype(np.float32)
    zero = 128 if array.dtype.kind == "u" else 0
    scale = math.ldexp(1, 1 - 8 * array.dtype.itemsize)
    return (array.astype(np.float32 if array.dtype.itemsize < 4 else np.float64) - zero).astype(
        np.float32
    ) * np.float32(scale)
