"""An exported file gives the probabilities of its checkpoint for any clip, or it is not written."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch

from serx.config.loader import from_tree
from serx.data.audio.clip import prepare_clip
from serx.data.audio.error import AudioError
from serx.data.audio.trimming import trim_silence
from serx.errors import ConfigError, DiskError
from serx.inference import export as exporting
from serx.inference.adaptation import adapted
from serx.inference.export import ExportResult, WaveformClassifier, export_onnx, trimmed
from serx.inference.prediction import Prediction
from serx.inference.predictor import Predictor
from serx.models.encoders import resolve_encoder
from serx.training.run_folder import BEST
from serx.training.trainer import fit
from tests.conftest import RATE, speechlike
from tests.inference.untrained import SMALL, untrained_predictor
from tests.test_cli import run_here

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory, tiny_root) -> Predictor:
    """Two trained networks with a shared stage and two test-time speeds, on clips with trimmed ends."""
    folder = tmp_path_factory.mktemp("export")
    speakers = {"protocol": "speakers", "test_speakers": ("5", "6"), "valid_speakers": ("3", "4")}
    tree = {
        "data": {"root": str(tiny_root), "trim_db": 30.0, **speakers},
        "features": {"n_mels": 24},
        "model": {
            "kind": "cnn2d", "stem": 8, "widths": (8, 16), "strides": ((2, 2), (2, 1)), "ensemble_size": 2,
            "shared_stages": 1, "tta_speeds": (0.92, 1.08), "relaxed_freq_norm": 0.5,
        },
        "train": {"epochs": 3, "batch_size": 8, "device": "cpu", "threads": 1},
    }  # fmt: skip
    fit(from_tree(tree, source="test"), folder / "run", progress=False)
    return Predictor.load(folder / "run" / BEST, CPU)


@pytest.fixture(scope="module")
def reuse_program(predictor):
    """A context in which exports reuse one ONNX program of `predictor`; torch needs ten seconds to make it."""
    classifier = WaveformClassifier(predictor.recognizer, predictor.config.data).eval()
    program = exporting._onnx_program(classifier, Path("m.onnx"))

    @contextmanager
    def reused():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exporting, "_onnx_program", lambda *_: program)
            yield

    return reused


@pytest.fixture(scope="module")
def exported(predictor, reuse_program, tmp_path_factory) -> tuple[Path, ExportResult]:
    path = tmp_path_factory.mktemp("exported") / "m.onnx"
    with reuse_program():
        return path, export_onnx(predictor, path)


RECURRENT = {"kind": "cnn2d", "stem": 8, "widths": (8, 16), "strides": ((2, 2), (2, 1)), "gru": 12}


def run_onnx(path: Path, clip: np.ndarray) -> np.ndarray:
    """Probabilities `(C,)` of the file for `clip (T,)`."""
    [probabilities] = onnxruntime.InferenceSession(path).run(None, {"waveform": clip[None]})
    return probabilities[0]


def predict(predictor: Predictor, clip: np.ndarray) -> list[float]:
    """Probabilities of the predictor for `clip (T,)`, which is taken as it is."""
    return [*predictor.predict_clips([clip])[0].probabilities.values()]


def between_silences(seconds: float, seed: int) -> np.ndarray:
    """A clip whose ends are to be trimmed."""
    wave = speechlike(seconds, 150 + 20 * seed, seed)
    quiet = np.random.default_rng(seed).normal(0, 1e-4, (2, RATE // 2)).astype(np.float32)
    return np.concatenate([quiet[0, : 2000 * (seed + 1)], wave, quiet[1, : 1500 * seed]])


def test_the_file_gives_a_recording_the_probabilities_of_the_checkpoint(predictor, exported, tmp_path):
    path, result = exported
    assert result.n_clips == 8 and 0 <= result.max_difference < 1e-5
    assert result.n_bytes == path.stat().st_size
    for seed, seconds in enumerate((0.12, 0.5, 1.234, 4.0)):
        soundfile.write(tmp_path / "clip.wav", between_silences(seconds, seed), RATE, subtype="FLOAT")
        clip, _ = soundfile.read(tmp_path / "clip.wav", dtype="float32")
        expected = predictor(tmp_path / "clip.wav")
        np.testing.assert_allclose(run_onnx(path, clip), [*expected.probabilities.values()], atol=1e-5)


USABLE = between_silences(0.5, 1)
NOT_USABLE = {
    **{f"{n} samples": USABLE[:n] for n in (1, 10, 399, 1599)},
    "longer than max_seconds": np.tile(USABLE, 90),
    "zeros": 0 * USABLE,
    "a constant": 0 * USABLE + 0.3,
    "noise at -90 dB": np.random.default_rng(0).normal(0, 10**-4.5, RATE).astype(np.float32),
    "NaN": np.where(np.arange(len(USABLE)) == 9000, np.nan, USABLE),
    "infinity": np.where(np.arange(len(USABLE)) == 9000, np.inf, USABLE),
    "a level of 10^6": 1e6 * USABLE,
}


@pytest.mark.parametrize("name", NOT_USABLE)
def test_the_file_gives_nan_for_a_clip_that_the_predictor_refuses(name, predictor, exported):
    clip = NOT_USABLE[name].astype(np.float32)
    assert np.isnan(run_onnx(exported[0], clip)).all()
    if not name.startswith("longer"):  # the predictor cuts it at its pauses
        with pytest.raises(AudioError):
            predictor(clip, RATE)


def test_the_shortest_clip_is_in_the_metadata_and_is_predicted(exported):
    metadata = onnxruntime.InferenceSession(exported[0]).get_modelmeta().custom_metadata_map
    shortest, longest = int(metadata["min_samples"]), int(metadata["max_samples"])
    assert (shortest, longest) == (0.1 * RATE, 60 * RATE)
    speech = speechlike(1, 200, 3)
    assert run_onnx(exported[0], speech[:shortest]).sum() == pytest.approx(1, abs=1e-5)
    assert np.isnan(run_onnx(exported[0], speech[: shortest - 1])).all()


@pytest.mark.parametrize("model", [{**SMALL, "tta_speeds": (0.92, 1.0)}, RECURRENT], ids=["cnn1d", "gru"])
@pytest.mark.usefixtures("trusted")
def test_the_file_of_an_adapted_model_is_adapted_and_the_predictor_is_restored(model, tmp_path):
    predictor = untrained_predictor(model)
    clips = [torch.from_numpy(speechlike(0.6, 130 + 15 * n, n)) for n in range(6)]
    clip = speechlike(0.8, 200, 77)
    plain = predict(predictor, clip)
    with adapted(predictor.recognizer, clips):
        export_onnx(predictor, tmp_path / "mine.onnx")
        expected = predict(predictor, clip)
    assert np.abs(np.subtract(expected, plain)).max() > 1e-3
    np.testing.assert_allclose(run_onnx(tmp_path / "mine.onnx", clip), expected, atol=1e-5)
    np.testing.assert_allclose(predict(predictor, clip), plain, atol=1e-6)
    metadata = onnxruntime.InferenceSession(tmp_path / "mine.onnx").get_modelmeta().custom_metadata_map
    assert metadata["adapted"] == "to a speaker"


KINDS = {
    "timm on windows": ({"n_mels": 32}, {"kind": "timm", "name": "resnet10t", "frames": 64}, {}),
    "one vector per clip": (
        {"stack": ("mfcc", "chroma", "contrast", "zcr", "rms"), "deltas": 1, "statistics": ("mean", "std", "median")},
        {"kind": "classical", "classifier": "logistic_regression"},
        {},
    ),
    "pitch, spectral shape and constant-Q": (
        {"stack": ("pitch", "voicing", "centroid", "rolloff", "flatness", "chroma_cqt")}, SMALL, {}
    ),
    "learned filters on a window of the file": (
        {"front_end": "nnaudio", "trainable": True, "remove_level": True},
        SMALL,
        {"offset_seconds": 0.2, "duration_seconds": 0.7, "trim_db": 25.0, "trim_spread_db": 6.0},
    ),
    "a recurrent network": (
        {"n_mels": 24},
        RECURRENT,
        {},
    ),
    "frames as one vector": ({"stack": ("mfcc",), "n_mfcc": 20}, {"kind": "sequential", "frames": 80}, {}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_feature_and_model_can_be_exported(kind, tmp_path):
    features, model, data = KINDS[kind]
    predictor = untrained_predictor(model, features, data)
    clips = [between_silences(seconds, seed) for seed, seconds in enumerate((0.5, 1.1))]
    first, second = (np.array(predict(predictor, clip)) for clip in (speechlike(1, 120, 1), speechlike(1, 260, 2)))
    assert np.abs(first - second).max() > 1e-4  # otherwise any file would be close enough
    assert export_onnx(predictor, tmp_path / "m.onnx", clips).max_difference < 1e-4
    np.testing.assert_allclose(predict(predictor, speechlike(1, 120, 1)), first, atol=1e-6)


def test_a_gru_is_exported_for_any_number_of_frames_and_stays_a_gru_in_the_model(tmp_path):
    predictor = untrained_predictor(RECURRENT)
    grus = [layer for layer in predictor.recognizer.modules() if isinstance(layer, torch.nn.GRU)]
    export_onnx(predictor, tmp_path / "m.onnx")
    assert len(grus) == 2
    assert [layer for layer in predictor.recognizer.modules() if isinstance(layer, torch.nn.GRU)] == grus
    operators = [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]
    assert operators.count("GRU") == 2 and len(operators) < 500
    for seconds in (0.2, 7.7):
        clip = speechlike(seconds, 170, 5)
        np.testing.assert_allclose(run_onnx(tmp_path / "m.onnx", clip), predict(predictor, clip), atol=1e-5)


def test_silence_is_appended_to_clips_shorter_than_pad_seconds_and_to_no_longer_one(encoder_folder, tmp_path):
    """Clips longer than a second, the window of the tiny Whisper, are encoded in windows."""
    architecture = resolve_encoder(str(encoder_folder("whisper"))).architecture
    features, model = {"stack": ("waveform",), "normalize": "none"}, {"kind": "speech_encoder", "pad_seconds": 1.7}
    predictor = untrained_predictor({**model, "architecture": architecture}, features, {"max_seconds": 3.0})
    clips = [speechlike(seconds, 150, 3) for seconds in (0.3, 0.9, 1.69, 1.7, 1.71, 2.0, 2.01, 2.9)]
    assert export_onnx(predictor, tmp_path / "m.onnx", clips).max_difference < 1e-5


@pytest.fixture(scope="module")
def probe_of(tiny_root, tmp_path_factory, encoder_folder):
    """A function from the kind of an encoder to a checkpoint of a linear probe on it."""

    def train(kind: str) -> Path:
        speakers = {"protocol": "speakers", "test_speakers": ("01",)}
        tree = {
            "data": {"root": str(tiny_root), "valid_fraction": 0, "max_seconds": 4.0, "trim_db": 35.0, **speakers},
            "features": {"stack": ("waveform",), "normalize": "none"},
            "model": {"kind": "linear_probe", "source": str(encoder_folder(kind)), "l2": 0.2},
            "train": {"device": "cpu", "threads": 1, "select": "last", "label_smoothing": 0.1},
        }
        return fit(from_tree(tree, source="test"), tmp_path_factory.mktemp(kind) / "run", progress=False).checkpoint

    return train


@pytest.mark.parametrize(("kind", "trust"), [("whisper", 0.6), ("wav2vec2", 1.0), ("wavlm", None)])
def test_a_linear_probe_is_exported_alone_and_adapted(kind, trust, probe_of, tiny_root, tmp_path, monkeypatch):
    """`trust` is how far the offset of the speaker counts; what each clip tells of itself counts for the rest."""
    monkeypatch.setattr("serx.speaker_model._trust", lambda *_: trust)
    path, folder, predictor = tmp_path / "probe.onnx", tiny_root / "Actor_01", Predictor.load(probe_of(kind), CPU)
    waves = [between_silences(seconds, seed) for seed, seconds in enumerate((0.12, 0.5, 0.995, 1.005, 2.2))]
    clips = [prepare_clip(wave, RATE, predictor.config.data) for wave in waves]
    plain = expected = [predict(predictor, clip) for clip in clips]
    if trust is not None:
        with predictor.adapted_to(folder):
            expected = [predict(predictor, clip) for clip in clips]
        assert np.abs(np.subtract(expected, plain)).max() > 1e-3
    adapt_to = [] if trust is None else ["--adapt-to", str(folder)]
    done = run_here("export", "--checkpoint", predictor.path, "--out", path, *adapt_to, "--json", cwd=tmp_path)
    assert done.returncode == 0 and json.loads(done.stdout)["max_difference"] < 2e-5, done.stderr
    np.testing.assert_allclose([run_onnx(path, wave) for wave in waves], expected, atol=2e-5)


def test_the_file_describes_its_input_labels_and_protocol_and_not_this_machine(predictor, exported):
    path, _ = exported
    session = onnxruntime.InferenceSession(path)
    metadata = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(metadata["labels"])) == predictor.labels
    assert metadata["sample_rate"] == "16000"
    assert metadata["protocol"].startswith("speakers, speaker-independent")
    assert [int(metadata[name]) for name in ("min_samples", "max_samples")] == [1600, 960_000]
    [waveform] = session.get_inputs()
    assert waveform.name == "waveform" and waveform.shape[0] == 1
    assert session.get_outputs()[0].name == "probabilities"
    assert str(exporting.__file__).encode() not in path.read_bytes()


@pytest.mark.parametrize("spread_db", [0.0, 5.0])
def test_trimming_is_the_same_as_for_files(spread_db):
    random = np.random.default_rng(0)
    for samples in random.integers(500, 30_000, 60):
        swell = np.interp(np.arange(samples), np.linspace(0, samples, 7), random.uniform(0, 1, 7) ** 6)
        clip = (random.standard_normal(samples) * swell).astype(np.float32)
        expected = trim_silence(clip, RATE, 30.0, 0.05, spread_db)
        with_more = np.concatenate([clip, 5 * random.standard_normal(700).astype(np.float32)])  # not of the clip
        waveform, lengths = trimmed(
            torch.from_numpy(with_more)[None], torch.tensor([samples]), RATE, 30.0, 0.05, spread_db
        )
        np.testing.assert_array_equal(waveform[0, : int(lengths)].numpy(), expected)


@pytest.mark.parametrize("error", [0.01, float("nan")])
def test_a_file_that_differs_from_its_checkpoint_is_not_written(predictor, reuse_program, tmp_path, monkeypatch, error):
    correct = predictor.predict_clips

    def wrong(clips):
        probabilities = correct(clips)[0].probabilities
        return [Prediction(probabilities={label: p + error for label, p in probabilities.items()})]

    monkeypatch.setattr(predictor, "predict_clips", wrong)
    with reuse_program(), pytest.raises(ConfigError, match=r"m\.onnx: not written: .* use serx\.Predictor"):
        export_onnx(predictor, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_the_error_for_what_torch_cannot_export_is_one_line(tmp_path):
    svm = {"kind": "classical", "classifier": "svm"}
    predictor = untrained_predictor(svm, {"stack": ("mfcc",), "statistics": ("mean",)})
    predictor.recognizer.backbone.members[0].resize_support(3)
    with pytest.raises(
        ConfigError, match=r"m\.onnx: torch cannot export this model \(features mfcc\): .*cdist"
    ) as caught:
        export_onnx(predictor, tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)


def test_a_model_larger_than_a_file_of_onnx_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "MAX_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"m\.onnx: not written: a file of ONNX holds 2 GB"):
        export_onnx(untrained_predictor(), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["onnxscript", "onnxruntime"])
def test_the_error_for_a_missing_package_says_how_to_install_it(tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=rf"{missing}.*pip install -e '\.\[export\]'"):
        export_onnx(untrained_predictor(), tmp_path / "m.onnx")


def test_the_error_for_a_missing_folder_names_it(predictor, reuse_program, tmp_path):
    with reuse_program(), pytest.raises(DiskError, match=r"absent/m\.onnx: cannot write \d+ bytes: No such file"):
        export_onnx(predictor, tmp_path / "absent" / "m.onnx")
