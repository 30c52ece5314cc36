"""`serx ensemble`: one checkpoint of several, which is used like any other; what does not fit together is refused."""

import io
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from serx import checkpoint
from serx.checkpoint.header import NO_SHA256
from serx.cli.main import main
from serx.config.loader import from_tree, load_config
from serx.errors import CheckpointError, ConfigError, LeakError
from serx.evaluation import evaluate
from serx.evaluation.held_out import load_held_out
from serx.inference import Predictor
from serx.inference.export import export_onnx
from serx.training.ensemble import build_ensemble
from serx.training.run_folder import BEST
from serx.training.trainer import fit
from tests.conftest import RATE, batched, speechlike

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
CNN = {"kind": "cnn2d", "stem": 8, "widths": (8,), "strides": ((2, 2),), "embedding": 16}
MLP = {"kind": "mlp", "widths": (16,)}
SPLIT = {"protocol": "speakers", "test_speakers": ("5", "6"), "valid_speakers": ("3", "4")}


@pytest.fixture(scope="module")
def train(tmp_path_factory, tiny_root, encoder_folder):
    """A function from a model, and changes of sections, to the best checkpoint of a run of one epoch."""
    finished: dict[str, Path] = {}

    def run(model: dict, features: dict | None = None, **sections: dict) -> Path:
        key = repr((model, features, sections))
        if key not in finished:
            tree = {
                "data": {"root": str(tiny_root), **SPLIT, **sections.get("data", {})},
                "features": {"n_mels": 20, "n_fft": 512} if features is None else features,
                "model": model,
                "train": {"epochs": 1, "batch_size": 8, "device": "cpu", "threads": 1, **sections.get("train", {})},
            }
            folder = tmp_path_factory.mktemp("voter") / "run"
            fit(from_tree(tree, source="test"), folder, progress=False)
            finished[key] = folder / BEST
        return finished[key]

    return run


@pytest.fixture(scope="module")
def cnn(train):
    return train({**CNN, "tta_speeds": (0.9375, 1.0625)})


@pytest.fixture(scope="module")
def probe(train, encoder_folder):
    model = {"kind": "encoder_probe", "source": str(encoder_folder("whisper")), "hidden": 8}
    return train(model, {"stack": ("waveform",), "normalize": "none"})


@pytest.fixture(scope="module")
def mlp(train):
    """With the same labels in another order."""
    return train(MLP, data={"labels": ("angry", "neutral", "happy")})


@pytest.fixture(scope="module")
def built(tmp_path_factory, cnn, probe, mlp):
    """The ensemble of all three with different weights."""
    path = tmp_path_factory.mktemp("built") / "ensemble.safetensors"
    return build_ensemble([cnn, probe, mlp], path, [2.0, 1.0, 1.0]), path


def average(paths, shares, waveform, lengths) -> tuple[torch.Tensor, tuple[str, ...]]:
    """The weighted geometric mean of the probabilities of checkpoints, and their labels as the first has them."""
    predictors = [Predictor.load(path, CPU) for path in paths]
    labels, product = predictors[0].labels, 1.0
    for predictor, share in zip(predictors, shares, strict=True):
        columns = [predictor.labels.index(label) for label in labels]
        product = product * predictor.recognizer.probabilities(waveform, lengths)[:, columns].double() ** share
    return product / product.sum(-1, keepdim=True), labels


def test_the_checkpoint_gives_the_weighted_geometric_mean_of_its_checkpoints(built, cnn, probe, mlp, clips):
    waveform, lengths = batched(clips)
    expected, labels = average([cnn, probe, mlp], (0.5, 0.25, 0.25), waveform, lengths)
    predictor = Predictor.load(built[1], CPU)
    assert predictor.labels == labels != Predictor.load(mlp, CPU).labels
    np.testing.assert_allclose(predictor.recognizer.probabilities(waveform, lengths), expected, atol=1e-6)


def test_the_metadata_are_those_of_all_voters_together(built, cnn, probe, mlp):
    metadata = Predictor.load(built[1], CPU).metadata
    one = Predictor.load(cnn, CPU).metadata
    assert metadata["speakers"] == one["speakers"] and metadata["digests"] == one["digests"]
    assert metadata["speaker_independent"] is True
    names = [f"({Predictor.load(path, CPU).metadata['sha256'][:8]})" for path in (cnn, probe, mlp)]
    stamp = f"ensemble of cnn2d {names[0]}, encoder_probe {names[1]} and mlp {names[2]}"
    assert metadata["protocol"] == f"{one['protocol']}; {stamp}" == built[0].protocol
    assert built[0].notes == ()
    with pytest.raises(ConfigError, match="is an ensemble already"):
        build_ensemble([built[1], mlp], built[1].with_name("nested.safetensors"))


@pytest.mark.usefixtures("trusted")
def test_an_ensemble_is_evaluated_and_adapted_like_one_model(built, cnn, probe, mlp, tiny_root):
    evaluation = evaluate(built[1], progress=False)
    assert "ensemble of cnn2d" in evaluation.protocol and len(evaluation.predictions.paths) == 24
    predictions = [evaluate(path, progress=False).predictions for path in (cnn, probe, mlp)]
    product = np.ones((24, 3))
    for each, share in zip(predictions, (0.5, 0.25, 0.25), strict=True):
        assert each.paths == evaluation.predictions.paths
        columns = [each.labels.index(label) for label in evaluation.predictions.labels]
        product *= each.probabilities[:, columns] ** share
    expected = product / product.sum(1, keepdims=True)
    np.testing.assert_allclose(evaluation.predictions.probabilities, expected, atol=1e-5)

    valid = load_held_out(built[1], part="valid", progress=False)
    assert "these VALIDATION clips chose epochs and fitted temperatures of its voters" in valid.protocol
    with pytest.raises(LeakError, match="trained on ravdess/01, ravdess/02"):
        evaluate(built[1], part="all", progress=False)

    adapted = evaluate(built[1], progress=False, adapt=True)
    assert "ADAPTED" in adapted.protocol
    assert np.abs(adapted.predictions.probabilities - expected).max() > 1e-3
    assert evaluate(built[1], progress=False).predictions.probabilities == pytest.approx(
        evaluation.predictions.probabilities
    )


def test_an_exported_ensemble_gives_the_same_probabilities(train, cnn, tmp_path):
    mlp = train(MLP)
    build_ensemble([cnn, mlp], tmp_path / "two.safetensors")
    exported = export_onnx(Predictor.load(tmp_path / "two.safetensors", CPU), tmp_path / "two.onnx")
    assert exported.max_difference < 1e-5 and exported.n_clips > 4


def test_a_support_vector_machine_votes_with_its_support_vectors(train, tmp_path, clips):
    vectors = {"stack": ("mfcc",), "n_mfcc": 12, "statistics": ("mean", "std")}
    svm = train({"kind": "classical", "classifier": "svm", "c": (1.0,)}, vectors)
    mlp = train(MLP)
    build_ensemble([svm, mlp], tmp_path / "both.safetensors")
    waveform, lengths = batched(clips)
    expected, _ = average([svm, mlp], (0.5, 0.5), waveform, lengths)
    predictor = Predictor.load(tmp_path / "both.safetensors", CPU)
    np.testing.assert_allclose(predictor.recognizer.probabilities(waveform, lengths), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"test_speakers": ("1",), "valid_speakers": ("3", "4")}, r"ravdess/05, ravdess/06, of the test part"),
        ({"test_speakers": ("5", "6"), "valid_speakers": ("3",)}, r"ravdess/04, of the valid part"),
        ({"test_speakers": ("6",), "valid_speakers": ("3", "4", "5")}, r"ravdess/05, of the test part"),
        ({"protocol": "random", "test_speakers": (), "valid_speakers": ()}, r"ravdess/05, ravdess/06, of the test"),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_a_checkpoint_trained_on_what_another_one_holds_out_is_refused(data, message, swapped, train, cnn, tmp_path):
    paths = [cnn, train(MLP, data=data)]
    if swapped:
        paths.reverse()
    with pytest.raises(LeakError, match=f"cannot vote together: {message if not swapped else ''}"):
        build_ensemble(paths, tmp_path / "both.safetensors")
    assert not (tmp_path / "both.safetensors").exists()


def test_two_random_splits_are_refused_because_of_their_clips(train, tmp_path):
    random = {"protocol": "random", "test_speakers": (), "valid_speakers": ()}
    paths = [train(MLP, data={**random, "split_seed": seed}) for seed in (0, 1)]
    with pytest.raises(LeakError, match=r"cannot vote together: [0-9]+ clips, of the test part of the first"):
        build_ensemble(paths, tmp_path / "both.safetensors")


def test_a_copy_of_a_test_clip_under_another_name_is_found(train, cnn, tiny_root, tmp_path):
    """The other corpus has a louder copy of a clip of speaker 05."""
    rows = ["path,emotion,speaker,corpus,split"]
    for n, part in enumerate(["train"] * 6 + ["test"] * 3):
        emotion = ("neutral", "happy", "angry")[n % 3]
        soundfile.write(tmp_path / f"{n}.wav", speechlike(0.5, 140 + 30 * n, 77 + n), RATE)
        rows.append(f"{n}.wav,{emotion},p{n // 3},own,{part}")
    source = sorted((Path(tiny_root) / "Actor_05").glob("*.wav"))[0]
    wave, _ = soundfile.read(source)
    soundfile.write(tmp_path / "0.wav", 1.5 * wave, RATE)
    (tmp_path / "own.csv").write_text("\n".join(rows) + "\n")
    data = {"root": str(tmp_path / "own.csv"), "protocol": "manifest", "test_speakers": (), "valid_speakers": ()}
    other = train(MLP, data={**data, "valid_fraction": 0.0}, train={"select": "last"})
    with pytest.raises(LeakError, match=rf"{source.name} \(a copy of 0\.wav\).*of the test part of the first"):
        build_ensemble([cnn, other], tmp_path / "both.safetensors")


def test_what_a_voter_began_from_is_recorded_and_may_not_have_seen_what_another_one_holds_out(cnn, mlp, tmp_path):
    saved = checkpoint.load(mlp)
    for speakers, leaked in ((["ravdess/01"], False), (["ravdess/05"], True)):
        source = {
            "path": "first.safetensors",
            "sha256": "1" * 64,
            "protocol": "speakers, speaker-independent",
            "speakers": {"train": speakers, "valid": [], "test": []},
            "digests": {"train": saved.metadata["digests"]["train"][:3], "valid": [], "test": []},
            "data": saved.metadata["config"]["data"],
        }
        metadata = {**saved.metadata, "init_from": [source], "sha256": NO_SHA256}
        checkpoint.save(tmp_path / "begun.safetensors", saved.tensors, metadata)
        output = tmp_path / "both.safetensors"
        if leaked:
            with pytest.raises(LeakError, match=r"ravdess/05, of the test part of .*, trained first\.safetensors"):
                build_ensemble([cnn, tmp_path / "begun.safetensors"], output)
        else:
            build_ensemble([cnn, tmp_path / "begun.safetensors"], output)
            assert Predictor.load(output, CPU).metadata["init_from"] == [source]
            output.unlink()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"label_map": {"neutral": "calm"}}, "only one of them has calm, neutral"),
        ({"label_map": {"neutral": None}}, "only one of them has neutral"),
        ({"trim_db": 30.0}, r"data\.trim_db is None and 30\.0"),
        ({"sample_rate": 8000}, r"data\.sample_rate is 16000 and 8000"),
    ],
)
def test_other_labels_and_other_decoding_are_refused(data, message, train, cnn, tmp_path):
    other = train(MLP, {"n_mels": 12, "n_fft": 512}, data=data)
    with pytest.raises(ConfigError, match=f"cannot vote together: {message}"):
        build_ensemble([cnn, other], tmp_path / "both.safetensors")


def test_a_wrong_request_is_one_clear_line(cnn, mlp, tmp_path):
    output = tmp_path / "both.safetensors"
    copy = shutil.copy(cnn, tmp_path / "copy.safetensors")
    for paths, weights, error, message in (
        ([cnn], None, ConfigError, "2 to 16 checkpoints, and 1 is given"),
        ([cnn, mlp] * 9, None, ConfigError, "and 18 are given"),
        ([cnn, copy], None, ConfigError, "are the same checkpoint"),
        ([cnn, mlp], [1.0], ConfigError, "1 weights for 2 checkpoints"),
        ([cnn, mlp], [1.0, 0.0], ConfigError, "weight 0.0: not a number above 0"),
        ([cnn, mlp], [1.0, float("nan")], ConfigError, "weight nan"),
        ([cnn, "superb/wav2vec2-base-superb-er"], None, ConfigError, "the speakers that trained a published model"),
        ([cnn, tmp_path / "none.safetensors"], None, CheckpointError, "none.safetensors: cannot read"),
    ):
        with pytest.raises(error, match=message):
            build_ensemble(paths, output, weights)
    before = Path(copy).read_bytes()
    with pytest.raises(ConfigError, match="is there already"):
        build_ensemble([cnn, mlp], copy)
    assert Path(copy).read_bytes() == before and not output.exists()
    with pytest.raises(ConfigError, match="is not a folder"):
        build_ensemble([cnn, mlp], tmp_path / "none" / "both.safetensors")


def test_an_ensemble_cannot_be_trained_and_the_line_names_the_command(built, tiny_config, tmp_path):
    command = "serx ensemble CHECKPOINT CHECKPOINT"
    recipe = tmp_path / "ensemble.yaml"
    recipe.write_text("data: {root: x}\nmodel: {kind: ensemble}\n")
    with pytest.raises(ConfigError, match=command) as error:
        load_config(recipe)
    assert "\n" not in str(error.value)
    config = Predictor.load(built[1], CPU).config
    for resume in (False, True):
        folder = tmp_path / f"run{resume}"
        if resume:
            folder.mkdir()
            shutil.copy(built[1], folder / "last.safetensors")
        with pytest.raises(ConfigError, match=command):
            fit(config, folder, resume, progress=False)
    with pytest.raises(ConfigError, match="is an ensemble; begin with a checkpoint"):
        fit(tiny_config(f"train.init_from={built[1]}"), tmp_path / "begun", progress=False)


def test_the_command_says_who_votes_and_how_to_evaluate(cnn, mlp, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = io.TextIOWrapper(io.BytesIO(), write_through=True)
    words = ["ensemble", str(cnn), str(mlp), "--weights", "3", "1", "--output", "both.safetensors"]
    with redirect_stdout(out), redirect_stderr(out), pytest.raises(SystemExit) as left:
        main(None, words)
    printed = out.buffer.getvalue().decode()
    assert left.value.code in (0, None), printed
    assert "75.0 %  cnn2d" in printed and "25.0 %  mlp" in printed
    assert "evaluate --checkpoint both.safetensors" in printed
    with redirect_stdout(out), redirect_stderr(out), pytest.raises(SystemExit) as left:
        main(None, words)
    assert left.value.code == 2


def test_a_forged_ensemble_is_refused_before_its_models_are_built(built, tmp_path):
    saved = checkpoint.load(built[1])
    voters = saved.metadata["config"]["model"]["voters"]
    for change, message in (
        ({"label_order": [0, 0, 1]}, "label_order"),
        ({"weight": -1.0}, "weight"),
        ({"model": {**voters[0]["model"], "widths": [4096, 4096], "strides": [[2, 2], [2, 2]]}}, "its configuration"),
        ({"model": saved.metadata["config"]["model"]}, "cannot vote in another one"),
    ):
        config = saved.metadata["config"]
        forged = [{**voters[0], **change}, *voters[1:]]
        metadata = {**saved.metadata, "config": {**config, "model": {**config["model"], "voters": forged}}}
        checkpoint.save(tmp_path / "forged.safetensors", saved.tensors, {**metadata, "sha256": NO_SHA256})
        with pytest.raises(CheckpointError, match=message):
            Predictor.load(tmp_path / "forged.safetensors", CPU)
