"""The inputs of every library: the same clips, ratios and settings."""

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from serx.data.audio.config import AudioConfig
from serx.data.audio.decoding import decode
from serx.data.audio.paths import audio_files
from serx.data.cache.audio_cache import FULL_SCALE, AudioCache
from serx.data.synthetic.corpus import make_corpus

RATE = 16_000
N_FFT, HOP, N_MELS, MORE_MELS, N_MFCC = 1024, 256, 64, 128, 40
SPECTRUM = {"n_fft": N_FFT, "hop_length": HOP}
SEMITONES, TEMPO, SPEED = (-2.0, 2.0), (0.8, 1.25), (0.88, 1.12)
SNR_DB, SHIFT_SECONDS, GAIN_DB = (10.0, 40.0), (-0.2, 0.2), (-12.0, 6.0)
PITCH_HZ = (65.0, 800.0)
# Stage -> how its files are encoded, and their sampling rate. Each file is one clip.
ENCODINGS = {
    "decode_wav": ("WAV", "PCM_16", RATE),
    "decode_flac": ("FLAC", "PCM_16", RATE),
    "decode_ogg": ("OGG", "VORBIS", RATE),
    "decode_mp3": ("MP3", "MPEG_LAYER_III", RATE),
    "decode_wav_48k": ("WAV", "PCM_16", 48_000),
    "decode_flac_48k": ("FLAC", "PCM_16", 48_000),
}
SLOW = 8  # clips for libraries that take tens of milliseconds for each


@dataclass(frozen=True)
class Inputs:
    """`n` clips of one length, and the settings of each for libraries that do not draw them (serx does).

    Attributes:
        paths: `n` audio files; some occur twice if there are fewer.
        waves: `(n, T)` float32 on the host; a shorter clip is repeated.
        waveform: the same on the device.
        lengths: `(n,)`, all T.
        semitones, tempos, speeds, snr_db, gain_db: `(n,)`.
        shifts: `(n,)`, in samples.
        source: what the clips are, in words.
    """

    paths: list[Path]
    waves: np.ndarray
    waveform: Tensor
    lengths: Tensor
    semitones: np.ndarray
    tempos: np.ndarray
    speeds: np.ndarray
    snr_db: np.ndarray
    shifts: np.ndarray
    gain_db: np.ndarray
    source: str

    @property
    def count(self) -> int:
        return len(self.waves)

    @property
    def device(self) -> torch.device:
        return self.waveform.device

    def written(self) -> tuple[()]:
        """Writes the clips once more, so that they are in the CPU's cache as behind any other operation; untimed."""
        if self.device.type == "cpu":
            self.waveform.copy_(self._copy)
        return ()

    @cached_property
    def _copy(self) -> Tensor:
        return self.waveform.clone()

    def encoded(self, stage: str) -> list[Path]:
        """The clips as `n` files, encoded as the stage says; written when first asked for."""
        folder, written = self._encoded
        if stage not in written:
            form, subtype, rate = ENCODINGS[stage]
            paths = [Path(folder.name, f"{stage}-{clip}.{form.lower()}") for clip in range(self.count)]
            for path, wave in zip(paths, self.waves, strict=True):
                samples = wave if rate == RATE else soxr.resample(wave, RATE, rate)
                soundfile.write(path, samples, rate, format=form, subtype=subtype)
            written[stage] = paths
        return written[stage]

    @cached_property
    def _encoded(self) -> "tuple[tempfile.TemporaryDirectory[str], dict[str, list[Path]]]":
        return tempfile.TemporaryDirectory(prefix="serx-benchmark-"), {}

    @property
    def audio_cache(self) -> AudioCache:
        """The clips as a training run stores them."""
        samples = np.clip(np.round(self.waves * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
        scales = np.full(self.count, 1 / FULL_SCALE, np.float32)
        return AudioCache.in_memory(samples.ravel(), np.full(self.count, samples.shape[1]), scales)


def load_inputs(root: str | None, count: int, seconds: float, device: torch.device) -> Inputs:
    """`count` clips of `seconds`, evenly spread over the audio files below `root`, or over a synthetic corpus.

    Raises:
        DataError: there is no audio below `root`.
    """
    folder = Path(root) if root else _synthetic_corpus(count)
    files = audio_files([folder])
    paths = [files[i * len(files) // count] for i in range(count)]
    size, config = round(seconds * RATE), AudioConfig(sample_rate=RATE)
    waves = np.stack([np.resize(decode(path, config), size) for path in paths])
    random = np.random.default_rng(0)
    ranges = (SEMITONES, TEMPO, SPEED, SNR_DB, SHIFT_SECONDS, GAIN_DB)
    semitones, tempos, speeds, snr_db, shifts, gain_db = (random.uniform(*bounds, count) for bounds in ranges)
    source = f"{min(count, len(files))} files of {folder.name}" if root else "a synthetic corpus (--root: real speech)"
    return Inputs(
        paths,
        waves,
        torch.from_numpy(waves).to(device),
        torch.full((count,), size, device=device),
        semitones,
        tempos,
        speeds,
        snr_db,
        np.round(shifts * RATE).astype(int),
        gain_db,
        source,
    )


def _synthetic_corpus(count: int) -> Path:
    speakers, clips_per_emotion = min(24, -(-count // 32)), min(4, -(-count // 8))
    folder = Path(tempfile.gettempdir()) / f"serx-benchmark-{speakers}-{clips_per_emotion}"
    return make_corpus(folder, speakers, clips_per_emotion, progress=False)
