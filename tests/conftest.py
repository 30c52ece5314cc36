"""Fixtures: real speech if SERX_DATA names it, and synthetic clips."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from serx.config.loader import Config, load_config
from serx.training import tensorboard as tracking
from serx.training.run_folder import BEST
from serx.training.trainer import fit

RATE = 16_000


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """The bits of a CPU run depend on the number of threads."""
    torch.set_num_threads(1)


def blank(*_) -> np.ndarray:
    """An empty image (H, W, 3)."""
    return np.zeros((4, 4, 3), np.uint8)


@pytest.fixture(autouse=True)
def _blank_pictures(request, monkeypatch):
    """Blanks TensorBoard's images of clips, which take half of a tiny run, except in tests marked `pictures`."""
    if "pictures" not in request.keywords:
        monkeypatch.setattr(tracking, "picture", blank)


@pytest.fixture(scope="session")
def speech_root() -> Path:
    """The folder with `ravdess16k/`, `ravdess-native/` and `tess16k/`, from the variable SERX_DATA."""
    root = os.environ.get("SERX_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("SERX_DATA names no folder with real speech")
    return Path(root)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Puts decoded audio into a folder of the test session, never into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SERX_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture
def record_figure():
    """A function that records what a test has counted, for `python -m tests.reliability.figures`."""

    def record(figure: str) -> None:
        path = os.environ.get("SERX_FIGURES")
        if path:
            with open(path, "a") as file:
                file.write(figure + "\n")

    return record


def speechlike(seconds: float, pitch: float, seed: int, level: float = 0.3) -> np.ndarray:
    """`(T,)` float32: harmonics whose strengths vary at the rate of syllables, and a little noise."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    knots = np.linspace(0, seconds, 3 + round(10 * seconds))
    wave = 0.01 * random.standard_normal(len(time))
    for harmonic in range(1, 9):
        strength = np.interp(time, knots, random.uniform(0.05, 1.0, len(knots)) ** 2)
        wave += strength * np.sin(2 * np.pi * pitch * harmonic * time) / np.sqrt(harmonic)
    return (level * wave / np.abs(wave).max()).astype(np.float32)


@pytest.fixture(scope="session")
def clips() -> list[np.ndarray]:
    """Waveforms of different lengths and levels; one is far louder than the others."""
    sizes = [(0.6, 110, 0.02), (1.0, 220, 0.9), (0.37, 160, 0.1), (1.31, 300, 0.3)]
    return [speechlike(seconds, pitch, i, level) for i, (seconds, pitch, level) in enumerate(sizes)]


def batched(waves: list[np.ndarray], extra: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """`(B, T)` zero-padded and lengths `(B,)`."""
    lengths = torch.tensor([len(wave) for wave in waves])
    batch = torch.zeros(len(waves), int(lengths.max()) + extra)
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    return batch, lengths


PITCHES = {"01": 120, "03": 180, "05": 260}  # neutral, happy, angry of the tiny corpus


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory) -> Path:
    """A RAVDESS-named folder of 6 speakers x 3 emotions x 4 clips whose emotion is their pitch."""
    root = tmp_path_factory.mktemp("tiny")
    for actor in range(1, 7):
        folder = root / f"Actor_{actor:02d}"
        folder.mkdir()
        for code, pitch in PITCHES.items():
            for take in range(4):
                wave = speechlike(0.35 + 0.05 * take, pitch * (1 + 0.02 * actor), 1000 * actor + 10 * take + pitch)
                name = f"03-01-{code}-01-0{take // 2 + 1}-0{take % 2 + 1}-{actor:02d}.wav"
                soundfile.write(folder / name, wave, RATE, subtype="PCM_16")
    return root


@pytest.fixture(scope="session")
def tess_root(tmp_path_factory) -> Path:
    """A TESS-named folder of 2 speakers, one clip of each of happy, angry and sad."""
    root = tmp_path_factory.mktemp("tess")
    for n, (who, emotion) in enumerate((w, e) for w in ("OAF", "YAF") for e in ("happy", "angry", "sad")):
        soundfile.write(root / f"{who}_back_{emotion}.wav", speechlike(0.4, 150, 50 + n), RATE)
    return root


@pytest.fixture
def small_encoders(monkeypatch):
    """Shrinks every bundle of torchaudio to 4 narrow layers without pretrained weights."""
    from serx.models.encoders import BUNDLES

    small = {
        "extractor_conv_layer_config": [(8, 10, 5), (8, 3, 2), (8, 3, 2)],
        "encoder_embed_dim": 16,
        "encoder_pos_conv_kernel": 8,
        "encoder_pos_conv_groups": 4,
        "encoder_num_layers": 4,
        "encoder_num_heads": 2,
        "encoder_ff_interm_features": 24,
    }
    for bundle in BUNDLES.values():
        monkeypatch.setattr(bundle, "_params", {**bundle._params, **small})


TINY = [
    "data.protocol=speakers",
    "data.test_speakers=[5, 6]",
    "data.valid_speakers=[3, 4]",
    "train.epochs=3",
    "train.batch_size=8",
    "train.device=cpu",
    "train.threads=1",
]


@pytest.fixture
def tiny_config(tiny_root, tmp_path):
    """A function from overrides to a configuration that trains on the tiny corpus in about a second."""
    path = tmp_path / "tiny.yaml"
    path.write_text(
        f"data: {{root: {tiny_root}}}\n"
        "features: {n_mels: 24, n_fft: 512}\n"
        "augment:\n"
        "  waveform: [{kind: noise, p: 0.5}, {kind: gain, p: 0.5}, {kind: speed, p: 0.5}]\n"
        "  spectrogram: [{kind: time_mask}, {kind: frequency_mask}]\n"
        "model: {kind: cnn2d, stem: 8, widths: [8, 16], strides: [[2, 2], [2, 1]], embedding: 24}\n"
        "train: {ema_decay: 0.9}\n"
    )

    def configure(*overrides: str) -> Config:
        other_protocol = any(o.startswith("data.protocol=") and not o.endswith("=speakers") for o in overrides)
        base = [o for o in TINY if not (other_protocol and "_speakers=" in o)]
        return load_config(path, [*base, *overrides])

    return configure


@pytest.fixture(scope="session")
def _finished() -> dict[tuple[str, ...], Path]:
    return {}


@pytest.fixture
def trained(tiny_config, tmp_path, tmp_path_factory, _finished):
    """A function from overrides to the best checkpoint of a run, which is trained once and copied for each test."""

    def train(*overrides: str) -> Path:
        if overrides not in _finished:
            folder = tmp_path_factory.mktemp("finished") / "run"
            fit(tiny_config(*overrides), folder, progress=False)
            _finished[overrides] = folder
        return Path(shutil.copytree(_finished[overrides], tmp_path / "run")) / BEST

    return train
