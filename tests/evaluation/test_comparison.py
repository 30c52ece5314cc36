"""Comparisons of two runs speaker by speaker agree with scipy and with values worked out by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from serx.errors import DataError
from serx.evaluation import Evaluation
from serx.evaluation.comparison import compare, compare_runs, write_comparison
from serx.evaluation.comparison_report import format_comparison, format_tests, markdown_comparison
from serx.evaluation.cross_validation_report import write_cross_validation
from serx.evaluation.finished_runs import FinishedRun, read_run
from serx.evaluation.scores import score_predictions
from tests.evaluation.test_pooling import ADAPTED, fold_results
from tests.evaluation.test_report import random_predictions


def test_differences_and_tests_agree_with_scipy_over_speakers():
    a, b = random_predictions(seed=1), random_predictions(seed=2)
    result = compare(fold_results(a), fold_results(b))
    scores_a, scores_b = score_predictions(a, "p"), score_predictions(b, "p")
    for name in ("uar", "accuracy"):
        assert result[name]["difference"] == pytest.approx(scores_a[name] - scores_b[name])
        gains = [
            scores_a["per_speaker"][s][name] - scores_b["per_speaker"][s][name] for s in sorted(scores_a["per_speaker"])
        ]
        assert [s[name] for s in result["per_speaker"].values()] == pytest.approx(gains)
        assert result[name]["wilcoxon_p"] == pytest.approx(stats.wilcoxon(np.round(gains, 12)).pvalue)
        better, worse = sum(g > 1e-9 for g in gains), sum(g < -1e-9 for g in gains)
        assert (result[name]["better"], result[name]["worse"]) == (better, worse)
        assert result[name]["sign_p"] == pytest.approx(stats.binomtest(better, better + worse).pvalue)


def test_a_run_compared_with_itself_has_no_difference():
    result = compare(fold_results(random_predictions()), fold_results(random_predictions()))
    assert result["uar"]["difference"] == 0 and result["uar"]["interval"] == [0, 0]
    assert (result["uar"]["wilcoxon_p"], result["uar"]["sign_p"]) == (1, 1)


def test_a_run_that_is_better_for_all_six_speakers_is_better_by_the_sign_test():
    a = random_predictions(6)
    certain = np.eye(8)[a.targets]
    wrong = np.where((np.arange(len(a.targets)) % 32 == 0)[:, None], np.roll(certain, 1, axis=1), certain)
    folds = ((0, 1, 2), (3, 4, 5))
    result = compare(
        fold_results(replace(a, probabilities=certain), folds=folds),
        fold_results(replace(a, probabilities=wrong), folds=folds),
    )
    assert (result["accuracy"]["better"], result["accuracy"]["worse"]) == (6, 0)
    assert result["accuracy"]["sign_p"] == pytest.approx(2 / 2**6)
    assert result["accuracy"]["interval"] == pytest.approx([1 / 32, 1 / 32])  # the same resample of speakers for both


def test_the_paired_interval_is_narrower_than_that_of_a_single_run():
    """Speakers who are difficult for one run are difficult for the other, which pairing removes."""
    a = random_predictions(12, seed=1)
    nearly = a.probabilities.copy()
    nearly[::40] = nearly[::40, ::-1]
    b = replace(a, probabilities=nearly)
    folds = (tuple(range(6)), tuple(range(6, 12)))
    low, high = compare(fold_results(a, folds=folds), fold_results(b, folds=folds))["uar"]["interval"]
    single = score_predictions(a, "p")["intervals"]["uar"]
    assert high - low < 0.5 * (single[1] - single[0])


def test_scores_are_means_over_seeds_whose_numbers_may_differ():
    a, others = random_predictions(seed=1), [random_predictions(seed=seed) for seed in (2, 3)]
    result = compare(fold_results(a), [t for seed, p in enumerate(others) for t in fold_results(p, seed)])
    assert result["uar"]["b"] == pytest.approx(np.mean([score_predictions(p, "p")["uar"] for p in others]))


def test_runs_with_different_clips_or_labels_are_refused():
    a = random_predictions()
    with pytest.raises(DataError, match="different clips"):
        compare(fold_results(a), fold_results(random_predictions(clips=3)))
    renamed = replace(a, paths=("clips/other.wav", *a.paths[1:]))
    with pytest.raises(DataError, match=r"different clips \(2 "):
        compare(fold_results(a), fold_results(renamed))
    with pytest.raises(DataError, match="different clips"):
        compare(fold_results(a), fold_results(a)[:2])
    with pytest.raises(DataError, match="nothing to compare"):
        compare(fold_results(a), fold_results(replace(a, labels=tuple(reversed(a.labels)))))


def test_runs_are_compared_after_the_corpus_has_moved():
    a = random_predictions()
    moved = replace(a, paths=tuple(f"/elsewhere/{path}" for path in a.paths))
    assert compare(fold_results(a), fold_results(moved))["uar"]["difference"] == 0
    same_names = replace(a, paths=tuple(f"{i}/clip.wav" for i in range(160)))
    with pytest.raises(DataError, match="different clips"):
        compare(
            fold_results(same_names), fold_results(replace(a, paths=tuple(f"other/{i}/clip.wav" for i in range(160))))
        )


def compared(*results, names="abcdefg") -> dict:
    """The comparison of runs with these results."""
    return compare_runs([FinishedRun(name, r) for name, r in zip(names, results, strict=False)])


def test_the_report_has_both_names_both_protocols_and_every_speaker():
    runs = fold_results(random_predictions(seed=1)), fold_results(random_predictions(seed=2))
    text = format_comparison(compared(*runs, names=("runs/baseline", "runs/net")))
    assert "A: runs/baseline [made folds 0-2, speaker-independent]" in text and "B: runs/net" in text
    assert text.count("\n  made/") == 5
    assert max(map(len, text.splitlines())) <= 100
    uar = compare(runs[1], runs[0])["uar"]
    low, high = (100 * bound for bound in uar["interval"])
    assert f"B - A {100 * uar['difference']:+.1f} points (95 %: {low:+.1f} to {high:+.1f})" in " ".join(text.split())


def test_the_report_warns_if_only_one_run_is_adapted():
    adapted, plain = fold_results(random_predictions(), protocol=ADAPTED), fold_results(random_predictions())
    warning = "DIFFERENT PROTOCOLS: only A is adapted to each speaker"
    assert warning in format_comparison(compared(adapted, plain))
    assert "DIFFERENT PROTOCOLS" not in format_comparison(compared(adapted, adapted))


def test_two_folders_are_compared_on_their_common_folds(tmp_path):
    a, b = fold_results(random_predictions(seed=1)), fold_results(random_predictions(seed=2))
    write_cross_validation(tmp_path / "a", a, {})
    write_cross_validation(tmp_path / "b", b[:2], {})
    result = compare_runs([read_run(tmp_path / "b"), read_run(tmp_path / "a")])
    text = " ".join(format_comparison(result).split())
    assert "B - A, over 3 speakers, made folds 0-1, speaker-independent" in text
    write_comparison(tmp_path / "a", result)
    written = json.loads((tmp_path / "a/comparison.json").read_text())
    assert written["comparisons"][0]["uar"] == compare(a[:2], b[:2])["uar"]
    write_cross_validation(tmp_path / "c", b[2:], {})
    [refused] = compare_runs([read_run(tmp_path / "b"), read_run(tmp_path / "c")])["comparisons"]
    assert "different clips" in refused["not_compared"]


def test_each_run_is_compared_with_the_first_and_one_of_other_clips_is_only_listed():
    first, second, other = (random_predictions(seed=1), random_predictions(seed=2), random_predictions(clips=3))
    runs = [fold_results(p) for p in (first, second, other)]
    result = compared(*runs)
    assert result["comparisons"][0]["uar"] == compare(runs[1], runs[0])["uar"]
    assert "different clips" in result["comparisons"][1]["not_compared"]
    assert [run["uar"] for run in result["runs"]] == pytest.approx(
        [score_predictions(p, "")["uar"] for p in (first, second, other)]
    )
    text = format_comparison(result)
    assert "C - A: not compared: the two tested different clips" in text
    speakers = [line.split() for line in text.splitlines() if line.startswith("  made/")]
    assert len(speakers) == 5 and all(row[3] == "-" for row in speakers)
    with pytest.raises(DataError, match="two or more"):
        compared(runs[0])


def test_a_single_run_keeps_its_protocol_stamp_word_for_word(tmp_path):
    stamp = "speakers of emodb never met in training; trained under luna5 fold 3, speaker-independent"
    Evaluation(random_predictions(), stamp, {"checkpoint": str(tmp_path / "x/best.safetensors")}).write(tmp_path)
    result = compare_runs([read_run(tmp_path), read_run(tmp_path)])
    assert [run["protocol"] for run in result["runs"]] == [stamp, stamp]
    assert result["comparisons"][0]["protocol"] == {"a": stamp, "b": stamp}
    assert result["settings"] is None  # no config.yaml is there


def test_a_fold_of_a_cross_validation_is_compared_with_a_single_run_of_that_fold(tmp_path):
    a, b = random_predictions(seed=1), fold_results(random_predictions(seed=2))
    alone = fold_results(a)[1]
    Evaluation(alone.predictions, alone.protocol, {"checkpoint": "gone/best.safetensors"}).write(tmp_path / "run")
    write_cross_validation(tmp_path / "folds", b, {})
    [comparison] = compare_runs([read_run(tmp_path / "run"), read_run(tmp_path / "folds")])["comparisons"]
    assert comparison["uar"] == compare([b[1]], [alone])["uar"]


def test_folders_without_a_finished_run_are_refused_with_what_to_do(tmp_path):
    for name, content, message in (
        ("none", None, "no such folder"),
        ("empty", {}, "run serx evaluate --checkpoint .*empty/best.safetensors first"),
        ("damaged", {"evaluation.json": "{"}, "no complete evaluation"),
        ("list", {"evaluation.json": "[]"}, "evaluate the run again"),
        ("damaged too", {"cross_validation.json": "[1]"}, "no finished cross-validation"),
    ):
        if content is not None:
            (tmp_path / name).mkdir()
            for file, text in content.items():
                (tmp_path / name / file).write_text(text)
        with pytest.raises(DataError, match=message):
            read_run(tmp_path / name)


def test_curves_are_means_over_the_trainings_of_a_run():
    def lines(*uars):
        return [
            {"epoch": i, "train": {"uar": u, "loss": 1.0}, "valid": {"uar": u / 2, "loss": 2.0}}
            for i, u in enumerate(uars)
        ]

    results = fold_results(random_predictions())
    runs = [FinishedRun("a", results, curves=[lines(0.2, 0.4), lines(0.4)]), FinishedRun("b", results)]
    first, second = compare_runs(runs)["curves"]
    assert first["epoch"] == [1, 2] and second["epoch"] == []
    assert first["valid_uar"] == pytest.approx([0.15, 0.2]) and first["train_loss"] == [1.0, 1.0]
    text = format_comparison(compare_runs(runs))
    start = text.splitlines().index("Validation UAR by epoch, %")
    assert [line.split() for line in text.splitlines()[start + 1 : start + 4]] == [
        ["1", "2"],
        ["A", "15.0", "20.0"],
        ["B", "-", "-"],
    ]


def test_the_table_has_a_row_for_each_run_and_differences_where_they_make_sense(tmp_path):
    runs = {
        "whole": fold_results(random_predictions(seed=1)),
        "less": fold_results(random_predictions(seed=2)),
        "part": fold_results(random_predictions(seed=2))[:2],
        "adapted": fold_results(random_predictions(seed=1), protocol=ADAPTED),
    }
    for name, results in runs.items():
        write_cross_validation(tmp_path / name, results, {})
    lines = markdown_comparison(compare_runs([read_run(tmp_path / name) for name in runs])).splitlines()
    title, _, head, _, whole, less, fewer, adapted, _, note = lines
    assert note.startswith("With 3 speakers the intervals are narrower than they should be: 90 % of them or fewer hold")
    assert title == "made folds 0-2, speaker-independent:"
    assert len({line.count("|") for line in (head, whole, less, fewer, adapted)}) == 1
    assert (
        whole.endswith("| - |")
        and f"{100 * score_predictions(random_predictions(seed=1), 'p')['accuracy']:.1f} |" in whole
    )
    uar = compare(runs["less"], runs["whole"])["uar"]
    low, high = (100 * bound for bound in uar["interval"])
    assert less.endswith(f"| {100 * uar['difference']:+.1f} ({low:+.1f} to {high:+.1f}) |")
    assert fewer.endswith("| other clips |") and "[made folds 0-1, speaker-independent]" in fewer
    assert adapted.endswith("| another protocol |") and "ADAPTED" in adapted


@pytest.mark.parametrize(("speakers", "few"), [(5, True), (15, False)])
def test_a_comparison_of_few_speakers_warns_of_narrow_intervals(speakers, few):
    folds = (tuple(range(speakers // 2)), tuple(range(speakers // 2, speakers)))
    a, b = (fold_results(random_predictions(speakers, seed=seed), folds=folds) for seed in (1, 2))
    text = format_comparison(compared(a, b))
    assert (f"With {speakers} speakers the intervals are narrower" in text) == few


def test_the_settings_that_differ_are_named(tmp_path):
    results = fold_results(random_predictions())
    config = {
        "data": {"root": "ravdess", "cache": None, "fold": 0},
        "model": {"kind": "cnn2d", "dropout": 0.2, "gru": 12},
        "optim": {"lr": 1e-3},
        "train": {"device": "cpu", "epochs": 3, "seed": 0},
    }
    other = {
        "data": {"root": "ravdess", "cache": "/cache", "fold": 2},
        "model": {"kind": "cnn1d", "dropout": 0.2, "widths": [8, 8]},
        "optim": {"lr": 3e-3},
        "train": {"device": "cuda:1", "epochs": 3, "seed": 4},
    }
    for name, extra in (("a", {"config": config}), ("b", {"config": other}), ("unknown", {})):
        write_cross_validation(tmp_path / name, results, extra)

    def lines(a: str, b: str) -> list[str]:
        return format_comparison(compare_runs([read_run(tmp_path / a), read_run(tmp_path / b)])).splitlines()

    text = lines("a", "b")
    start = text.index("settings that differ (A -> B):")
    assert text[start + 1 : start + 4] == [
        "  model.kind: cnn2d -> cnn1d",
        "  optim.lr: 0.001 -> 0.003",
        "  and 2 settings that only some of the models have",
    ]
    assert compare_runs([read_run(tmp_path / "a"), read_run(tmp_path / "b")])["settings"] == {
        "model.gru": [12, None], "model.kind": ["cnn2d", "cnn1d"], "model.widths": [None, [8, 8]],
        "optim.lr": [1e-3, 3e-3],
    }  # fmt: skip
    assert "settings that differ: none" in lines("a", "a")
    assert "settings that differ: unknown, because a run does not record its settings" in lines("a", "unknown")


def test_a_p_value_too_small_for_three_digits_is_shown_as_a_bound():
    for p, shown in ((0.00043, "< 0.001"), (0.001, "0.001"), (0.0625, "0.062")):
        text = format_tests({"better": 3, "worse": 1, "wilcoxon_p": p, "sign_p": p})
        assert text == f"better for 3, worse for 1 speakers; Wilcoxon p {shown}, sign test p {shown}"
