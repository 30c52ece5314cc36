"""Making the model that ships with serx: what is taken out of a checkpoint, the threshold, and the tables."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import model_card
from benchmarks.model_card import BEGIN, END, choose_min_confidence, pack, read_held_out, shareable, tables, write_card
from serx import checkpoint
from serx.checkpoint.metadata import metadata_fault
from serx.errors import ConfigError, DataError, LeakError, SerxError
from serx.evaluation import evaluate
from serx.evaluation.predictions import Predictions
from serx.inference.predictor import Predictor
from tests.conftest import RATE, speechlike


def predictions(corpora: list[str], confidence: list[float], correct: list[bool]) -> Predictions:
    """Clips of two classes; the first one is predicted."""
    n = len(corpora)
    return Predictions(
        paths=tuple(f"{i}.wav" for i in range(n)),
        speaker_ids=tuple(f"{corpus}/ann" for corpus in corpora),
        sexes=("female",) * n,
        intensities=(None,) * n,
        targets=np.where(correct, 0, 1),
        probabilities=np.array([[p, 1 - p] for p in confidence]),
        labels=("happy", "sad"),
    )


@pytest.fixture
def run(trained) -> Path:
    return trained("train.epochs=1")


# The checkpoint


def test_a_packed_checkpoint_predicts_what_the_run_predicts(run, tmp_path):
    pack(run, tmp_path / "small.safetensors", 0.4)
    wave = speechlike(1.0, 170, 7)
    before, after = (Predictor.load(path, "cpu", 0.0)(wave, RATE) for path in (run, tmp_path / "small.safetensors"))
    assert after == before
    assert Predictor.load(tmp_path / "small.safetensors", "cpu").min_confidence == 0.4


def test_a_packed_checkpoint_still_refuses_its_training_speakers_and_copies_of_its_clips(run, tiny_root, tmp_path):
    small = tmp_path / "small.safetensors"
    pack(run, small, 0.4)
    with pytest.raises(LeakError, match="ravdess/01"):
        evaluate(small, str(tiny_root), "all", "cpu", progress=False)
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for file in (tiny_root / "Actor_01").iterdir():
        shutil.copy(file, renamed / file.name.replace("-01.wav", "-09.wav"))
    with pytest.raises(LeakError, match="-09.wav"):
        evaluate(small, str(renamed), "test", "cpu", progress=False)
    assert evaluate(small, str(tiny_root), device="cpu", progress=False).predictions.paths


def test_folders_become_names_and_everything_else_stays(run):
    metadata = checkpoint.load(run).metadata
    metadata["config"]["train"]["teachers"] = ["/home/ann/folds/0/best.safetensors", "folds/1/best.safetensors"]
    metadata["config"]["data"]["cache"] = "/home/ann/cache"
    metadata["duplicates"] = ["/home/ann/a.wav is a copy of /home/ann/b.wav"]
    shared = shareable(metadata)
    assert shared["config"]["data"]["root"] == ["ravdess"] and shared["config"]["data"]["cache"] is None
    assert shared["config"]["train"]["teachers"] == ["best.safetensors", "folds/1/best.safetensors"]
    assert shared["config"]["model"] == metadata["config"]["model"]
    assert {key: shared[key] for key in ("speakers", "digests", "protocol")} == {
        key: metadata[key] for key in ("speakers", "digests", "protocol")
    }
    assert "/home" not in json.dumps(shared)


def test_teachers_that_knew_other_speakers_stay_and_the_others_are_left_out(run):
    metadata = checkpoint.load(run).metadata
    own = {key: metadata[key] for key in ("protocol", "speakers", "digests")}
    none = {"valid": [], "test": []}
    covered = {
        **own, "path": "/home/ann/a.safetensors", "sha256": "0" * 64, "data": metadata["config"]["data"],
        "role": "teacher", "speakers": {"train": metadata["speakers"]["train"][:1], **none},
        "digests": {"train": metadata["digests"]["train"][:3], **none},
    }  # fmt: skip
    other = {**covered, "path": "/home/ann/b.safetensors", "speakers": {"train": ["emovo/f1"], **none}}
    validated = {**covered, "digests": {**covered["digests"], "valid": ["f" * 32]}}
    kept = shareable({**metadata, "init_from": [covered, other, validated]})["init_from"]
    assert [source["path"] for source in kept] == ["b.safetensors", "a.safetensors"]
    assert kept[0]["data"]["root"] == ["emovo"] and kept[1]["digests"]["valid"] == ["f" * 32]
    assert metadata_fault({**metadata, "init_from": kept}) is None
    assert "init_from" not in shareable({**metadata, "init_from": [covered]})


def test_a_checkpoint_that_is_too_large_is_not_packed(run, tmp_path, monkeypatch):
    monkeypatch.setattr(model_card, "MAX_BYTES", 10_000)
    with pytest.raises(ConfigError, match="at most 10000 ship"):
        pack(run, tmp_path / "small.safetensors", 0.4)
    assert not (tmp_path / "small.safetensors").exists()


# The threshold


def test_the_threshold_leaves_out_the_clips_that_are_wrong_more_often_than_right():
    p = predictions(["x"] * 5, [0.95, 0.9, 0.7, 0.6, 0.55], [True, True, True, False, False])
    assert choose_min_confidence(p) == 0.61
    assert choose_min_confidence(predictions(["x"] * 2, [0.9, 0.6], [True, True])) == 0
    assert choose_min_confidence(predictions(["x"] * 2, [0.9, 0.6], [False, False])) == 0.91


def test_every_corpus_weighs_the_same_however_many_clips_it_has():
    few, many = [0.6], [0.6] * 9
    p = predictions(["few", *["many"] * 9], [*few, *many], [False, *[True] * 5, *[False] * 4])
    assert choose_min_confidence(p) == 0.61  # -1 for the small corpus, 1/9 for the large one
    assert choose_min_confidence(predictions(["one"] * 9, many, [True] * 5 + [False] * 4)) == 0


def test_the_threshold_has_the_largest_gain_of_all_thresholds():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 300)
    correct = random.uniform(0, 1, 300) < 2 * confidence - 1  # right more often than wrong above 0.75
    chosen = choose_min_confidence(predictions(["x"] * 300, [*confidence], [*correct]))
    gain = [np.where(correct, 1, -1)[confidence >= t].sum() for t in np.arange(100) / 100]
    assert np.where(correct, 1, -1)[confidence >= chosen].sum() == max(gain)
    assert abs(chosen - 0.75) < 0.12


# The card


def test_a_row_counts_the_answers_and_scores_them():
    p = predictions(["x"] * 4, [0.9, 0.8, 0.6, 0.55], [True, False, True, False])
    row = model_card.row(p, "kfold fold 0", 0.58)
    assert (row["answered"], row["wrong_of_unsure"]) == (0.75, 1.0)
    assert row["accuracy_answered"] == pytest.approx(2 / 3)
    assert row["recall"] == {"happy": 1.0, "sad": 0.0}


def test_held_out_predictions_without_a_protocol_next_to_them_are_refused(tmp_path):
    (tmp_path / "predictions.csv").write_text("path\n")
    with pytest.raises(DataError, match=r"needs cross_validation\.json or evaluation\.json next to it"):
        read_held_out([tmp_path / "predictions.csv"])


def test_one_command_writes_model_figures_and_tables(run, tess_root, tmp_path):
    evaluate(run, device="cpu", progress=False).write(tmp_path / "held")
    out = tmp_path / "card"
    out.mkdir()
    (out / "README.md").write_text(f"# Card\n\n{BEGIN}\nold\n{END}\n\nLimits\n")
    with pytest.raises(SerxError):  # TESS has emotions that the tiny model does not know
        write_card(run, [tmp_path / "held/predictions.csv"], {"tess": str(tess_root)}, out, None, "COMMAND")
    assert [path.name for path in out.iterdir()] == ["README.md"]
    figures = write_card(run, [tmp_path / "held/predictions.csv"], {}, out, None, "COMMAND")
    assert figures == json.loads((out / "default.json").read_text())
    card = (out / "README.md").read_text()
    assert card == f"# Card\n\n{BEGIN}\n{tables(figures)}{END}\n\nLimits\n"
    assert "| ravdess | English | 2 | 24 |" in card and "`COMMAND`" in card
    assert figures["held_out"]["corpora"]["ravdess"]["uar"] == evaluate(run, device="cpu", progress=False).uar


def test_a_card_without_a_place_for_the_tables_is_refused_before_anything_is_written(run, tmp_path):
    out = tmp_path / "card"
    out.mkdir()
    (out / "README.md").write_text("# Card\n")
    with pytest.raises(ConfigError, match="the tables go between them"):
        write_card(run, [], {}, out, None, "COMMAND")
    assert [path.name for path in out.iterdir()] == ["README.md"]
