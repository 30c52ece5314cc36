"""The report's numbers against scikit-learn, its files read back, its tables as a person sees them."""

import csv
import json
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from serx.errors import DataError, DiskError
from serx.evaluation.report import Predictions, format_report, write_report
from serx.evaluation.scores import evaluate
from serx.evaluation.tables import markdown

LABELS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
FILES = {"evaluation.json", "predictions.csv", "confusion.png", "report.png", "speakers.png", "calibration.png"}


def make(speakers=5, labels=LABELS, clips=4, seed=0, **changes):
    """Made-up predictions: speaker k is male for even k and is recognized the better the larger k."""
    generator = np.random.default_rng(seed)
    n = speakers * len(labels) * clips
    speaker_id, targets = np.divmod(np.arange(n) // clips, len(labels))
    logits = generator.standard_normal((n, len(labels)))
    logits[np.arange(n), targets] += 0.6 * speaker_id
    powers = np.exp(logits)
    fields = {
        "paths": tuple(f"clips/{index:04d}.wav" for index in range(n)),
        "speaker_ids": tuple(f"made/{index:02d}" for index in speaker_id),
        "sexes": tuple("female" if index % 2 else "male" for index in speaker_id),
        "intensities": tuple("strong" if index % 3 else "normal" for index in range(n)),
        "targets": targets,
        "probabilities": (powers / powers.sum(1, keepdims=True)).astype(np.float32),
        "labels": tuple(labels),
    }
    return Predictions(**(fields | changes))


def strict(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_every_number_agrees_with_scikit_learn():
    p = make()
    e = evaluate(p, "made fold 0")
    guesses = p.probabilities.argmax(1)
    assert e["accuracy"] == pytest.approx(sk.accuracy_score(p.targets, guesses), abs=1e-12)
    assert e["uar"] == pytest.approx(sk.balanced_accuracy_score(p.targets, guesses), abs=1e-12)
    assert e["macro_f1"] == pytest.approx(sk.f1_score(p.targets, guesses, average="macro"), abs=1e-12)
    assert e["weighted_f1"] == pytest.approx(sk.f1_score(p.targets, guesses, average="weighted"), abs=1e-12)
    assert e["confusion"] == sk.confusion_matrix(p.targets, guesses).tolist()
    table = sk.classification_report(p.targets, guesses, target_names=LABELS, output_dict=True)
    for label in LABELS:
        expected = {"f1" if key == "f1-score" else key: value for key, value in table[label].items()}
        assert e["per_class"][label] == pytest.approx(expected, abs=1e-12)
    for name in set(p.speaker_ids):
        mine = np.array(p.speaker_ids) == name
        speaker = e["per_speaker"][name]
        assert speaker["uar"] == pytest.approx(sk.balanced_accuracy_score(p.targets[mine], guesses[mine]), abs=1e-12)
        assert speaker["n_clips"] == mine.sum()
    for key, names in (("per_sex", p.sexes), ("per_intensity", p.intensities)):
        for name, group in e[key].items():
            mine = np.array(names) == name
            assert group["accuracy"] == pytest.approx(sk.accuracy_score(p.targets[mine], guesses[mine]), abs=1e-12)
    chosen = p.probabilities[np.arange(160), p.targets].astype(float)
    assert e["calibration"]["nll"] == pytest.approx(-np.log(chosen).mean(), abs=1e-12)


def test_speakers_and_sexes_are_told_apart():
    e = evaluate(make(), "made fold 0")
    assert (e["n_clips"], e["n_speakers"], e["protocol"]) == (160, 5, "made fold 0")
    assert e["worst_speaker"] == "made/00"
    assert e["per_speaker"]["made/01"]["sex"] == "female"
    assert {sex: group["n_speakers"] for sex, group in e["per_sex"].items()} == {"female": 2, "male": 3}
    gap = e["per_sex"]["male"]["accuracy"] - e["per_sex"]["female"]["accuracy"]
    assert e["sex_gap_accuracy"] == pytest.approx(100 * gap)
    for name in ("accuracy", "uar", "macro_f1", "weighted_f1"):
        low, high = e["intervals"][name]
        assert low < e[name] < high
    assert evaluate(make(), "made fold 0") == e  # the intervals' draws are seeded


def test_the_sex_gap_counts_men_minus_women():
    p = make(2, ("x", "y"), clips=2, intensities=(None,) * 8)
    min_confidence = np.eye(2)[[0, 0, 1, 1, 0, 0, 0, 0]]  # he is right throughout, she said x at every clip
    p = replace(p, targets=np.array([0, 0, 1, 1, 0, 0, 0, 1]), probabilities=min_confidence)
    e = evaluate(p, "p")
    assert e["sex_gap_accuracy"] == 25  # 100 - 75; in UAR it would be 50
    assert e["worst_speaker"] == "made/01"
    assert e["per_intensity"] == {}


def test_the_files_read_back_as_they_were_meant(tmp_path):
    p = make()
    extra = {"checkpoint": Path("runs/a.safetensors"), "part": "test", "loss": float("nan"), "w": np.float32(0.5)}
    path = write_report(tmp_path / "deep" / "report", p, "made fold 0", extra)
    assert path == tmp_path / "deep" / "report" / "evaluation.json"
    assert {file.name for file in path.parent.iterdir()} == FILES  # and no temporary file
    e = strict(path.read_text())
    assert e == {
        **evaluate(p, "made fold 0"),
        "checkpoint": "runs/a.safetensors",
        "part": "test",
        "loss": None,
        "w": 0.5,
    }
    assert format_report(e)
    for name in FILES - {"evaluation.json", "predictions.csv"}:
        assert (path.parent / name).read_bytes().startswith(b"\x89PNG")
    with (path.parent / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 160
    for row, file_name, target, probabilities in zip(rows, p.paths, p.targets, p.probabilities, strict=True):
        assert (row["path"], row["target"]) == (file_name, LABELS[target])
        assert row["prediction"] == LABELS[probabilities.argmax()]
        assert float(row["confidence"]) == pytest.approx(probabilities.max(), abs=1e-6)
        assert [float(row[f"p_{label}"]) for label in LABELS] == pytest.approx(probabilities.tolist(), abs=1e-6)
    assert list(rows[0])[:5] == ["path", "speaker", "sex", "intensity", "target"]
    assert (rows[-1]["speaker"], rows[-1]["sex"]) == ("made/04", "male")


def test_the_curves_of_a_run_join_the_report_where_its_epochs_are_known(tmp_path):
    scores = {"loss": 1.0, "uar": 0.5}
    epochs = [{"epoch": 0, "train": scores, "valid": scores, "best": True, "protocol": "made fold 0"}]
    path = write_report(tmp_path, make(), "made fold 0", {}, epochs)
    assert {file.name for file in path.parent.iterdir()} == FILES | {"curves.png"}


def test_odd_names_survive_the_files(tmp_path):
    odd = ('a "quoted", name\n.wav', os.fsdecode(b"latin-\xe9.wav"), "日本.wav", "$x$.wav")
    p = make(1, ("$gl\u00fccklich$", "sad, very"), clips=2, paths=odd)
    path = write_report(tmp_path, p, "p $1$", {})
    strict(path.read_text())
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [odd[0], "latin-\\udce9.wav", *odd[2:]]
    assert rows[0]["target"] == "$gl\u00fccklich$"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "p",
    [
        make(1),
        make(1, clips=1, labels=("only",)),
        make(2, sexes=(None,) * 64, intensities=(None,) * 64),
        make(2, targets=np.zeros(64, int)),
        make(3, labels=[f"emotion {index:02d} of a manifest" for index in range(19)], clips=1),
    ],
    ids=["one speaker", "one clip of one class", "nothing known", "absent classes", "nineteen classes"],
)
def test_poor_evaluations_still_make_a_whole_report(tmp_path, p):
    e = strict(write_report(tmp_path, p, "poor", {}).read_text())
    assert all((bounds is None) == (e["n_speakers"] == 1) for bounds in e["intervals"].values())
    text = format_report(e)
    assert "nan" not in text.lower()
    assert max(map(len, text.splitlines())) <= 100
    assert ("no interval: 1 speaker)" in text) == (e["n_speakers"] == 1)


def test_the_terminal_sees_the_uar_first_under_its_protocol():
    e = evaluate(make(24, clips=8), "luna5 fold 0") | {"warnings": ["the epoch was chosen on test clips"]}
    text = format_report(e)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[1] == "warning: the epoch was chosen on test clips"
    low, high = e["intervals"]["uar"]
    headline = (
        f"{'UAR':<12}{100 * e['uar']:5.1f} %  ({100 * low:.1f} to {100 * high:.1f} over 24 speakers)  [luna5 fold 0]"
    )
    scores = [line for line in lines if " % " in line and "(" in line]
    assert scores[0].strip() == headline
    assert len(scores) == 4
    titles = [after for before, after in pairwise(lines) if not before]
    assert len(titles) == 7
    assert all("[luna5 fold 0]" in line for line in [lines[0], *scores, *titles[1:]])
    assert "narrower" not in text
    speakers = [line.split() for line in lines if line.startswith("  made/")]
    assert len(speakers) == 24
    assert [float(row[2]) for row in speakers] == sorted(float(row[2]) for row in speakers)
    assert speakers[0][:2] == ["made/00", "male"]
    happy = [line.split() for line in lines if line.startswith("  happy ")][-1]  # of the confusion matrix
    assert [float(cell) for cell in happy[1:]] == pytest.approx([100 * c / 192 for c in e["confusion"][2]], abs=0.05)


def test_few_speakers_bring_a_caution():
    assert "intervals are narrower" in format_report(evaluate(make(5), "p"))


@pytest.mark.parametrize(
    ("changes", "clue"),
    [
        ({"speaker_ids": ("a",)}, "do not fit"),
        ({"labels": ("a", "b")}, "do not fit"),
        ({"targets": np.full(160, 8)}, "targets 8 to 8"),
        ({"sexes": ("male", "female") * 80}, "two sexes"),
        ({"probabilities": np.full((160, 8), np.nan)}, "160 of 160"),
        ({"probabilities": np.eye(8)[[0] * 159 + [1]] * ([[1]] * 159 + [[3]])}, "1 of 160 .* first clips/0159.wav"),
    ],
)
def test_predictions_that_do_not_fit_together_are_refused(changes, clue):
    with pytest.raises(DataError, match=clue):
        replace(make(), **changes)


def test_an_empty_part_is_refused():
    with pytest.raises(DataError, match="no clip"):
        Predictions((), (), (), (), np.zeros(0, int), np.zeros((0, 2)), ("a", "b"))


def test_extra_may_not_overwrite_a_score(tmp_path):
    with pytest.raises(ValueError, match=r"\['uar'\]"):
        write_report(tmp_path, make(), "p", {"uar": 1.0})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskError, match=r"file/report \(.* MB free\)"):
        write_report(tmp_path / "file" / "report", make(), "p", {})


def test_a_failure_leaves_the_earlier_evaluation_whole(tmp_path, monkeypatch):
    path = write_report(tmp_path, make(), "p", {})
    before = path.read_bytes()
    rename = os.replace

    def fail(source, target):
        if Path(target).name == "predictions.csv":
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(DiskError, match="No space left"):
        write_report(tmp_path, make(seed=1), "q", {})
    assert path.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == FILES


def test_what_sure_verdicts_are_worth_is_told_and_a_confidence_that_nobody_has_is_not():
    pairs = np.array([[0.95, 0.03, 0.02], [0.3, 0.65, 0.05]] * 30, np.float32)
    p = make(5, ("calm", "happy", "sad"), 4, probabilities=pairs)
    e = strict(json.dumps(evaluate(p, "made fold 0")))
    rows = {row["confidence"]: row for row in e["selective"]}
    assert rows[0.6]["coverage"] == 1 and rows[0.7]["coverage"] == 0.5
    right = np.mean([target == 0 for target in p.targets[::2]])
    assert rows[0.9]["accuracy"] == pytest.approx(right)
    told = format_report(e)
    assert ["90%", "50.0", f"{100 * right:.1f}"] in [line.split() for line in told.splitlines()]
    less = {**e, "selective": [{"confidence": 0.9, "coverage": 0.0, "accuracy": None}]}
    assert "--min-confidence" in told and "--min-confidence" not in format_report(less)


def test_a_bar_in_a_cell_opens_no_column_of_markdown():
    assert markdown(["run", "UAR"], [["a|b", "1"]]).splitlines() == ["| run | UAR |", "| --- | --- |", r"| a\|b | 1 |"]
