"""Evaluations: scores agree with scikit-learn, files can be read back, and the text report is complete and short."""

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
from serx.evaluation import Evaluation, Predictions
from serx.evaluation.report import format_report
from serx.evaluation.scores import score_predictions
from serx.evaluation.tables import markdown

LABELS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
FILES = {"evaluation.json", "predictions.csv", "confusion.png", "report.png", "speakers.png", "calibration.png"}


def random_predictions(speakers=5, labels=LABELS, clips=4, seed=0, **changes):
    """Random predictions: speaker k is male for even k, and a larger k is recognized better."""
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


def strict_json(text):
    """The content of strict JSON, which has no NaN and no infinity."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_every_score_agrees_with_scikit_learn():
    p = random_predictions()
    e = score_predictions(p, "made fold 0")
    predicted = p.probabilities.argmax(1)
    assert e["accuracy"] == pytest.approx(sk.accuracy_score(p.targets, predicted), abs=1e-12)
    assert e["uar"] == pytest.approx(sk.balanced_accuracy_score(p.targets, predicted), abs=1e-12)
    assert e["macro_f1"] == pytest.approx(sk.f1_score(p.targets, predicted, average="macro"), abs=1e-12)
    assert e["weighted_f1"] == pytest.approx(sk.f1_score(p.targets, predicted, average="weighted"), abs=1e-12)
    assert e["confusion"] == sk.confusion_matrix(p.targets, predicted).tolist()
    table = sk.classification_report(p.targets, predicted, target_names=LABELS, output_dict=True)
    for label in LABELS:
        expected = {"f1" if key == "f1-score" else key: value for key, value in table[label].items()}
        assert e["per_class"][label] == pytest.approx(expected, abs=1e-12)
    for name in set(p.speaker_ids):
        own = np.array(p.speaker_ids) == name
        speaker = e["per_speaker"][name]
        assert speaker["uar"] == pytest.approx(sk.balanced_accuracy_score(p.targets[own], predicted[own]), abs=1e-12)
        assert speaker["n_clips"] == own.sum()
    for key, names in (("per_sex", p.sexes), ("per_intensity", p.intensities)):
        for name, group in e[key].items():
            own = np.array(names) == name
            assert group["accuracy"] == pytest.approx(sk.accuracy_score(p.targets[own], predicted[own]), abs=1e-12)
    chosen = p.probabilities[np.arange(160), p.targets].astype(float)
    assert e["calibration"]["nll"] == pytest.approx(-np.log(chosen).mean(), abs=1e-12)


def test_speakers_and_sexes_are_scored_separately():
    e = score_predictions(random_predictions(), "made fold 0")
    assert (e["n_clips"], e["n_speakers"], e["protocol"]) == (160, 5, "made fold 0")
    assert e["worst_speaker"] == "made/00"
    assert e["per_speaker"]["made/01"]["sex"] == "female"
    assert {sex: group["n_speakers"] for sex, group in e["per_sex"].items()} == {"female": 2, "male": 3}
    gap = e["per_sex"]["male"]["accuracy"] - e["per_sex"]["female"]["accuracy"]
    assert e["sex_gap_accuracy"] == pytest.approx(100 * gap)


def test_intervals_contain_the_scores_and_are_the_same_in_every_call():
    e = score_predictions(random_predictions(), "made fold 0")
    for name in ("accuracy", "uar", "macro_f1", "weighted_f1"):
        low, high = e["intervals"][name]
        assert low < e[name] < high
    assert score_predictions(random_predictions(), "made fold 0") == e


def test_the_sex_gap_is_the_accuracy_of_men_minus_that_of_women():
    p = random_predictions(2, ("x", "y"), clips=2, intensities=(None,) * 8)
    certain = np.eye(2)[[0, 0, 1, 1, 0, 0, 0, 0]]  # the man is always correct, the woman is predicted as x throughout
    e = score_predictions(replace(p, targets=np.array([0, 0, 1, 1, 0, 0, 0, 1]), probabilities=certain), "p")
    assert e["sex_gap_accuracy"] == 25  # 100 - 75; in UAR it would be 50
    assert e["worst_speaker"] == "made/01"
    assert e["per_intensity"] == {}


def test_an_evaluation_has_its_main_scores_as_attributes():
    p = random_predictions()
    evaluation = Evaluation(p, "made fold 0", {"part": "test"})
    scores = score_predictions(p, "made fold 0")
    assert (evaluation.uar, evaluation.accuracy, evaluation.protocol) == (
        scores["uar"],
        scores["accuracy"],
        "made fold 0",
    )
    assert evaluation.confusion.tolist() == scores["confusion"]
    assert evaluation.scores == {**scores, "part": "test"}
    assert evaluation.report() == format_report(evaluation.scores)


def test_the_written_files_can_be_read_back(tmp_path):
    p = random_predictions()
    details = {"checkpoint": Path("runs/a.safetensors"), "part": "test", "loss": float("nan"), "w": np.float32(0.5)}
    path = Evaluation(p, "made fold 0", details).write(tmp_path / "deep" / "report")
    assert path == tmp_path / "deep" / "report" / "evaluation.json"
    assert {file.name for file in path.parent.iterdir()} == FILES  # and no temporary file
    e = strict_json(path.read_text())
    plain = {"checkpoint": "runs/a.safetensors", "part": "test", "loss": None, "w": 0.5}
    assert e == {**score_predictions(p, "made fold 0"), **plain}
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


def test_learning_curves_are_drawn_if_the_epochs_are_given(tmp_path):
    scores = {"loss": 1.0, "uar": 0.5}
    epochs = [{"epoch": 0, "train": scores, "valid": scores, "kept": True, "protocol": "made fold 0"}]
    path = Evaluation(random_predictions(), "made fold 0").write(tmp_path, epochs)
    assert {file.name for file in path.parent.iterdir()} == FILES | {"curves.png"}


def test_odd_file_names_and_labels_are_written(tmp_path):
    odd = ('a "quoted", name\n.wav', os.fsdecode(b"latin-\xe9.wav"), "日本.wav", "$x$.wav")
    p = random_predictions(1, ("$gl\u00fccklich$", "sad, very"), clips=2, paths=odd)
    strict_json(Evaluation(p, "p $1$").write(tmp_path).read_text())
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [odd[0], "latin-\\udce9.wav", *odd[2:]]
    assert rows[0]["target"] == "$gl\u00fccklich$"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "p",
    [
        random_predictions(1),
        random_predictions(1, clips=1, labels=("only",)),
        random_predictions(2, sexes=(None,) * 64, intensities=(None,) * 64),
        random_predictions(2, targets=np.zeros(64, int)),
        random_predictions(3, labels=[f"emotion {index:02d} of a manifest" for index in range(19)], clips=1),
    ],
    ids=["one speaker", "one clip of one class", "no sexes or intensities", "absent classes", "nineteen classes"],
)
def test_evaluations_with_gaps_have_a_complete_report(tmp_path, p):
    evaluation = Evaluation(p, "with gaps")
    e = strict_json(evaluation.write(tmp_path).read_text())
    assert all((bounds is None) == (e["n_speakers"] == 1) for bounds in e["intervals"].values())
    text = evaluation.report()
    assert "nan" not in text.lower()
    assert max(map(len, text.splitlines())) <= 100
    assert ("without intervals" in text) == (e["n_speakers"] == 1)


def test_the_report_starts_with_clips_protocol_and_warnings_and_names_the_protocol_once():
    details = {"checkpoint": "run/best.safetensors", "part": "test", "warnings": ["the epoch was chosen on test clips"]}
    text = Evaluation(random_predictions(24, clips=8), "luna5 fold 0, speaker-independent", details).report()
    assert text.splitlines()[:3] == [
        "run/best.safetensors, test: 1536 clips of 24 speakers",
        "protocol: luna5 fold 0, speaker-independent",
        "warning: the epoch was chosen on test clips",
    ]
    assert text.count("luna5") == 1


def test_the_report_has_scores_with_intervals_then_tables():
    evaluation = Evaluation(random_predictions(24, clips=8), "luna5 fold 0")
    e, lines = evaluation.scores, evaluation.report().splitlines()
    assert max(map(len, lines)) <= 100
    low, high = e["intervals"]["uar"]
    start = lines.index("Scores, with 95 % intervals over 24 speakers")
    assert lines[start + 1] == f"  {'UAR':<12}{100 * e['uar']:5.1f} %  ({100 * low:.1f} to {100 * high:.1f})"
    assert [line.split("  ")[1].strip() for line in lines[start + 1 : start + 5]] == [
        "UAR", "accuracy", "macro F1", "weighted F1"
    ]  # fmt: skip
    titles = [after for before, after in pairwise(lines) if not before]
    assert [title.split(":")[0].split(",")[0] for title in titles] == [
        "Scores", "By emotion", "Confusion matrix", "Selective prediction", "By speaker", "By sex", "By intensity"
    ]  # fmt: skip
    speakers = [line.split() for line in lines if line.startswith("  made/")]
    assert len(speakers) == 24
    assert [float(row[2]) for row in speakers] == sorted(float(row[2]) for row in speakers)
    assert speakers[0][:2] == ["made/00", "male"]
    happy = [line.split() for line in lines if line.startswith("  happy ")][-1]  # of the confusion matrix
    assert [float(cell) for cell in happy[1:]] == pytest.approx([100 * c / 192 for c in e["confusion"][2]], abs=0.05)


@pytest.mark.parametrize(("speakers", "few"), [(5, True), (24, False)])
def test_the_report_warns_of_narrow_intervals_with_few_speakers(speakers, few):
    assert ("intervals are narrower" in Evaluation(random_predictions(speakers), "p").report()) == few


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speaker_ids": ("a",)}, "do not fit"),
        ({"labels": ("a", "b")}, "do not fit"),
        ({"targets": np.full(160, 8)}, "targets 8 to 8"),
        ({"sexes": ("male", "female") * 80}, "two sexes"),
        ({"probabilities": np.full((160, 8), np.nan)}, "160 of 160"),
        ({"probabilities": np.eye(8)[[0] * 159 + [1]] * ([[1]] * 159 + [[3]])}, "1 of 160 .* first clips/0159.wav"),
    ],
)
def test_predictions_that_do_not_fit_together_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        replace(random_predictions(), **changes)


def test_an_empty_part_is_refused():
    with pytest.raises(DataError, match="no clip"):
        Predictions((), (), (), (), np.zeros(0, int), np.zeros((0, 2)), ("a", "b"))


def test_details_may_not_overwrite_a_score(tmp_path):
    with pytest.raises(ValueError, match=r"\['uar'\]"):
        Evaluation(random_predictions(), "p", {"uar": 1.0}).write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskError, match=r"file/report: .* \(.* MB free\); name another file"):
        Evaluation(random_predictions(), "p").write(tmp_path / "file" / "report")


def test_a_failed_write_leaves_the_earlier_evaluation_whole(tmp_path, monkeypatch):
    path = Evaluation(random_predictions(), "p").write(tmp_path)
    before = path.read_bytes()
    rename = os.replace

    def fail(source, target):
        if Path(target).name == "predictions.csv":
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(DiskError, match="No space left"):
        Evaluation(random_predictions(seed=1), "q").write(tmp_path)
    assert path.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == FILES


def test_the_report_shows_selective_prediction_at_every_threshold():
    pairs = np.array([[0.95, 0.03, 0.02], [0.3, 0.65, 0.05]] * 30, np.float32)
    p = random_predictions(5, ("calm", "happy", "sad"), 4, probabilities=pairs)
    evaluation = Evaluation(p, "made fold 0")
    rows = {row["confidence"]: row for row in evaluation.scores["selective"]}
    assert rows[0.6]["coverage"] == 1 and rows[0.7]["coverage"] == 0.5
    correct = np.mean([target == 0 for target in p.targets[::2]])
    assert rows[0.9]["accuracy"] == pytest.approx(correct)
    text = evaluation.report()
    assert ["0.9", "50.0", f"{100 * correct:.1f}"] in [line.split() for line in text.splitlines()]


def test_where_all_predictions_are_below_a_threshold_none_is_kept_and_there_is_no_accuracy():
    p = random_predictions(5, ("calm", "happy", "sad"), 4, probabilities=np.full((60, 3), 1 / 3, np.float32))
    evaluation = Evaluation(p, "made fold 0")
    assert {(row["coverage"], row["accuracy"]) for row in evaluation.scores["selective"]} == {(0.0, None)}
    rows = [line.split() for line in evaluation.report().splitlines()]
    assert [f"0.{tenth}" for tenth in range(4, 10)] == [row[0] for row in rows if row[1:] == ["0.0", "-"]]


def test_the_report_says_which_emotions_uar_and_macro_f1_are_means_over():
    p = random_predictions()
    assert "UAR and macro F1 are means over all 8 emotions." in Evaluation(p, "p").report()
    kept = [i for i, target in enumerate(p.targets) if target not in (2, 6)]
    fields = {
        name: tuple(getattr(p, name)[i] for i in kept) for name in ("paths", "speaker_ids", "sexes", "intensities")
    }
    fewer = Evaluation(replace(p, **fields, targets=p.targets[kept], probabilities=p.probabilities[kept]), "p")
    text = " ".join(fewer.report().split())
    assert "UAR and macro F1 are means over the 6 emotions that have clips, without happy, disgust." in text
    targets, predicted = p.targets[kept], p.predicted[kept]
    assert set(predicted) > set(targets)  # both are predicted, which is not why a class counts
    averages = {"average": "macro", "labels": np.unique(targets)}
    assert fewer.uar == pytest.approx(sk.recall_score(targets, predicted, **averages))
    assert fewer.scores["macro_f1"] == pytest.approx(sk.f1_score(targets, predicted, **averages))


def test_a_single_clip_has_an_evaluation(tmp_path):
    p = Predictions(("a.wav",), ("ann",), (None,), (None,), np.array([1]), np.array([[0.6, 0.4]]), ("happy", "sad"))
    evaluation = Evaluation(p, "made fold 0")
    assert (evaluation.uar, evaluation.scores["macro_f1"], evaluation.scores["intervals"]["uar"]) == (0, 0, None)
    report = evaluation.report()
    assert "means over the 1 emotion that has clips, without happy." in report and "without intervals" in report
    strict_json(evaluation.write(tmp_path).read_text())


def test_why_recordings_may_be_out_of_distribution_without_a_flag_is_in_the_report():
    details = {"ood_fraction": 0.1, "ood_unknown": "unknown: fitted on 3 speakers; 8 are needed"}
    text = " ".join(Evaluation(random_predictions(), "p", details).report().split())
    assert "flagged as out-of-distribution: 10.0 %" in text
    assert "whether other clips are out-of-distribution is unknown: fitted on 3 speakers" in text


def test_a_bar_in_a_markdown_cell_is_escaped():
    assert markdown(["run", "UAR"], [["a|b", "1"]]).splitlines() == ["| run | UAR |", "| --- | --- |", r"| a\|b | 1 |"]
