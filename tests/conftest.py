"""Fixtures: real speech if SERX_DATA names it, and synthetic clips."""

import os
import shutil
import signal
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from serx.config.loader import Config, load_config
from serx.data import dataset as dataset_module
from serx.models.encoders import Encoder
from serx.system import stop_signals
from serx.training import tensorboard as tracking
from serx.training.run_folder import BEST
from serx.training.trainer import fit

RATE = 16_000


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """The bits of a CPU run depend on the number of threads."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_signal_handlers():
    """Restores the handlers that a command sets when a test runs it within this process."""
    before = {number: signal.getsignal(number) for number in stop_signals()}
    hook = sys.unraisablehook
    yield
    sys.unraisablehook = hook
    for number, handler in before.items():
        signal.signal(number, handler)


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


ENCODERS = ("whisper", "wav2vec2", "xls-r", "hubert", "wavlm", "wavlm-large", "data2vec")


def randomize(model: "torch.nn.Module") -> "torch.nn.Module":
    """In place: random weights with which each layer keeps the size of what it reads."""
    for name, parameter in model.named_parameters():
        is_norm = "norm" in name and name.endswith("weight")
        torch.nn.init.normal_(parameter, is_norm, 0.2 if parameter.dim() < 2 else 1.5 * parameter[0].numel() ** -0.5)
    return model.eval()


def tiny_encoder(kind: str) -> "torch.nn.Module":
    """transformers' model of a kind, with four narrow layers and random weights that hand the signal on."""
    import transformers

    torch.manual_seed(0)
    if kind == "whisper":
        config = transformers.WhisperConfig(
            d_model=16, encoder_layers=4, encoder_attention_heads=2, encoder_ffn_dim=24, num_mel_bins=80, vocab_size=9,
            max_source_positions=50, decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=24,
            pad_token_id=0, bos_token_id=1, eos_token_id=1, decoder_start_token_id=1,
        )  # fmt: skip
        model = transformers.WhisperModel(config)
    else:
        small = {
            "conv_dim": (8, 8, 8), "conv_kernel": (10, 3, 3), "conv_stride": (5, 2, 2), "num_feat_extract_layers": 3,
            "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 24,
            "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4, "vocab_size": 9,
        }  # fmt: skip
        stable = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
        buckets = {"num_buckets": 12, "max_bucket_distance": 30}
        name, more = {
            "wav2vec2": ("Wav2Vec2", {}),
            "xls-r": ("Wav2Vec2", stable),
            "hubert": ("Hubert", {}),
            "wavlm": ("WavLM", buckets),
            "wavlm-large": ("WavLM", {**buckets, **stable}),
            "data2vec": ("Data2VecAudio", {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5}),
        }[kind]
        model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**{**small, **more}))
    return randomize(model)


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory):
    """A function from a kind of `ENCODERS` to a folder with that tiny model, as transformers saves it."""

    @cache
    def folder_of(kind: str) -> Path:
        import transformers

        folder = tmp_path_factory.mktemp(kind)
        tiny_encoder(kind).save_pretrained(folder)
        if kind == "whisper":
            transformers.WhisperFeatureExtractor(feature_size=80, chunk_length=1).save_pretrained(folder)
        else:
            transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
        return folder

    return folder_of


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


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """The samples of each clip that an encoder gets, in order."""
    lengths: list[int] = []
    for kind in Encoder.__subclasses__():

        def forward(self, waveform, sizes, encode=kind.forward):
            lengths.extend(sizes.tolist())
            return encode(self, waveform, sizes)

        monkeypatch.setattr(kind, "forward", forward)
    return lengths


@pytest.fixture
def alter_clips(monkeypatch):
    """A function that lets `scan` add to each utterance what `change(n, utterance)` returns."""
    original = dataset_module.scan_once

    def install(change):
        def scan(*arguments):
            found = original(*arguments)
            clips = tuple(replace(u, **change(n, u)) for n, u in enumerate(found.utterances))
            return replace(found, utterances=clips)

        monkeypatch.setattr(dataset_module, "scan_once", scan)

    return install


@pytest.fixture
def trusted(monkeypatch):
    """Clips count fully in adaptation, whatever a network that is hardly trained predicts."""
    monkeypatch.setattr("serx.speaker_model._trust", lambda *_: 1.0)
