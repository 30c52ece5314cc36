"""The model that ships with serx: it predicts without any flag, is small, tells nobody's folders, and fits its card."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import soundfile

import serx
from benchmarks.model_card import BEGIN, END, FIGURES, MAX_BYTES, tables
from serx import checkpoint
from serx.cli.main import main
from serx.inference import default_model, export_onnx
from serx.inference.default_model import CARD, corpora_of, default_checkpoint
from serx.inference.predictor import Predictor
from tests.conftest import RATE, speechlike
from tests.data.encoding import encode

FOLDER = default_checkpoint().parent
OFFLINE = """
import json, socket, sys
for name in ("transformers", "peft", "huggingface_hub", "onnx", "sounddevice"):
    sys.modules[name] = None  # as if it were not installed
def refuse(*_): raise OSError("no network")
socket.socket.connect = socket.getaddrinfo = refuse
from serx.cli.main import main
try:
    main("predict", ["--json", "me.wav"])
finally:
    import gc
    used = [name for name, module in sys.modules.items() if module is not None]
    print(json.dumps([used, [gc.isenabled(), gc.get_freeze_count() > 100_000]]), file=sys.stderr)
"""
NEEDED = """
import numpy, torch, pydantic.main, annotated_types, safetensors.torch, soundfile, soxr, filelock, yaml
import json, sys
print(json.dumps([*sys.modules]))
"""


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(device="cpu")


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """The current folder, with one recording in it."""
    soundfile.write(tmp_path / "me.wav", speechlike(1.0, 170, 7), RATE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of `serx WORDS`, run within this process."""
    out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
        main(None, list(words))
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return left.value.code, texts[0], texts[1]


def texts_in(value) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.items() for text in texts_in(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in texts_in(item)]
    return [value] if isinstance(value, str) else []


# The files


def test_the_model_takes_less_than_five_megabytes():
    assert default_checkpoint().stat().st_size < MAX_BYTES


def test_the_model_names_no_folder_of_the_machine_that_trained_it(predictor):
    texts = texts_in(predictor.metadata)
    assert [text for text in texts if text.startswith(("/", "~", "\\")) or ":\\" in text] == []
    assert predictor.config.data.cache is None and predictor.config.train.output is None


def test_the_model_holds_weights_and_detector_and_nothing_of_its_training():
    saved = checkpoint.load_run_checkpoint(default_checkpoint())
    assert {name.partition(".")[0] for name in saved.tensors} - {"speaker"} == {"model", "ood"}


def test_the_model_was_not_trained_on_the_corpora_that_its_card_calls_unseen(predictor):
    names = [name for part in ("train", "valid") for name in predictor.metadata["speakers"][part]]
    assert set(corpora_of(names)) <= {"ravdess", "nemo", "emovo"}
    assert not set(corpora_of(names)) & json.loads((FOLDER / FIGURES).read_text())["unseen"].keys()


def test_the_tables_of_the_card_are_those_of_its_figures():
    card, figures = (FOLDER / CARD).read_text(), json.loads((FOLDER / FIGURES).read_text())
    assert card.partition(BEGIN)[2].partition(END)[0] == f"\n{tables(figures)}"


def test_the_figures_of_the_card_are_those_of_this_file(predictor):
    figures = json.loads((FOLDER / FIGURES).read_text())
    assert figures["sha256"] == predictor.metadata["sha256"]
    assert figures["bytes"] == default_checkpoint().stat().st_size
    assert figures["min_confidence"] == predictor.metadata["min_confidence"] == predictor.min_confidence > 0
    assert tuple(figures["labels"]) == predictor.labels
    assert figures["protocol"] == predictor.metadata["protocol"]
    assert sum(figures["train_speakers"].values()) == len(predictor.metadata["speakers"]["train"])


def test_the_card_states_the_license_of_the_weights_apart_from_that_of_the_code():
    card = (FOLDER / CARD).read_text()
    assert "## License of the weights" in card and "CC BY-NC-SA 4.0" in card and "MIT" in card


# Without any flag


@pytest.mark.slow
def test_predict_needs_no_flag_no_network_and_no_optional_package(desk):
    done = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)
    assert row["label"] in (*row["probabilities"], "unsure")
    assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    used, (collects_garbage, keeps_libraries) = json.loads(done.stderr.splitlines()[-1])
    assert collects_garbage and keeps_libraries
    needed = json.loads(subprocess.run([sys.executable, "-c", NEEDED], capture_output=True, check=True).stdout)
    libraries, needed = ({name.partition(".")[0] for name in names} for names in (used, needed))
    assert libraries - needed - sys.stdlib_module_names == {"serx"}, "a prediction waits for the import of the others"
    assert not {"torch._dynamo", "torch._inductor", "torch.onnx"} & set(used)


def test_predict_says_in_one_line_which_model_it_uses_and_what_that_knows(desk, predictor):
    code, out, err = run("predict", "me.wav")
    assert code == 0 and out.startswith("me.wav\n")
    [line] = [line for line in err.splitlines() if line.startswith("model: ")]
    assert f"{', '.join(predictor.labels)}; unsure below {predictor.min_confidence:g}; trained on" in line
    assert predictor.metadata["protocol"] in line and str(FOLDER / CARD) in line


def test_predict_with_a_checkpoint_does_not_speak_of_the_model_that_ships_with_serx(desk, trained):
    code, _, err = run("predict", "--checkpoint", str(trained("train.epochs=1")), "me.wav")
    assert code == 0 and "model: " not in err


def test_listen_needs_no_flag(desk):
    code, out, err = run("listen", "me.wav")
    assert err.startswith("model: ")
    assert (code, bool(out)) in ((0, True), (1, False))  # 1: the voice detector finds no speech in harmonics


@pytest.mark.slow
def test_export_needs_no_flag_and_writes_into_the_current_folder(desk, monkeypatch, trained):
    import onnxruntime

    path = trained("train.epochs=1")
    monkeypatch.setattr("serx.inference.predictor.default_checkpoint", lambda: path)
    code, out, err = run("export")
    assert code == 0 and out.startswith("default.onnx: ") and err.startswith("model: "), err
    metadata = onnxruntime.InferenceSession(desk / "default.onnx").get_modelmeta().custom_metadata_map
    assert metadata["min_confidence"] == "0"
    predictor = Predictor.load(device="cpu", min_confidence=0.35)
    export_onnx(predictor, desk / "careful.onnx")
    metadata = onnxruntime.InferenceSession(desk / "careful.onnx").get_modelmeta().custom_metadata_map
    assert metadata["min_confidence"] == "0.35"


def test_evaluate_without_a_checkpoint_asks_for_a_corpus(desk):
    code, _, err = run("evaluate")
    assert code == 2 and "--root: the model that ships with serx comes without its corpora; add --root DIR" in err
    assert run("stress")[0] == 2


def test_evaluate_without_a_checkpoint_scores_new_speakers_and_writes_into_a_folder_of_its_own(desk):
    rows = [f"me.wav,{emotion},ann,own" for emotion in ("happy",)]
    (desk / "own.csv").write_text("\n".join(["path,emotion,speaker,corpus", *rows]) + "\n")
    code, out, err = run("evaluate", "--root", "own.csv", "--device", "cpu")
    assert code == 0, err
    assert "speakers of own never met in training" in out and err.startswith("model: ")
    assert json.loads((desk / "evaluation/evaluation.json").read_text())["n_clips"] == 1
    assert sorted(path.name for path in FOLDER.glob("evaluation*")) == []


def test_evaluate_without_a_checkpoint_refuses_the_speakers_of_its_training(desk, predictor):
    speakers = [name.split("/")[1] for name in predictor.metadata["speakers"]["train"] if name.startswith("ravdess/")]
    soundfile.write(desk / f"03-01-05-01-01-01-{speakers[0]}.wav", speechlike(1.0, 200, 3), RATE)
    (desk / "me.wav").unlink()
    code, _, err = run("evaluate", "--root", ".", "--part", "all", "--device", "cpu")
    assert code == 6 and f"trained on ravdess/{speakers[0]}" in err


# In Python


def test_the_threshold_of_the_checkpoint_holds_unless_another_is_given(predictor):
    wave = speechlike(1.0, 170, 7)
    confidence = predictor(wave, RATE).confidence
    for threshold, label in ((0.0, predictor.labels[int(np.argmax(values(predictor, wave)))]), (1.0, "unsure")):
        given = Predictor.load(device="cpu", min_confidence=threshold)
        assert given.min_confidence == threshold and given(wave, RATE).label == label
    own = predictor(wave, RATE).label
    assert (own == "unsure") == (confidence < predictor.metadata["min_confidence"])


def values(predictor: Predictor, wave: np.ndarray) -> list[float]:
    return [*predictor(wave, RATE).probabilities.values()]


def test_a_run_of_the_user_has_no_threshold_unless_one_is_given(trained):
    path = trained("train.epochs=1")
    assert Predictor.load(path, "cpu").min_confidence == 0
    assert Predictor.load(path, "cpu", 0.7).min_confidence == 0.7


@pytest.mark.parametrize("threshold", [-0.1, 1.5, "high", None])
def test_a_checkpoint_with_a_threshold_that_is_no_probability_is_refused(threshold, trained, tmp_path):
    saved = checkpoint.load(trained("train.epochs=1"))
    rest = {key: value for key, value in saved.metadata.items() if key not in ("format", "sha256")}
    checkpoint.save(tmp_path / "a.safetensors", saved.tensors, {**rest, "min_confidence": threshold})
    with pytest.raises(serx.SerxError, match="min_confidence"):
        Predictor.load(tmp_path / "a.safetensors", "cpu")


def test_the_installed_model_comes_before_that_of_a_checkout(tmp_path, monkeypatch):
    package = tmp_path / "serx"
    for folder in (package, package / "pretrained", tmp_path / "checkpoints"):
        folder.mkdir()
    monkeypatch.setattr(default_model.serx, "__file__", str(package / "__init__.py"))
    assert default_checkpoint() == tmp_path / "checkpoints/default.safetensors"
    (package / "pretrained/default.safetensors").touch()
    assert default_checkpoint() == package / "pretrained/default.safetensors"


def test_without_its_file_the_error_names_it_and_the_exit_code_is_that_of_checkpoints(desk, monkeypatch):
    monkeypatch.setattr(default_model.serx, "__file__", str(desk / "serx/__init__.py"))
    code, _, err = run("predict", "me.wav")
    assert code == 7 and str(desk / "checkpoints/default.safetensors") in err


@pytest.mark.speech
def test_it_predicts_real_speech_of_a_corpus_that_it_never_met(speech_root, predictor):
    paths = sorted((speech_root / "tess16k").rglob("*.flac"))[:8]
    predictions = predictor(paths)
    assert all(prediction.error is None for prediction in predictions)
    assert len({prediction.label for prediction in predictions}) >= 1


@pytest.mark.speech
@pytest.mark.parametrize(
    ("name", "codec", "bit_rate", "tolerance"),
    [
        ("me.m4a", "alac", None, 0.02),
        ("me.m4a", "aac", 96_000, 0.1),
        ("me.mp3", "libmp3lame", 64_000, 0.1),
        ("me.webm", "libopus", 32_000, 0.1),
        ("me.opus", "libopus", 24_000, 0.1),
    ],
)
def test_a_clip_gets_the_same_verdict_in_any_format(speech_root, predictor, tmp_path, name, codec, bit_rate, tolerance):
    for wav in sorted((speech_root / "ravdess-native").rglob("*.wav"))[:4]:
        wave, rate = soundfile.read(wav, dtype="float32")
        plain = predictor(wav)
        coded = predictor(encode(tmp_path / name, wave, rate, codec, bit_rate=bit_rate))
        change = np.subtract([*coded.probabilities.values()], [*plain.probabilities.values()])
        assert np.abs(change).max() <= tolerance and coded.label == plain.label
        assert coded.is_ood == plain.is_ood
