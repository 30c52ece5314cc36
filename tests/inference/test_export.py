"""An exported file gives what its checkpoint gives, to any clip, and says what it is; or it is not written."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch

from serx.config.loader import from_tree
from serx.data.audio import AudioConfig, trim_silence
from serx.errors import ConfigError, DiskError
from serx.inference import export as exporting
from serx.inference.adaptation import adapted
from serx.inference.export import Exported, Utterance, export, trimmed
from serx.inference.predictor import Predictor
from serx.recognizer import Recognizer
from serx.training.run_folder import BEST
from serx.training.trainer import fit
from tests.conftest import RATE, speechlike

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
SMALL = {"kind": "cnn1d", "stem": 8, "widths": (8, 8, 8)}


@pytest.fixture(scope="module")
def predictor(tmp_path_factory, tiny_root) -> Predictor:
    """Two trained networks with a stage in common that hear each clip at two speeds, its ends trimmed."""
    folder = tmp_path_factory.mktemp("export")
    speakers = {"protocol": "speakers", "test_speakers": ("5", "6"), "valid_speakers": ("3", "4")}
    tree = {
        "data": {"root": str(tiny_root), "trim_db": 30.0, **speakers},
        "features": {"n_mels": 24},
        "model": {
            "kind": "cnn2d", "stem": 8, "widths": (8, 16), "strides": ((2, 2), (2, 1)), "ensemble_size": 2, "shared_stages": 1,
            "tta_speeds": (0.92, 1.08), "relaxed_freq_norm": 0.5,
        },
        "train": {"epochs": 3, "batch_size": 8, "device": "cpu", "threads": 1},
    }  # fmt: skip
    fit(from_tree(tree, source="test"), folder / "run", progress=False)
    return Predictor(folder / "run" / BEST, CPU)


@pytest.fixture(scope="module")
def translated(predictor):
    """While it is entered, exports take what torch made of `predictor` once, which needs ten seconds each time."""
    program = exporting._translated(Utterance(predictor.recognizer, predictor.config.data).eval(), Path("m.onnx"))

    @contextmanager
    def reused():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exporting, "_translated", lambda *_: program)
            yield

    return reused


@pytest.fixture(scope="module")
def exported(predictor, translated, tmp_path_factory) -> tuple[Path, Exported]:
    path = tmp_path_factory.mktemp("exported") / "m.onnx"
    with translated():
        return path, export(predictor, path)


def untrained(features: dict, model: dict, data: dict | None = None) -> Predictor:
    """A predictor of new networks, without a checkpoint, that does not take all clips for the same."""
    tree = {"data": {"root": "nowhere", **(data or {})}, "features": features, "model": model}
    made = Predictor.__new__(Predictor)
    made.config, made.labels, made.device, made.metadata = from_tree(tree, source="test"), ("a", "b", "c"), CPU, {}
    torch.manual_seed(0)
    config = made.config
    made.recognizer = Recognizer(config.features, config.model, made.labels, config.data.sample_rate).eval()
    for parameter in made.recognizer.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    for name, buffer in made.recognizer.backbone.named_buffers():
        if model["kind"] == "classical" and name.endswith("weight"):
            buffer.normal_()
    clip = torch.from_numpy(speechlike(1, 200, 3))[None]
    with torch.no_grad():  # features as they are make large logits, whose probabilities would be 0 and 1 alone
        made.recognizer.temperature = float(made.recognizer(clip, torch.tensor([clip.shape[1]])).abs().max())
    return made


def heard(path, clip: np.ndarray) -> np.ndarray:
    [probabilities] = onnxruntime.InferenceSession(path).run(None, {"waveform": clip[None]})
    return probabilities[0]


def between_silences(seconds: float, seed: int) -> np.ndarray:
    wave = speechlike(seconds, 150 + 20 * seed, seed)
    quiet = np.random.default_rng(seed).normal(0, 1e-4, (2, RATE // 2)).astype(np.float32)
    return np.concatenate([quiet[0, : 2000 * (seed + 1)], wave, quiet[1, : 1500 * seed]])


def test_a_recording_gets_the_probabilities_that_its_file_gets_of_the_checkpoint(predictor, exported, tmp_path):
    path, done = exported
    assert done.clips == 6 and 0 <= done.difference < 1e-5
    assert done.bytes == path.stat().st_size
    for seed, seconds in enumerate((0.12, 0.5, 1.234, 4.0)):
        soundfile.write(tmp_path / "clip.wav", between_silences(seconds, seed), RATE, subtype="FLOAT")
        clip, _ = soundfile.read(tmp_path / "clip.wav", dtype="float32")
        [expected] = predictor.predict([tmp_path / "clip.wav"])
        np.testing.assert_allclose(heard(path, clip), [*expected.probabilities.values()], atol=1e-5)


def test_the_file_knows_a_voice_that_was_enrolled_and_the_predictor_forgets_it(tmp_path):
    made = untrained({}, {**SMALL, "tta_speeds": (0.92, 1.0)})
    voice = [torch.from_numpy(speechlike(0.6, 130 + 15 * n, n)) for n in range(6)]
    clip = speechlike(0.8, 200, 77)
    alone = [*made.probabilities([clip])[0].values()]
    with adapted(made.recognizer, voice):
        export(made, tmp_path / "mine.onnx")
        known = [*made.probabilities([clip])[0].values()]
    assert np.abs(np.subtract(known, alone)).max() > 1e-3
    np.testing.assert_allclose(heard(tmp_path / "mine.onnx", clip), known, atol=1e-5)
    np.testing.assert_allclose([*made.probabilities([clip])[0].values()], alone, atol=1e-6)


KINDS = {
    "windows of timm": ({"n_mels": 32}, {"kind": "timm", "name": "resnet10t", "frames": 64}, {}),
    "a vector a clip": (
        {"stack": ("mfcc", "chroma", "contrast", "zcr", "rms"), "deltas": 1, "statistics": ("mean", "std", "median")},
        {"kind": "classical", "classifier": "logistic_regression"},
        {},
    ),
    "pitch, color and constant-Q": (
        {"stack": ("pitch", "voicing", "centroid", "rolloff", "flatness", "chroma_cqt")}, SMALL, {}
    ),
    "learned filters, a window of the file": (
        {"front_end": "nnaudio", "trainable": True, "remove_level": True},
        SMALL,
        {"offset_seconds": 0.2, "duration_seconds": 0.7, "trim_db": 25.0},
    ),
    "frames one after the other": (
        {"n_mels": 24},
        {"kind": "cnn2d", "stem": 8, "widths": (8, 16), "strides": ((2, 2), (2, 1)), "gru": 12},
        {},
    ),
    "frames laid end to end": ({"stack": ("mfcc",), "n_mfcc": 20}, {"kind": "sequential", "frames": 80}, {}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_feature_and_model_can_be_exported(kind, tmp_path):
    features, model, data = KINDS[kind]
    made = untrained(features, model, data)
    clips = [between_silences(seconds, seed) for seed, seconds in enumerate((0.5, 1.1))]
    first, second = (
        np.array([*made.probabilities([clip])[0].values()]) for clip in (speechlike(1, 120, 1), speechlike(1, 260, 2))
    )
    assert np.abs(first - second).max() > 1e-4  # else whatever a file says would be near enough
    assert export(made, tmp_path / "m.onnx", clips).difference < 1e-4
    again = [*made.probabilities([speechlike(1, 120, 1)])[0].values()]
    np.testing.assert_allclose(again, first, atol=1e-6)  # what stood in for a layer is gone


def test_a_speech_encoder_can_be_exported(small_encoders, tmp_path):
    encoder = {"kind": "speech_encoder", "bundle": "HUBERT_BASE"}
    made = untrained({"stack": ("waveform",), "normalize": "none"}, encoder, {"max_seconds": 2.5})
    assert export(made, tmp_path / "m.onnx").difference < 1e-4


def test_the_file_says_what_it_wants_and_what_it_was_trained_on_and_nothing_of_this_machine(predictor, exported):
    path, _ = exported
    session = onnxruntime.InferenceSession(path)
    metadata = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(metadata["labels"])) == predictor.labels
    assert metadata["sample_rate"] == "16000"
    assert metadata["protocol"].startswith("speakers, speaker-independent")
    assert [int(metadata[name]) for name in ("shortest_samples", "longest_samples")] == [1600, 960_000]
    [given] = session.get_inputs()
    assert given.name == "waveform" and given.shape[0] == 1 and session.get_outputs()[0].name == "probabilities"
    assert str(exporting.__file__).encode() not in path.read_bytes()


def test_silence_is_trimmed_as_when_a_file_is_read():
    random = np.random.default_rng(0)
    audio = AudioConfig(trim_db=30.0)
    for samples in random.integers(500, 30_000, 60):
        swell = np.interp(np.arange(samples), np.linspace(0, samples, 7), random.uniform(0, 1, 7) ** 6)
        clip = (random.standard_normal(samples) * swell).astype(np.float32)
        expected = trim_silence(clip, RATE, 30.0, audio.trim_keep_seconds)
        behind = np.concatenate([clip, 5 * random.standard_normal(700).astype(np.float32)])  # not of the clip
        waveform, lengths = trimmed(torch.from_numpy(behind)[None], torch.tensor([samples]), RATE, 30.0, 0.05)
        np.testing.assert_array_equal(waveform[0, : int(lengths)].numpy(), expected)


@pytest.mark.parametrize("wrong", [0.01, float("nan")])
def test_a_file_that_differs_from_its_checkpoint_is_not_written(predictor, translated, tmp_path, monkeypatch, wrong):
    true = predictor.probabilities
    monkeypatch.setattr(predictor, "probabilities", lambda clips: [{k: p + wrong for k, p in true(clips)[0].items()}])
    with translated(), pytest.raises(ConfigError, match=r"m\.onnx: not written: .* use scripts/predict\.py"):
        export(predictor, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_what_torch_cannot_export_is_one_line(tmp_path):
    made = untrained({"stack": ("mfcc",), "statistics": ("mean",)}, {"kind": "classical", "classifier": "svm"})
    made.recognizer.backbone.members[0].resize_support(3)
    with pytest.raises(
        ConfigError, match=r"m\.onnx: torch cannot export this model \(features mfcc\): .*cdist"
    ) as told:
        export(made, tmp_path / "m.onnx")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("missing", ["onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=rf"{missing}.*pip install -e '\.\[export\]'"):
        export(untrained({}, SMALL), tmp_path / "m.onnx")


def test_a_folder_that_is_not_there_is_said_to_be_not_there(predictor, translated, tmp_path):
    with translated(), pytest.raises(DiskError, match=r"absent/m\.onnx: cannot write \d+ bytes: No such file"):
        export(predictor, tmp_path / "absent" / "m.onnx")
