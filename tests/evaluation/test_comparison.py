"""Two runs compared speaker by speaker: by hand, against scipy, and refused when they cannot be."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from serx.errors import DataError
from serx.evaluation.comparison import compare, format_comparison
from serx.evaluation.pooling import write_cross_validation
from serx.evaluation.scores import evaluate
from serx.experiments.compare import compare_cross_validations, comparison_table
from tests.evaluation.test_pooling import folded
from tests.evaluation.test_report import make


def test_the_difference_and_its_tests_are_those_of_the_speakers():
    a, b = make(seed=1), make(seed=2)
    result = compare(folded(a), folded(b))
    one, two = evaluate(a, "p"), evaluate(b, "p")
    for name in ("uar", "accuracy"):
        assert result[name]["difference"] == pytest.approx(one[name] - two[name])
        gains = [one["per_speaker"][s][name] - two["per_speaker"][s][name] for s in sorted(one["per_speaker"])]
        assert [s[name] for s in result["per_speaker"].values()] == pytest.approx(gains)
        assert result[name]["wilcoxon_p"] == pytest.approx(stats.wilcoxon(np.round(gains, 12)).pvalue)
        better, worse = sum(g > 1e-9 for g in gains), sum(g < -1e-9 for g in gains)
        assert (result[name]["better"], result[name]["worse"]) == (better, worse)
        assert result[name]["sign_p"] == pytest.approx(stats.binomtest(better, better + worse).pvalue)


def test_a_run_differs_in_nothing_from_itself():
    result = compare(folded(make()), folded(make()))
    assert result["uar"]["difference"] == 0 and result["uar"]["interval"] == [0, 0]
    assert (result["uar"]["wilcoxon_p"], result["uar"]["sign_p"]) == (1, 1)


def test_one_that_is_better_for_each_of_six_speakers_is_better_by_the_sign_test():
    a = make(6)
    min_confidence = np.eye(8)[a.targets]
    wrong = np.where((np.arange(len(a.targets)) % 32 == 0)[:, None], np.roll(min_confidence, 1, axis=1), min_confidence)
    folds = ((0, 1, 2), (3, 4, 5))
    result = compare(
        folded(replace(a, probabilities=min_confidence), folds=folds),
        folded(replace(a, probabilities=wrong), folds=folds),
    )
    assert (result["accuracy"]["better"], result["accuracy"]["worse"]) == (6, 0)
    assert result["accuracy"]["sign_p"] == pytest.approx(2 / 2**6)
    assert result["accuracy"]["interval"] == pytest.approx([1 / 32, 1 / 32])  # the same draw of speakers for both


def test_the_interval_is_narrower_than_that_of_runs_taken_apart():
    """Speakers who are hard for one are hard for the other: pairing takes that out."""
    a = make(12, seed=1)
    nearly = a.probabilities.copy()
    nearly[::40] = nearly[::40, ::-1]
    b = replace(a, probabilities=nearly)
    folds = (tuple(range(6)), tuple(range(6, 12)))
    low, high = compare(folded(a, folds=folds), folded(b, folds=folds))["uar"]["interval"]
    apart = evaluate(a, "p")["intervals"]["uar"]
    assert high - low < 0.5 * (apart[1] - apart[0])


def test_seeds_are_averaged_and_may_be_of_unequal_number():
    a, others = make(seed=1), [make(seed=seed) for seed in (2, 3)]
    result = compare(folded(a), [t for seed, p in enumerate(others) for t in folded(p, seed)])
    assert result["uar"]["b"] == pytest.approx(np.mean([evaluate(p, "p")["uar"] for p in others]))


def test_other_clips_and_other_labels_are_refused():
    a = make()
    with pytest.raises(DataError, match="different clips"):
        compare(folded(a), folded(make(clips=3)))
    renamed = replace(a, paths=("clips/other.wav", *a.paths[1:]))
    with pytest.raises(DataError, match=r"different clips \(2 "):
        compare(folded(a), folded(renamed))
    with pytest.raises(DataError, match="different clips"):
        compare(folded(a), folded(a)[:2])
    with pytest.raises(DataError, match="nothing to compare"):
        compare(folded(a), folded(replace(a, labels=tuple(reversed(a.labels)))))


def test_a_moved_corpus_is_the_same_corpus():
    a = make()
    moved = replace(a, paths=tuple(f"/elsewhere/{path}" for path in a.paths))
    assert compare(folded(a), folded(moved))["uar"]["difference"] == 0
    double = replace(a, paths=tuple(f"{i}/clip.wav" for i in range(160)))
    with pytest.raises(DataError, match="different clips"):
        compare(folded(double), folded(replace(a, paths=tuple(f"other/{i}/clip.wav" for i in range(160)))))


def test_the_terminal_sees_both_names_both_stamps_and_every_speaker():
    text = format_comparison(compare(folded(make(seed=1)), folded(make(seed=2))), ("runs/net", "runs/baseline"))
    assert "A: runs/net [made folds 0-2, speaker-independent]" in text and "B: runs/baseline" in text
    assert text.count("\n  made/") == 5
    assert max(map(len, text.splitlines())) <= 100


def test_a_difference_between_two_protocols_is_no_gain_of_one_recipe():
    stamp = "made fold {}, speaker-independent; ADAPTED to each speaker with 40 unlabeled clips"
    known, strange = folded(make(), stamp=stamp), folded(make())
    assert "NOT ONE PROTOCOL: only B has heard each voice before" in format_comparison(
        compare(strange, known), ("net", "known")
    )
    assert "NOT ONE PROTOCOL" not in format_comparison(compare(known, known), ("a", "b"))


def test_two_folders_are_compared_on_the_folds_that_both_have(tmp_path):
    a, b = folded(make(seed=1)), folded(make(seed=2))
    write_cross_validation(tmp_path / "a", a, {})
    write_cross_validation(tmp_path / "b", b[:2], {})
    told = " ".join(compare_cross_validations(tmp_path / "a", tmp_path / "b", tmp_path / "a").split())
    assert "made folds 0-1, speaker-independent" in told and "folds 0-2" not in told
    written = json.loads((tmp_path / "a/comparison.json").read_text())
    assert written["uar"] == compare(a[:2], b[:2])["uar"]
    write_cross_validation(tmp_path / "c", b[2:], {})
    with pytest.raises(DataError, match="different clips"):
        compare_cross_validations(tmp_path / "b", tmp_path / "c")


def test_a_table_has_a_row_for_each_run_and_compares_what_can_be_compared(tmp_path):
    known = "made fold {}, speaker-independent; ADAPTED to each speaker with 40 unlabeled clips"
    runs = {
        "whole": folded(make(seed=1)),
        "less": folded(make(seed=2)),
        "part": folded(make(seed=2))[:2],
        "known": folded(make(seed=1), stamp=known),
    }
    for name, tested in runs.items():
        write_cross_validation(tmp_path / name, tested, {})
    title, _, head, _, whole, less, fewer, adapted = comparison_table([tmp_path / name for name in runs]).splitlines()
    assert title == "made folds 0-2, speaker-independent:"
    assert len({line.count("|") for line in (head, whole, less, fewer, adapted)}) == 1
    assert whole.endswith("| - |") and f"{100 * evaluate(make(seed=1), 'p')['accuracy']:.1f} |" in whole
    uar = compare(runs["less"], runs["whole"])["uar"]
    low, high = (100 * bound for bound in uar["interval"])
    assert less.endswith(f"| {100 * uar['difference']:+.1f} ({low:+.1f} to {high:+.1f}) |")
    assert fewer.endswith("| other clips |") and "[made folds 0-1, speaker-independent]" in fewer
    assert adapted.endswith("| another protocol |") and "ADAPTED" in adapted


def test_a_chance_too_small_for_three_digits_is_told_as_a_bound():
    result = compare(folded(make(seed=1)), folded(make(seed=2)))
    for p, told in ((0.00043, "< 0.001"), (0.001, "0.001"), (0.0625, "0.062")):
        scores = {name: {**result[name], "wilcoxon_p": p, "sign_p": p} for name in ("uar", "accuracy")}
        text = format_comparison({**result, **scores}, ("a", "b"))
        assert text.count(f"Wilcoxon p {told}, sign test p {told}\n") == 2
