"""Learning curves show both parts on the right axes and mark the epoch that was kept."""

import numpy as np
import pytest

from serx.plots.style import figure_array, figure_png
from serx.plots.training import COLORS, curves_figure


def metric_lines(count: int, best: tuple[int, ...] = (0,)) -> list[dict]:
    return [
        {
            "epoch": i,
            "train": {"loss": 2.0 / (i + 1), "uar": 1 - 0.5 / (i + 1)},
            "valid": {"loss": 2.0 - 0.01 * i, "uar": 0.4 + 0.002 * i},
            "kept": i in best,
        }
        for i in range(count)
    ]


@pytest.mark.parametrize("count", [1, 3, 100])
def test_losses_are_above_and_uars_below_in_the_color_of_their_part(count):
    lines = metric_lines(count, best=(0, count - 1))
    figure = curves_figure(lines, "a long title " * 20)
    for axes, score, scale in zip(figure.axes, ("loss", "uar"), (1, 100), strict=True):
        drawn = {line.get_color(): line for line in axes.lines}
        for part, color in COLORS.items():
            np.testing.assert_array_equal(drawn[color].get_xdata(), np.arange(1, count + 1))
            expected = [scale * line[part][score] for line in lines]
            np.testing.assert_allclose(drawn[color].get_ydata(), expected)
            assert count > 1 or drawn[color].get_marker() == "o"  # a line through one point is invisible
    pixels = figure_array(figure)
    assert pixels.std() > 0
    title, top = figure._suptitle.get_window_extent(), figure.axes[0].get_window_extent()
    assert title.y0 > top.y1
    assert title.x1 < figure.bbox.x1


@pytest.mark.parametrize("losses", [[2.08, 2.05, 2.0], [2.0, 1.2, 0.1], [2.08]])
def test_the_marker_of_the_highest_loss_is_not_cut_off(losses):
    lines = metric_lines(len(losses))
    lines = [line | {"train": {"loss": x, "uar": 0.2}, "valid": None} for line, x in zip(lines, losses, strict=True)]
    figure = curves_figure(lines)
    figure_array(figure)
    upper = figure.axes[0]
    space = upper.get_window_extent().y1 - upper.transData.transform((1, max(losses)))[1]
    assert space > upper.lines[0].get_markersize() / 72 * figure.dpi
    assert upper.get_ylim()[0] == 0


def test_the_legend_names_both_parts():
    texts = [text.get_text() for text in curves_figure(metric_lines(3)).legends[0].get_texts()]
    assert texts[:2] == ["training", "validation"]


def test_the_last_best_epoch_is_marked_and_in_the_legend():
    figure = curves_figure(metric_lines(9, best=(0, 2, 5)))
    for axes in figure.axes:
        assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() != "-"] == [6]
    assert figure.legends[0].get_texts()[-1].get_text() == "kept: epoch 6, UAR 41.0 %, loss 1.950"


def test_without_validation_only_training_is_drawn():
    figure = curves_figure([line | {"valid": None} for line in metric_lines(9, best=(7, 8))])
    for axes in figure.axes:
        assert next(line.get_color() for line in axes.lines) == COLORS["train"]
        assert COLORS["valid"] not in [line.get_color() for line in axes.lines]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(texts) == 2 and texts[-1] == "kept: epoch 9"


def test_a_run_without_a_best_epoch_has_curves_without_a_mark():
    figure = curves_figure(metric_lines(4, best=()))
    assert len(figure.axes[0].lines) == 2
    assert len(figure.legends[0].get_texts()) == 2


def test_a_run_of_dimensions_shows_their_ccc_and_gaps_where_a_line_has_none():
    lines = [
        {"epoch": 0, "train": {"loss": 1.0, "uar": 0.4}, "valid": None, "kept": False},
        {"epoch": 1, "train": {"loss": 0.6, "ccc": 0.4}, "valid": {"loss": 0.7, "ccc": 0.3}, "kept": True},
    ]
    figure = curves_figure(lines)
    assert figure.axes[1].get_ylabel() == "CCC"
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_ydata(), [np.nan, 0.4])
    assert figure.legends[0].get_texts()[-1].get_text() == "kept: epoch 2, CCC 0.300, loss 0.700"


def test_a_title_of_any_script_is_drawn_without_warnings(recwarn):
    figure = curves_figure(metric_lines(2), "\U0001f3a4 \u4e2d\u6587")
    assert figure_png(figure).startswith(b"\x89PNG") and figure_array(figure).ndim == 3 and not recwarn.list
