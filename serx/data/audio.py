"""Decode audio files to mono float32 waveforms; a file that cannot be used raises an error with a one-word reason.

The only module that imports soundfile and soxr. What libsndfile does not read, FFmpeg does (`data/ffmpeg.py`). Channels
are averaged, a constant offset is subtracted, the sample rate is converted by soxr (quality HQ: aliases at -132 dB),
and silence at both ends may be trimmed. Training and prediction decode through `decode`, so both get the same samples.
"""

import io
import math
import os
import stat
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
import soxr
from pydantic import Field

from serx.base_config import BaseConfig
from serx.data.damage import CUT, HEAD_BYTES, damaged_packets, damaged_pages, has_samples_behind, is_cut
from serx.data.ffmpeg import FfmpegError, FfmpegFile
from serx.data.trimming import FRAME_SECONDS, trim_silence
from serx.data.utterance import Segment
from serx.errors import DataError
from serx.system import WINDOWS, without_messages

StrPath = str | os.PathLike[str]

Channel = Literal["mix", "left", "right"]

# File endings of audio, for the whole package: a folder's other files are passed over. A file that is named is read
# whatever its ending. The first line is what libsndfile names its formats; header-less samples (raw, pcm, g722) are
# missing, since their sample rate is unknown, and so is ts, which is also program text.
_LOSSLESS = """aif aifc aiff au avr caf flac htk iff ircam mat mat4 mat5 mpc2k nist paf pvf rf64 sd2 sds sf snd sph
    svx voc w64 wav wave wavex wve xi
    ape bwf dsf tak tta wv"""
_LOSSY = """mp1 mp2 mp3 mpc oga ogg opus
    3g2 3ga 3gp aa aac aax ac3 adts amr asf avi awb dts eac3 f4a f4v flv gsm gxf loas m2ts m4a m4b m4p m4r m4v mka mkv
    mov mp4 mpeg mpg mts mxf nut oma ogv qcp qt ra rm spx vob weba webm wma wmv wtv"""
LOSSLESS, LOSSY = (frozenset(map(".{}".format, s.split())) for s in (_LOSSLESS, _LOSSY))

MAX_RATE, MIN_RATE = 384_000, 4_000
MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000)  # of those that MP3 has, enough for speech
MAX_CHANNELS = 32
MAX_LEVEL = 1e4  # a float file may exceed full scale (1); beyond this level it is not audio
MAX_RECORDING_SECONDS = 3600.0  # of a recording that is decoded whole, such as a background noise
# dB re full scale. A clip whose loudest 25 ms stay below is `silent`: the last two or three of 16 bits, not speech. The
# quietest clip of RAVDESS, TESS, EMOVO, nEMO and ASED has -54.7.
SILENT_DB = -80.0
# A mean below this part of the standard deviation (-26 dB) is left alone: the largest of the 10,142 clips of RAVDESS,
# TESS, EMOVO, nEMO and ASED is 0.036, so those are unchanged bit for bit.
MAX_OFFSET = 0.05
# Channels cancel each other where their mean has less than this part of the power that it would have if they were
# unrelated: a correlation of two equally loud channels below -0.75.
CANCELING = 0.25
MIN_SECONDS_TO_JUDGE = 0.1  # of a block behind the first, for its channels to be compared
DAMAGED = "; the file is damaged, copy it again"
_MPEG_ENDINGS = {".mp1", ".mp2", ".mp3"}  # which libsndfile takes for MPEG audio whatever is in the file
_NO_HEADER = "Format not recognised: no header says its sample rate"
_UNKNOWN_FRAMES = (1 << 63) - 1
_PCM_HEADS = {b"RIFF", b"RIFX", b"RF64", b"FORM", b".snd", b"riff", b"caff"}  # of WAV, AIFF, AU, Wave64 and CAF
_AS_IT_IS = nullcontext()
_BLOCK, _MONO_BLOCK = 1 << 16, 1 << 20  # frames read at a time: a file's channels are mixed block by block
_ONES = np.ones(_BLOCK, np.float32)
ROUNDED_SECONDS = 0.01  # a segment may end so far behind its file: tables round


class AudioConfig(BaseConfig):
    """How a file becomes a waveform; part of the `data` section and of every checkpoint.

    >>> AudioConfig(sample_rate=8000).trim_db is None
    True
    """

    sample_rate: int = Field(16_000, ge=4_000, le=192_000, description="of the decoded audio; files are resampled")
    channel: Channel = Field(
        "mix", description="mix: the mean of all channels; left or right: one speaker of a call that is in stereo"
    )
    trim_db: float | None = Field(
        None, ge=1, le=200, description="trim the ends that stay this far below the loudest frame; null: no trimming"
    )
    trim_keep_seconds: float = Field(0.05, ge=0, le=60, description="of the trimmed ends, keep this much")
    trim_spread_db: float = Field(
        0.0,
        ge=0,
        le=60,
        description="trim at the mean of the cuts at thresholds up to this much above and below, so that a lossy copy "
        "is cut like its original; 0: one threshold",
    )
    offset_seconds: float = Field(0.0, ge=0, le=86_400, description="skip this much of the beginning")
    duration_seconds: float | None = Field(
        None, ge=0.001, le=86_400, description="then keep this much; shorter clips are kept whole; null: everything"
    )
    min_seconds: float = Field(0.1, ge=0, le=3600, description="shorter clips are skipped")
    max_seconds: float = Field(60.0, ge=0.001, le=86_400, description="longer clips are skipped")


class AudioError(DataError):
    """A file that cannot be used.

    Attributes:
        reason: empty, not_audio, truncated, too_short, too_long, silent, no_speech, nonfinite, absurd_level, bad_rate,
            too_many_channels, decode_error, unreadable or out_of_range.
        detail: what exactly, and how to fix it where that is known.

    >>> print(AudioError("a.wav", "empty", "0 bytes"))
    a.wav: empty: 0 bytes
    """

    def __init__(self, path: StrPath, reason: str, detail: str) -> None:
        super().__init__(f"{path}: {reason}: {detail}")
        self.reason, self.detail = reason, detail


def read_audio(path: StrPath, sample_rate: int = 16_000, **settings: Any) -> np.ndarray:
    """Decodes `path` to `(T,)` float32 at `sample_rate`, as training and prediction do.

    Args:
        path: a file of sound or video that libsndfile or FFmpeg reads (WAV, FLAC, OGG, MP3, M4A, WEBM, MP4, ...).
        sample_rate: in Hz.
        settings: other fields of `AudioConfig`, such as `trim_db=35.0`.

    Raises:
        AudioError: the file cannot be used; `reason` is one of the words listed there.

    >>> import tempfile, soundfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     soundfile.write(f"{folder}/a.wav", np.random.default_rng(0).normal(0, 0.1, (8000, 2)), 8000)
    ...     waveform = read_audio(f"{folder}/a.wav", sample_rate=16_000)
    >>> waveform.shape, waveform.dtype
    ((16000,), dtype('float32'))
    """
    return decode(path, AudioConfig(sample_rate=sample_rate, **settings))


def decode(path: StrPath, config: AudioConfig, as_recorded: bool = False, notes: list[str] | None = None) -> np.ndarray:
    """Decodes `path` to `(T,)` float32 at `config.sample_rate`.

    Args:
        path: of the file.
        config: how it becomes a waveform.
        as_recorded: for noises and impulse responses: any level above zero will do, and a constant offset stays.
        notes: gets what a user should know about the file, such as that its channels cancel each other.

    Raises:
        AudioError: the file cannot be used; what is returned is finite, not silent and not too short.
    """
    mono, rate = _decode_mono(path, config, [] if notes is None else notes)
    return clip_from_mono(mono, rate, config, path, as_recorded)


def decode_segments(
    path: StrPath, spans: Sequence[tuple[float, float | None]], config: AudioConfig
) -> Iterator[tuple[int, np.ndarray | AudioError, list[str]]]:
    """Decodes parts of a recording of any length in one pass; only parts that are being read are in memory.

    Each part becomes the clip that `decode` makes of it if it is cut into a file of its own: the same samples bit for
    bit. Gaps are skipped where the format allows it exactly.

    Args:
        path: of the file.
        spans: `(start, end)` of each part in seconds; an end of None is that of the file. The first sample is
            `round(start * rate)` and the last one is before `round(end * rate)`.
        config: how a part becomes a waveform.

    Yields:
        The index of a span; its `(T,)` float32, or why it cannot be used; and what a user should know about it. In the
        order of the ends. The reason of a span that is not within the file is `out_of_range`; an end up to 10 ms behind
        the file's own is taken for that one, since tables round.
    """
    path = Path(path)
    parts = [_Part(number, Segment(path, *span)) for number, span in enumerate(spans)]
    missing = dict.fromkeys(parts)
    try:
        notes: list[str] = []
        with _opened(path, math.inf, notes) as file:
            file.check_container()
            for part in parts:
                part.begin(file.rate, config, notes)
            for part, result in _read_parts(file, parts):
                del missing[part]
                yield part.number, *result
    except AudioError as error:
        for part in missing:
            yield part.number, error, []


_Result = tuple[np.ndarray | AudioError, list[str]]


def _read_parts(file: "_Opened", parts: Sequence["_Part"]) -> Iterator[tuple["_Part", _Result]]:
    waiting = deque(sorted(parts, key=lambda part: part.first))
    reading: list[_Part] = []
    if file.frames is not None:
        for part in [part for part in waiting if not part.is_within(file.frames)]:
            waiting.remove(part)
            yield part, part.refused(file.frames)
    position, blocks = 0, file.blocks()
    while waiting or reading:
        if not reading and waiting[0].first - position > _BLOCK and file.seek(waiting[0].first):
            position = waiting[0].first
        block = next(blocks, None)
        if block is None:
            break
        while waiting and waiting[0].first < position + len(block):
            reading.append(waiting.popleft())
        for part in list(reading):
            if part.add(block, position):
                reading.remove(part)
                yield part, part.finished(file.damage())
        position += len(block)
    if waiting or reading:
        file.check_end(position)
    for part in [*reading, *waiting]:
        yield part, part.finished() if part.is_within(position) else part.refused(position)


class _Part:
    """A part of a file that is being read: its samples are mixed in the blocks of a file of its own."""

    def __init__(self, number: int, segment: Segment) -> None:
        self.number, self.segment = number, segment
        self._blocks: list[np.ndarray] = []
        self._pending: list[np.ndarray] = []
        self._frames = 0

    def begin(self, rate: int, config: AudioConfig, notes: list[str]) -> None:
        """Sets the frames to read; `notes` are those on the file, which reading it may add to."""
        self.first = round(self.segment.start * rate)
        self.last = None if self.segment.end is None else round(self.segment.end * rate)
        self._rate, self._config = rate, config
        self._limit = int(config.max_seconds * rate) + 1
        self._notes, self._mix = notes, ChannelMixer(config.channel, rate)

    def is_within(self, frames: int) -> bool:
        """Whether it lies in a file of so many frames."""
        return self.first < frames and (self.last is None or self.last - frames <= ROUNDED_SECONDS * self._rate)

    def add(self, block: np.ndarray, position: int) -> bool:
        """Takes its share of `block (n, channels)`, which begins at frame `position`; True if nothing is missing."""
        stop = len(block) if self.last is None else self.last - position
        self._pending.append(block[max(0, self.first - position) : max(0, stop)])
        self._frames += len(self._pending[-1])
        if sum(map(len, self._pending)) >= _BLOCK:
            self._mix_pending(_BLOCK)
        return (stop <= len(block) and self.last is not None) or self._frames > self._limit

    def _mix_pending(self, at_least: int) -> None:
        frames = np.concatenate(self._pending) if self._pending else np.zeros((0, 1), np.float32)
        while len(frames) >= at_least and len(frames):
            self._blocks.append(np.array(self._mix(frames[:_BLOCK])))
            frames = frames[_BLOCK:]
        self._pending = [frames]

    def finished(self, damage: str = "") -> _Result:
        """The clip, or why it cannot be used, such as `damage` in or before it; and notes."""
        self._mix_pending(0)
        mono = np.concatenate([np.zeros(0, np.float32), *self._blocks])
        self._blocks, self._pending = [], []
        name, longest = str(self.segment), self._config.max_seconds
        try:
            if self._frames > longest * self._rate:
                seconds = "" if self.last is None else f"{self._seconds(self.last - self.first)}, "
                raise AudioError(name, "too_long", f"{seconds}data.max_seconds is {longest:g}")
            if damage:
                raise AudioError(name, "decode_error", f"{damage} up to here{DAMAGED}")
            clip = clip_from_mono(mono, self._rate, self._config, name)
            return clip, list(dict.fromkeys([*self._notes, *self._mix.notes]))
        except AudioError as error:
            return error, []

    def refused(self, frames: int) -> _Result:
        """The error of a part that is not within the `frames` of the file."""
        detail = f"the file has {frames / self._rate:.3f} s"
        return AudioError(str(self.segment), "out_of_range", detail), []

    def _seconds(self, frames: int) -> str:
        return f"{frames / self._rate:.1f} s"


def clip_from_mono(
    mono: np.ndarray, rate: int, config: AudioConfig, source: StrPath, as_recorded: bool = False
) -> np.ndarray:
    """What `decode` does after decoding: checks `mono (T,)` float32 and returns its clip at `config.sample_rate`.

    Raises:
        AudioError: the samples cannot be used; names `source`.
    """
    frames = len(mono)
    mono = cut_window(mono, rate, config.offset_seconds, config.duration_seconds)
    if len(mono) == 0:
        what = f"{frames / rate:.3f} s, data.offset_seconds is {config.offset_seconds}"
        raise AudioError(source, "too_short", what)
    moments = _quick_moments(mono)
    _check_samples(mono, moments[1] * len(mono), source)
    if not as_recorded:
        mono = remove_offset(mono, moments)
    mono = _resample_and_trim(mono, rate, config)
    if len(mono) < max(1, config.min_seconds * config.sample_rate):
        seconds = len(mono) / config.sample_rate
        raise AudioError(source, "too_short", f"{seconds:.3f} s, data.min_seconds is {config.min_seconds}")
    if not as_recorded:
        _check_not_silent(mono, config.sample_rate, source)  # what the model gets: after resampling
    return mono


def _check_samples(mono: np.ndarray, sum_of_squares: float, source: StrPath) -> None:
    """Raises if a sample of `mono (T,)` is not finite, if one is beyond `MAX_LEVEL`, or if all are zero."""
    # None of these is so if the sum of the squares, which is at least the largest one, is in this range.
    if 1e-30 < sum_of_squares < MAX_LEVEL**2 / 2:
        return
    highest, lowest = float(mono.max()), float(mono.min())
    if not (math.isfinite(highest) and math.isfinite(lowest)):  # both are NaN if a sample is
        raise AudioError(source, "nonfinite", "NaN or infinite samples; export it again")
    peak = max(highest, -lowest)
    if peak == 0.0:
        raise AudioError(source, "silent", "every sample is zero")
    if peak > MAX_LEVEL:
        raise AudioError(source, "absurd_level", f"peak {peak:.3g}, full scale is 1")


class ChannelMixer:
    """Mixes the blocks of one recording to mono, in their order.

    Where the channels cancel each other (a microphone with swapped wires), the loudest of that block is used from there
    on.

    Attributes:
        notes: what a user should know: that channels cancel each other, or that there is no right one.

    >>> mixer = ChannelMixer("mix", 16_000)
    >>> tone = np.sin(np.arange(8000, dtype=np.float32))
    >>> bool(np.array_equal(mixer(np.stack([tone, -tone], axis=1)), tone)), len(mixer.notes)
    (True, 1)
    """

    def __init__(self, channel: Channel, rate: int, notes: list[str] | None = None) -> None:
        self.notes: list[str] = [] if notes is None else notes
        self._channel, self._min_frames = channel, 0
        self._min_frames_later = round(MIN_SECONDS_TO_JUDGE * rate)
        self._instead: int | None = None  # the channel that is used because all of them cancel

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """`(n,)` float32 of a block `(n, channels)` float32."""
        count = block.shape[1]
        if self._channel == "right" and count == 1:
            self._note("it has one channel, which is used as the right one")
        if count == 1 or self._channel == "left":
            return block[:, 0]
        if self._channel == "right":
            return block[:, 1]
        with np.errstate(invalid="ignore", over="ignore"):  # the caller raises on NaN and infinity
            # The same numbers as the mean's, in a tenth of the time.
            mixed = (block[:, 0] + block[:, 1]) / 2 if count == 2 else block.mean(axis=1)
            if self._instead is None and len(block) >= self._min_frames:
                self._instead = _instead_of_mix(block, mixed)
                if self._instead is not None:
                    name = ("left", "right")[self._instead] if count == 2 else f"number {self._instead + 1}"
                    self._note(
                        f"its {count} channels cancel each other in the mix (is one inverted?), so only the {name} one "
                        "is used; choose with --channel or data.channel"
                    )
        self._min_frames = self._min_frames_later
        return mixed if self._instead is None else block[:, min(self._instead, count - 1)]

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def _instead_of_mix(block: np.ndarray, mixed: np.ndarray) -> int | None:
    """The loudest channel of `block (n, channels)` if `mixed (n,)` shows that they cancel each other, else None."""
    if len(block) == 0:
        return None
    # In a fraction of the time, most mixes prove to be louder than those of channels that cancel.
    frames, channels = block.shape
    most = np.vdot(block, block) / (frames * channels)  # at least the channels' mean power around their means
    mean, power_of_mix = _quick_moments(mixed)
    if (power_of_mix - mean**2) * channels > 1.01 * CANCELING * most:
        return None
    power = block.var(axis=0)  # around the mean: a constant offset is not sound
    if not power.mean() > 10 ** (SILENT_DB / 10):
        return None
    cancel = mixed.var() * block.shape[1] < CANCELING * power.mean()
    return int(power.argmax()) if cancel else None


def loudest_level_db(waveform: np.ndarray, sample_rate: int) -> float:
    """The level of the loudest 25 ms of `waveform (T,)`: the root mean square around their mean, in dB re full scale.

    A constant offset has no level. Where all samples are equal, or there are none, it is minus infinity.

    >>> loudest_level_db(np.array([0.1, -0.1] * 8000), 16_000)
    -20.0
    """
    size = min(len(waveform), _level_size(sample_rate))
    if size == 0:
        return -math.inf
    frames = waveform[: len(waveform) // size * size].reshape(-1, size)
    power = max(float(part.var(axis=1, dtype=np.float64).max()) for part in (frames, waveform[None, -size:]))
    return round(10 * math.log10(power), 6) if power > 0 else -math.inf


def check_level(level_db: float, source: StrPath) -> None:
    """Raises the `AudioError` of a silent clip if `level_db`, of `loudest_level_db`, is below `SILENT_DB`."""
    if level_db >= SILENT_DB:
        return
    level = "all samples are equal"
    if level_db > -math.inf:
        level = (
            f"its loudest 25 ms have a level of {level_db:.0f} dB re full scale, speech has more than {SILENT_DB:.0f}"
        )
    raise AudioError(source, "silent", f"{level}; was the microphone muted?")


def _check_not_silent(waveform: np.ndarray, sample_rate: int, source: StrPath) -> None:
    """`check_level` of `loudest_level_db`, unless 25 ms in the middle are certainly loud enough, as they mostly are."""
    size = min(len(waveform), _level_size(sample_rate))
    start = len(waveform) // 2 // size * size  # one of the frames of `loudest_level_db`, and whole
    mean, power = _quick_moments(waveform[start : start + size])
    if not power - mean**2 > max(2 * 10 ** (SILENT_DB / 10), 1e-3 * power):
        check_level(loudest_level_db(waveform, sample_rate), source)


def _level_size(sample_rate: int) -> int:
    return max(2, round(FRAME_SECONDS * sample_rate))


def prepare_clip(waveform: np.ndarray, rate: int, config: AudioConfig, as_recorded: bool = False) -> np.ndarray:
    """Makes a clip of a decoded `waveform (T,)`: `(U,)` float32.

    Subtracts a constant offset (unless `as_recorded`), resamples from `rate` to `config.sample_rate`, trims the ends.
    """
    if not as_recorded:
        waveform = remove_offset(waveform)
    return _resample_and_trim(waveform, rate, config)


def _resample_and_trim(waveform: np.ndarray, rate: int, config: AudioConfig) -> np.ndarray:
    if rate != config.sample_rate:
        waveform = soxr.resample(waveform, rate, config.sample_rate, quality="HQ")
    if config.trim_db is not None:
        waveform = trim_silence(
            waveform, config.sample_rate, config.trim_db, config.trim_keep_seconds, config.trim_spread_db
        )
    return np.ascontiguousarray(waveform, dtype=np.float32)


def encode_mp3(waveform: np.ndarray, rate: int) -> bytes:
    """An MP3 file of `waveform (T,)`, about 30 kbit/s for speech at 16 kHz: every browser plays it.

    Other sampling rates are converted to the next higher one of `MP3_RATES`, or to 24 kHz.

    >>> encode_mp3(np.zeros(16_000, np.float32), 16_000)[0] == 255  # the beginning of a frame
    True
    """
    target = next((known for known in MP3_RATES if known >= rate), MP3_RATES[-1])
    if target != rate:
        waveform = soxr.resample(waveform, rate, target, quality="HQ")
    file = io.BytesIO()
    soundfile.write(
        file, waveform, target, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.5, bitrate_mode="VARIABLE"
    )
    return file.getvalue()


def remove_offset(waveform: np.ndarray, moments: tuple[float, float] | None = None) -> np.ndarray:
    """`waveform (T,)` minus its mean; unchanged if the mean is small (`MAX_OFFSET`), as in any sound recording.

    `moments` are its mean and its mean square, to some 1e-5, where they are known.

    >>> remove_offset(np.array([0.75, 0.25], np.float32)), remove_offset(np.array([0.5, -0.49], np.float32))
    (array([ 0.25, -0.25], dtype=float32), array([ 0.5 , -0.49], dtype=float32))
    """
    mean, power = _quick_moments(waveform) if moments is None else moments
    if abs(mean) < MAX_OFFSET / 2 * math.sqrt(max(0.0, power - mean**2)):
        return waveform
    mean = waveform.mean(dtype=np.float64)
    if abs(mean) <= MAX_OFFSET * waveform.std(dtype=np.float64):
        return waveform
    return waveform - np.float32(mean)


def _quick_moments(waveform: np.ndarray) -> tuple[float, float]:
    """The mean and the mean square of `waveform (T,)` by BLAS in float32: the quickest way, right to some 1e-5."""
    size = max(1, len(waveform))
    with np.errstate(over="ignore", invalid="ignore"):
        sums = (np.dot(waveform[i : i + _BLOCK], _ONES[: size - i]) for i in range(0, len(waveform), _BLOCK))
        return float(sum(sums)) / size, float(np.dot(waveform, waveform)) / size


def cut_window(waveform: np.ndarray, rate: int, offset_seconds: float, duration_seconds: float | None) -> np.ndarray:
    """At most `duration_seconds` of `waveform (T,)`, starting at `offset_seconds`."""
    if offset_seconds == 0 and duration_seconds is None:
        return waveform
    start = round(offset_seconds * rate)
    return waveform[start : None if duration_seconds is None else start + round(duration_seconds * rate)]


def read_blocks(
    path: StrPath, sample_rate: int, channel: Channel = "mix", notes: list[str] | None = None
) -> Iterator[np.ndarray]:
    """Yields a recording of any length as blocks `(t,)` float32 at `sample_rate`; it is never whole in memory.

    Args:
        path: of the file.
        sample_rate: of the blocks, in Hz.
        channel: which channel of the file.
        notes: gets what a user should know about the file, before the first block that it concerns.

    Raises:
        AudioError: as `decode` does. A fault in the middle is raised after the good blocks before it.
    """
    notes = [] if notes is None else notes
    with _opened(path, math.inf, notes) as file:
        frames, resampler = 0, make_resampler(file.rate, sample_rate)
        mix = ChannelMixer(channel, file.rate, notes)
        for block in file.blocks():
            frames += len(block)
            mono = mix(block)
            where = f"before {frames / file.rate:.1f} s"
            if not np.isfinite(mono).all():
                raise AudioError(path, "nonfinite", f"NaN or infinite samples {where}; export it again")
            if np.abs(mono).max() > MAX_LEVEL:
                raise AudioError(path, "absurd_level", f"peak {np.abs(mono).max():.3g} {where}; full scale is 1")
            yield resampler.resample_chunk(np.ascontiguousarray(mono))
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        file.check_end(frames)


def audio_duration(path: StrPath) -> float:
    """The seconds of a recording according to its header; where that does not say, the recording is decoded.

    Raises:
        AudioError: the file is not audio, or its header is out of range.
    """
    with _opened(path, math.inf, []) as file:
        seconds = file.seconds
        return sum(map(len, file.blocks())) / file.rate if seconds is None else seconds


def make_resampler(from_rate: int, to_rate: int) -> soxr.ResampleStream:
    """A stream that resamples blocks of mono float32, of any sizes, from `from_rate` to `to_rate`."""
    return soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")


def is_audio(path: StrPath) -> bool:
    """Whether the file's ending is one of audio or video.

    >>> is_audio("a.WAV"), is_audio("a.m4a"), is_audio("notes.txt")
    (True, True, False)
    """
    return os.path.splitext(path)[1].lower() in LOSSLESS | LOSSY


def files_in(root: Path) -> Iterator[Path]:
    """The files in and below `root`, sorted per folder. Links are followed; each folder is entered once.

    Hidden folders and those of macOS archives are left out.

    Raises:
        DataError: a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot list this folder: {error.strerror}; fix its permissions") from None

    entered = set()
    for folder, subfolders, names in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered:
            subfolders.clear()
            continue
        entered.add(real)
        subfolders[:] = sorted(name for name in subfolders if name != "__MACOSX" and not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names))


def audio_files(paths: Sequence[StrPath], passed_over: dict[Path, str] | None = None) -> list[Path]:
    """The files among `paths`, and all audio files in and below the folders among them, in sorted order per folder.

    Args:
        paths: files and folders.
        passed_over: gets the other files of the folders, with the reasons: hidden, or not an ending of audio or video.

    Raises:
        DataError: a folder holds no audio file, or cannot be read.
    """
    files: list[Path] = []
    others: dict[Path, str] = {} if passed_over is None else passed_over
    for path in map(Path, paths):
        if not path.is_dir():
            files.append(path)
            continue
        in_folder, others_here = [], {}
        for found in sorted(_files_below(path)):
            if found.name.startswith("."):
                others_here[found] = "hidden"
            elif is_audio(found):
                in_folder.append(found)
            else:
                others_here[found] = f"{found.suffix or 'no ending'} is not audio or video"
        if not in_folder:
            raise DataError(f"{path}: no audio files in this folder{_counted(others_here)}; name another one")
        files += in_folder
        others.update(others_here)
    return files


def _counted(others: dict[Path, str]) -> str:
    reasons = Counter(others.values()).most_common()
    return f" among {len(others)} files ({', '.join(f'{n} x {reason}' for reason, n in reasons)})" if others else ""


def _files_below(folder: Path) -> Iterator[Path]:
    """All files in and below a folder. Raises `DataError` where a folder cannot be read, which `rglob` would skip."""

    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename}: this folder cannot be read: {error.strerror}") from error

    for parent, _, names in os.walk(folder, onerror=fail):
        yield from (Path(parent, name) for name in names)


def read_folder(folder: StrPath, sample_rate: int) -> list[np.ndarray]:
    """Every recording in and below `folder`, sorted by path, each `(T,)` float32 at `sample_rate`.

    Raises:
        DataError: the folder does not exist or holds no audio file.
        AudioError: a file cannot be used.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DataError(f"{folder}: no such folder; set the transform's folder to one with audio files")
    config = AudioConfig(sample_rate=sample_rate, min_seconds=0.0, max_seconds=MAX_RECORDING_SECONDS)
    return [decode(path, config, as_recorded=True) for path in audio_files([root])]  # quiet rooms are recorded too


def _decode_mono(path: StrPath, config: AudioConfig, notes: list[str]) -> tuple[np.ndarray, int]:
    """One channel of a file or the mean of all, `(T,)` float32, and its sample rate."""
    with _opened(path, config.max_seconds, notes, at_once=True) as file:
        mix = ChannelMixer(config.channel, file.rate, notes)
        parts, frames = list[np.ndarray](), 0
        # Many channels of a long file are never in memory at once. One channel is read at once, which spares a copy.
        for block in file.blocks(_BLOCK if file.channels > 1 else _MONO_BLOCK):
            frames += len(block)
            if frames > config.max_seconds * file.rate + _BLOCK:  # longer than its header says
                raise AudioError(path, "too_long", f"data.max_seconds is {config.max_seconds:g}")
            parts.append(mix(block))
        file.check_end(frames)
        if file.seconds is None and frames > config.max_seconds * file.rate:
            raise AudioError(
                path, "too_long", f"{frames / file.rate:.1f} s, data.max_seconds is {config.max_seconds:g}"
            )
        return parts[0] if len(parts) == 1 else np.concatenate(parts), file.rate


class _SoundFile(soundfile.SoundFile):
    """soundfile's, without what takes time and is not needed to read on from where it is."""

    __setattr__ = object.__setattr__  # soundfile's looks for the names of tags, which are written as attributes

    def seekable(self) -> bool:
        """Whether soundfile asks libsndfile for the place before each read, and sets it afterwards."""
        return False


class _Opened:
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

    def blocks(self, size: int = _BLOCK) -> Iterator[np.ndarray]:
        """Yields the samples as `(n, channels)` float32, at most about `size` frames at a time."""
        if isinstance(self._file, FfmpegFile):
            yield from self._file.blocks(_BLOCK)  # the number of channels may change
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
def _opened(path: StrPath, max_seconds: float, notes: list[str], at_once: bool = False) -> Iterator[_Opened]:
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
                    file = _Opened(path, content, head, status.st_size, sound)
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


def _check_header(path: StrPath, file: _Opened, max_seconds: float) -> None:
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
