"""Decode audio files to mono float32 waveforms; a file that cannot be used raises an error with a one-word reason.

The only module that imports soundfile and soxr. Channels are averaged, the sample rate is converted by soxr (quality
HQ: aliases at -132 dB), and silence at both ends may be trimmed. Training and prediction decode through `decode`, so
both get the same samples.
"""

import math
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from pydantic import Field

from serx.base_config import BaseConfig
from serx.errors import DataError

StrPath = str | os.PathLike[str]

# File endings of audio, for the whole package. libsndfile reads the first two groups; header-less RAW is missing, since
# its sample rate is unknown. libsndfile cannot read the third group: such files are reported, not ignored.
_LOSSLESS = """aif aifc aiff au avr caf flac htk iff ircam mat mat4 mat5 mpc mpc2k nist paf pvf rf64 sd2 sds sf snd sph
    svx voc w64 wav wave wavex wve xi"""
_LOSSY, _UNREADABLE = "mp1 mp2 mp3 oga ogg opus", "aac amr m4a wma"
LOSSLESS, LOSSY, UNREADABLE = (frozenset(map(".{}".format, s.split())) for s in (_LOSSLESS, _LOSSY, _UNREADABLE))

MAX_RATE, MIN_RATE = 384_000, 4_000
MAX_CHANNELS = 32
MAX_LEVEL = 1e4  # a float file may exceed full scale (1); beyond this level it is not audio
MAX_RECORDING_SECONDS = 3600.0  # of one background noise or impulse response
FRAME_SECONDS, STEP_SECONDS = 0.025, 0.010  # of the silence trimmer; the first also of `loudest_level_db`
# dB re full scale. A clip whose loudest 25 ms stay below is `silent`: the last two or three of 16 bits, not speech. The
# quietest clip of RAVDESS, TESS, EMOVO, nEMO and ASED has -54.7.
SILENT_DB = -80.0
_BLOCK = 1 << 16  # frames read at a time


class AudioConfig(BaseConfig):
    """How a file becomes a waveform; part of the `data` section and of every checkpoint.

    >>> AudioConfig(sample_rate=8000).trim_db is None
    True
    """

    sample_rate: int = Field(16_000, ge=4_000, le=192_000, description="of the decoded audio; files are resampled")
    trim_db: float | None = Field(
        None, ge=1, le=200, description="trim the ends that stay this far below the loudest frame; null: no trimming"
    )
    trim_keep_seconds: float = Field(0.05, ge=0, le=60, description="of the trimmed ends, keep this much")
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
            too_many_channels, decode_error or unreadable.
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
        path: a file that libsndfile reads (WAV, FLAC, OGG, MP3, AIFF, ...).
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


def decode(path: StrPath, config: AudioConfig, silent_db: float = SILENT_DB) -> np.ndarray:
    """Decodes `path` to `(T,)` float32 at `config.sample_rate`.

    Args:
        path: of the file.
        config: how it becomes a waveform.
        silent_db: a clip whose loudest 25 ms have a lower level is silent, in dB re full scale.

    Raises:
        AudioError: the file cannot be used; what is returned is finite, not silent and not too short.
    """
    path = Path(path)
    mono, rate = _decode_mono(path, config.max_seconds)
    return clip_from_mono(mono, rate, config, path, silent_db)


def clip_from_mono(
    mono: np.ndarray, rate: int, config: AudioConfig, source: StrPath, silent_db: float = SILENT_DB
) -> np.ndarray:
    """What `decode` does after decoding: checks `mono (T,)` float32 and returns its clip at `config.sample_rate`.

    Raises:
        AudioError: the samples cannot be used; names `source`.
    """
    file_seconds = len(mono) / rate
    mono = cut_window(mono, rate, config.offset_seconds, config.duration_seconds)
    if len(mono) == 0:
        raise AudioError(source, "too_short", f"{file_seconds:.3f} s, data.offset_seconds is {config.offset_seconds}")
    if not np.isfinite(mono).all():
        raise AudioError(source, "nonfinite", "NaN or infinite samples; export it again")
    peak = float(np.abs(mono).max(initial=0.0))
    if peak == 0.0:
        raise AudioError(source, "silent", "every sample is zero")
    if peak > MAX_LEVEL:
        raise AudioError(source, "absurd_level", f"peak {peak:.3g}, full scale is 1")
    mono = prepare_clip(mono, rate, config)
    if len(mono) < max(1, config.min_seconds * config.sample_rate):
        seconds = len(mono) / config.sample_rate
        raise AudioError(source, "too_short", f"{seconds:.3f} s, data.min_seconds is {config.min_seconds}")
    check_level(loudest_level_db(mono, config.sample_rate), source, silent_db)  # what the model gets: after resampling
    return mono


def loudest_level_db(waveform: np.ndarray, sample_rate: int) -> float:
    """The level of the loudest 25 ms of `waveform (T,)`: the root mean square around their mean, in dB re full scale.

    A constant offset has no level. Where all samples are equal, or there are none, it is minus infinity.

    >>> loudest_level_db(np.array([0.1, -0.1] * 8000), 16_000)
    -20.0
    """
    size = min(len(waveform), max(2, round(FRAME_SECONDS * sample_rate)))
    if size == 0:
        return -math.inf
    frames = waveform[: len(waveform) // size * size].reshape(-1, size)
    power = max(float(part.var(axis=1, dtype=np.float64).max()) for part in (frames, waveform[None, -size:]))
    return round(10 * math.log10(power), 6) if power > 0 else -math.inf


def check_level(level_db: float, source: StrPath, silent_db: float = SILENT_DB) -> None:
    """Raises the `AudioError` of a silent clip if `level_db`, of `loudest_level_db`, is below `silent_db`."""
    if level_db >= silent_db:
        return
    level = "all samples are equal"
    if level_db > -math.inf:
        level = (
            f"its loudest 25 ms have a level of {level_db:.0f} dB re full scale, speech has more than {silent_db:.0f}"
        )
    raise AudioError(source, "silent", f"{level}; was the microphone muted, or do two channels cancel out?")


def prepare_clip(waveform: np.ndarray, rate: int, config: AudioConfig) -> np.ndarray:
    """Resamples a decoded `waveform (T,)` from `rate` to `config.sample_rate` and trims its ends: `(U,)` float32."""
    if rate != config.sample_rate:
        waveform = soxr.resample(waveform, rate, config.sample_rate, quality="HQ")
    if config.trim_db is not None:
        waveform = trim_silence(waveform, config.sample_rate, config.trim_db, config.trim_keep_seconds)
    return np.ascontiguousarray(waveform, dtype=np.float32)


def cut_window(waveform: np.ndarray, rate: int, offset_seconds: float, duration_seconds: float | None) -> np.ndarray:
    """At most `duration_seconds` of `waveform (T,)`, starting at `offset_seconds`."""
    start = round(offset_seconds * rate)
    return waveform[start : None if duration_seconds is None else start + round(duration_seconds * rate)]


def trim_silence(waveform: np.ndarray, sample_rate: int, trim_db: float, keep_seconds: float) -> np.ndarray:
    """Trims both ends of `waveform (T,)` where 25 ms frames stay `trim_db` below the loudest; keeps `keep_seconds`."""
    size, step = round(FRAME_SECONDS * sample_rate), round(STEP_SECONDS * sample_rate)
    if len(waveform) <= size:
        return waveform
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    starts = np.arange(0, len(waveform) - size + 1, step)
    power = energy[starts + size] - energy[starts]
    loud = starts[power >= power.max() * 10 ** (-trim_db / 10)]
    keep = round(keep_seconds * sample_rate)
    return waveform[max(0, loud[0] - keep) : loud[-1] + size + keep]


def read_blocks(path: StrPath, sample_rate: int) -> Iterator[np.ndarray]:
    """Yields a recording of any length as blocks `(t,)` float32 at `sample_rate`; it is never whole in memory.

    Raises:
        AudioError: as `decode` does. A fault in the middle is raised after the good blocks before it.
    """
    path = Path(path)
    with _opened(path, math.inf) as file:
        frames, resampler = 0, make_resampler(file.samplerate, sample_rate)
        while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
            frames += len(block)
            with np.errstate(invalid="ignore", over="ignore"):
                mono = block.mean(axis=1)
            where = f"before {frames / file.samplerate:.1f} s"
            if not np.isfinite(mono).all():
                raise AudioError(path, "nonfinite", f"NaN or infinite samples {where}; export it again")
            if np.abs(mono).max() > MAX_LEVEL:
                raise AudioError(path, "absurd_level", f"peak {np.abs(mono).max():.3g} {where}; full scale is 1")
            yield resampler.resample_chunk(mono)
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        if frames < file.frames or _riff_is_cut(path):
            raise AudioError(path, "truncated", "the file is shorter than its header says; copy it again")
        if frames == 0:
            raise AudioError(path, "empty", "a header without samples")


def audio_duration(path: StrPath) -> float:
    """The seconds of a recording according to its header.

    Raises:
        AudioError: the file is not audio, or its header is out of range.
    """
    with _opened(Path(path), math.inf) as file:
        return file.frames / file.samplerate


def make_resampler(from_rate: int, to_rate: int) -> soxr.ResampleStream:
    """A stream that resamples blocks of mono float32, of any sizes, from `from_rate` to `to_rate`."""
    return soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")


def is_audio(path: StrPath) -> bool:
    """Whether the file's ending is one of audio, readable or not.

    >>> is_audio("a.WAV"), is_audio("a.m4a"), is_audio("notes.txt")
    (True, True, False)
    """
    return os.path.splitext(path)[1].lower() in LOSSLESS | LOSSY | UNREADABLE


def audio_files(paths: Sequence[StrPath]) -> list[Path]:
    """The files among `paths`, and all audio files in and below the folders among them, in sorted order per folder.

    Hidden files are skipped. Audio that libsndfile cannot read is listed, so that decoding reports it.

    Raises:
        DataError: a folder holds no audio file, or cannot be read.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            files.append(path)
            continue
        in_folder = sorted(p for p in _files_below(path) if is_audio(p) and not p.name.startswith("."))
        if not in_folder:
            raise DataError(f"{path}: no audio files in this folder; name another one")
        files += in_folder
    return files


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
    return [decode(path, config, silent_db=-math.inf) for path in audio_files([root])]  # quiet rooms are recorded too


def _decode_mono(path: Path, max_seconds: float) -> tuple[np.ndarray, int]:
    """The mean of a file's channels, `(T,)` float32, and its sample rate."""
    with _opened(path, max_seconds) as file:
        samples = _average_channels(path, file, max_seconds)
        header_frames, rate = file.frames, file.samplerate
    if len(samples) < header_frames or _riff_is_cut(path):
        raise AudioError(path, "truncated", "the file is shorter than its header says; copy it again")
    if len(samples) == 0:
        raise AudioError(path, "empty", "a header without samples")
    return samples, rate


@contextmanager
def _opened(path: Path, max_seconds: float) -> Iterator[soundfile.SoundFile]:
    """The open file after its header was checked. Errors of soundfile and of the system become `AudioError`."""
    try:
        if not path.is_file():
            status = path.stat()  # raises if the path does not exist
            raise AudioError(path, "unreadable", f"not a regular file ({stat.filemode(status.st_mode)}); name a file")
        if path.stat().st_size == 0:
            raise AudioError(path, "empty", "0 bytes; download or copy it again")
        with soundfile.SoundFile(os.fsencode(path)) as file:  # as bytes: a file name need not be valid text
            _check_header(path, file, max_seconds)
            yield file
    except OSError as error:
        raise AudioError(path, "unreadable", error.strerror or str(error)) from error
    except soundfile.LibsndfileError as error:
        message = str(error.error_string)
        if "format" not in message.lower():
            raise AudioError(path, "decode_error", message) from error
        advice = "convert it to WAV or FLAC, or copy it again"
        raise AudioError(path, "not_audio", f"{message.rstrip('.')}; {advice}") from error


def _average_channels(path: Path, file: soundfile.SoundFile, max_seconds: float) -> np.ndarray:
    """Reads in blocks, so that many channels of a long file are never in memory at once; `(T,)` float32."""
    blocks, frames = [np.zeros(0, np.float32)], 0
    while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
        frames += len(block)
        if frames > max_seconds * file.samplerate + _BLOCK:  # longer than its header says
            raise AudioError(path, "too_long", f"data.max_seconds is {max_seconds:g}")
        with np.errstate(invalid="ignore", over="ignore"):  # the caller raises on NaN and infinity
            blocks.append(block.mean(axis=1))
    return np.concatenate(blocks)


def _check_header(path: Path, file: soundfile.SoundFile, max_seconds: float) -> None:
    """Raises on a header out of range before anything is decoded, so that a decompression bomb costs nothing."""
    if not MIN_RATE <= file.samplerate <= MAX_RATE:
        raise AudioError(path, "bad_rate", f"{file.samplerate} Hz, expected {MIN_RATE} to {MAX_RATE}")
    if file.channels > MAX_CHANNELS:
        raise AudioError(path, "too_many_channels", f"{file.channels}, at most {MAX_CHANNELS}")
    if file.frames > max_seconds * file.samplerate:
        seconds = file.frames / file.samplerate
        raise AudioError(path, "too_long", f"{seconds:.1f} s, data.max_seconds is {max_seconds:g}")


def _riff_is_cut(path: Path) -> bool:
    """Whether a WAV's header promises more bytes than the file holds. libsndfile reads such files without an error."""
    with path.open("rb") as file:
        head = file.read(8)
    size = int.from_bytes(head[4:8], "little")
    streamed = size in (0, 0xFFFFFFFF, 0x7FFFFFFF)  # written by a pipe, before the length was known
    return head[:4] == b"RIFF" and not streamed and path.stat().st_size < size + 8 - 1  # a last pad byte may be missing
