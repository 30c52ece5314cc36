"""The ranking of a sweep says how far its intervals can be trusted."""

import pytest

from serx.evaluation.ranking import SettingResult, format_ranking, markdown_ranking, rank
from tests.evaluation.test_pooling import fold_results
from tests.evaluation.test_report import random_predictions


def ranking_of(speakers: int, seeds: int = 1) -> dict:
    """Two settings on two groups of the speakers."""
    folds = (tuple(range(speakers // 2)), tuple(range(speakers // 2, speakers)))
    settings = [("as it is", ()), ("optim.lr=0.1", ("optim.lr=0.1",))]
    tried = [
        SettingResult(
            name,
            overrides,
            [t for s in range(seeds) for t in fold_results(random_predictions(speakers, seed=10 * n + s), s, folds)],
        )
        for n, (name, overrides) in enumerate(settings)
    ]
    return rank(tried, "made, in 2 groups")


@pytest.mark.parametrize(("speakers", "few"), [(6, True), (15, False)])
def test_a_ranking_over_few_speakers_warns_of_narrow_intervals(speakers, few):
    ranking = ranking_of(speakers)
    assert ranking["n_speakers"] == speakers
    for text in (format_ranking(ranking), markdown_ranking(ranking)):
        assert (f"With {speakers} speakers the intervals are narrower than they should be" in text) == few
        assert "means over" not in text


def test_a_ranking_of_several_seeds_says_that_its_scores_are_means_over_them():
    for form in (format_ranking, markdown_ranking):
        assert "UARs, also those by group, are means over 2 seeds." in form(ranking_of(6, seeds=2))
