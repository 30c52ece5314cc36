"""The page of a comparison: the numbers of `compare_runs`, every run named, hostile names escaped."""

import re
from dataclasses import replace

import pytest

from serx.evaluation.comparison import compare_runs
from serx.evaluation.finished_runs import FinishedRun
from serx.pages import Reproduction, comparison_page
from tests.evaluation.test_pooling import fold_results
from tests.evaluation.test_report import random_predictions
from tests.pages.test_evaluation_page import HOSTILE, read, text_of

SCORES = {"uar": 0.5, "loss": 1.0}
LINES = [{"epoch": i, "train": SCORES, "valid": SCORES} for i in range(3)]


def run(name: str, seed: int, clips: int = 4, **config) -> FinishedRun:
    """A finished run of random predictions."""
    return FinishedRun(name, fold_results(random_predictions(seed=seed, clips=clips)), config or None, [LINES])


def test_the_page_has_the_numbers_of_the_comparison_and_a_line_for_each_run():
    runs = [run("runs/base", 1, optim={"lr": 0.1}), run("runs/new", 2, optim={"lr": 0.2})]
    result = compare_runs(runs)
    page = comparison_page(result, Reproduction(["serx compare runs/base runs/new"]))
    text = text_of(page)
    for row in result["runs"]:
        low, high = (100 * bound for bound in row["uar_interval"])
        assert f"{100 * row['uar']:.1f} {low:.1f} to {high:.1f} {100 * row['accuracy']:.1f} {row['n_clips']}" in text
        assert row["run"] in text and row["protocol"] in text
    [comparison] = result["comparisons"]
    for key in ("uar", "accuracy"):
        scores = comparison[key]
        low, high = (100 * bound for bound in scores["interval"])
        numbers = f"{100 * scores['a']:.1f} {100 * scores['b']:.1f} {100 * scores['difference']:+.1f}"
        assert f"{numbers} {low:+.1f} to {high:+.1f}" in text
    assert "optim. lr 0.1 0.2" in text and "serx compare runs/base runs/new" in text
    for speaker, scores in comparison["per_speaker"].items():
        assert f"{speaker} {100 * scores['uar_b']:.1f} {100 * scores['uar_a']:.1f} {100 * scores['uar']:+.1f}" in text
    assert len(re.findall(r'<polyline class="line c[01]"', page)) == 2 * 3
    assert page == comparison_page(compare_runs(runs), Reproduction(["serx compare runs/base runs/new"]))


def test_runs_that_cannot_be_compared_are_on_the_page_with_the_reason():
    page = comparison_page(compare_runs([run("a", 1), run("b", 2), run("c", 3, clips=3)]), Reproduction())
    text = text_of(page)
    assert (
        "Not compared:" in text and "different clips" in text and "Unknown: a run does not record its settings" in text
    )
    assert "B - A" in text and "C - A" in text


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ([-0.1, 0.0], "do not show whether B or A is better"),
        ([0.01, 0.1], "B is better than A"),
        ([-0.1, -0.01], "A is better than B"),
    ],
)
def test_a_sentence_says_what_the_interval_of_the_difference_means(interval, expected):
    result = compare_runs([run("a", 1), run("b", 2)])
    result["comparisons"][0]["uar"]["interval"] = interval
    assert expected in text_of(comparison_page(result, Reproduction()))


def test_a_comparison_without_curves_or_common_speakers_says_so():
    runs = [replace(run("a", 1), curves=[]), replace(run("b", 2, clips=3), curves=[])]
    text = text_of(comparison_page(compare_runs(runs), Reproduction()))
    assert "None of these folders has a metrics.jsonl" in text and "No run could be compared with A" in text


@pytest.mark.parametrize("field", ["name", "protocol", "setting"])
def test_hostile_names_are_escaped(field):
    config = {HOSTILE: HOSTILE} if field == "setting" else {"a": 1}
    other = run(HOSTILE if field == "name" else "b", 2, **config)
    if field == "protocol":
        other = replace(other, results=[replace(r, protocol=HOSTILE) for r in other.results])
    page = comparison_page(compare_runs([run("a", 1, x=2), other]), Reproduction([HOSTILE]))
    assert "alert" not in " ".join(value for _, value in read(page).attributes)
    assert "\u202e" not in page and "\x1b" not in page and r"\u202e" in page
