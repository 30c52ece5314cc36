"""Figures of an evaluation show the right texts, colors and order; nothing overlaps, and no global state changes."""

import os
import subprocess
import sys

import matplotlib
import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_hex

from serx.plots import (
    calibration_figure,
    confusion_figure,
    figure_array,
    figure_png,
    speakers_figure,
)
from serx.plots.evaluation import SEX_COLORS

LABELS = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]


def confusion_of_eight():
    confusion = np.random.default_rng(0).integers(0, 12, (8, 8)) + 100 * np.eye(8, dtype=int)
    confusion[1] = 0
    return confusion


def random_speakers(count, sexes=("male", "female", None)):
    uars = np.random.default_rng(1).uniform(0.1, 1, count)
    return {f"made/{index:02d}": {"uar": uar, "sex": sexes[index % len(sexes)]} for index, uar in enumerate(uars)}


def boxes(figure, texts):
    figure_array(figure)
    return [text.get_window_extent() for text in texts if text.get_text()]


def overlapping(extents):
    return [(a, b) for k, a in enumerate(extents) for b in extents[k + 1 :] if a.overlaps(b)]


def test_confusion_cells_show_counts_and_row_percentages():
    figure = confusion_figure(np.array([[3, 1, 0], [0, 0, 0], [1, 1, 6]]), ["angry", "calm", "sad"], "p")
    axes = figure.axes[0]
    cells = {tuple(map(int, text.get_position()[::-1])): text.get_text() for text in axes.texts}
    assert cells[0, 0] == "3\n75 %"
    assert cells[0, 1] == "1\n25 %"
    assert cells[2, 2] == "6\n75 %"
    assert cells[0, 2] == cells[1, 1] == "0"
    assert len(cells) == 9
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25, 0], [0, 0, 0], [0.125, 0.125, 0.75]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["angry  (4)", "calm  (0)", "sad  (8)"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["angry", "calm", "sad"]


@pytest.mark.parametrize("classes", [1, 2, 8, 12])
def test_confusion_texts_neither_overlap_nor_leave_the_figure(classes):
    confusion = np.full((classes, classes), 100) + np.diag([800] * classes)
    figure = confusion_figure(confusion, [f"emotion {index}" for index in range(classes)], "a long title " * 12)
    axes = figure.axes[0]
    cells = boxes(figure, axes.texts)
    side = axes.get_window_extent().width / classes
    assert max(box.width for box in cells) < side
    assert not overlapping(cells)
    assert not overlapping(boxes(figure, axes.get_yticklabels()))
    title = boxes(figure, [figure._suptitle])[0]
    assert title.y0 > axes.get_window_extent().y1
    assert title.x1 < figure.bbox.x1
    assert min(box.x0 for box in boxes(figure, axes.get_yticklabels())) > 0


@pytest.mark.parametrize("count", [1, 5, 24, 91])
def test_speakers_come_worst_first_in_the_color_of_their_sex(count):
    scores = random_speakers(count)
    figure = speakers_figure(scores, 1 / 8, "p")
    axes = figure.axes[0]
    figure_array(figure)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == sorted(scores, key=lambda name: scores[name]["uar"])
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first bar on top
    for bar, name, text in zip(axes.patches, names, axes.texts, strict=True):
        assert bar.get_width() == pytest.approx(100 * scores[name]["uar"])
        assert to_hex(bar.get_facecolor()) == SEX_COLORS[scores[name]["sex"]]
        assert text.get_text() == f"{100 * scores[name]['uar']:.1f}"
    assert not overlapping(boxes(figure, axes.get_yticklabels()))
    mean = 100 * np.mean([score["uar"] for score in scores.values()])
    assert sorted(line.get_xdata()[0] for line in axes.lines) == pytest.approx(sorted([12.5, mean]))
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[-2:] == [f"mean of speakers {mean:.1f}", "chance 12.5"]
    assert figure.legends[0].get_window_extent().y1 < axes.xaxis.label.get_window_extent().y0


@pytest.mark.parametrize("distance", [0.4, 0.8, 1.6, 3.0])
def test_the_line_of_the_mean_does_not_cross_a_number(distance):
    """The mean lies `distance` points beyond the end of a bar: just before its number, or within it."""
    figure = speakers_figure(
        {str(i): {"uar": uar, "sex": None} for i, uar in enumerate((0.62, 0.62 + distance / 50))}, 0.5
    )
    pixels = figure_array(figure)
    axes = figure.axes[0]
    box, line = axes.texts[0].get_window_extent(), int(axes.transData.transform((62 + distance, 0))[0])
    assert box.x0 - 4 < line < box.x1
    rows = slice(round(len(pixels) - box.y1), round(len(pixels) - box.y0))
    assert pixels[rows, round(box.x0) - 3 : round(box.x0)].min() == 255
    assert pixels[rows, line].max() == 255  # where no digit is


def test_the_calibration_diagram_shows_accuracy_and_clips_of_each_bin():
    counts = np.zeros((15, 3))
    counts[10] = [4, 2.8, 2]
    counts[14] = [6, 5.7, 6]
    upper, lower = calibration_figure(counts, "p").axes
    assert [(round(bar.get_x(), 3), bar.get_height()) for bar in upper.patches] == [(66.667, 50), (93.333, 100)]
    assert [bar.get_height() for bar in lower.patches] == counts[:, 0].tolist()
    assert [text.get_text() for text in lower.texts] == ["4", "6"]
    gaps = np.array(upper.collections[0].get_segments())
    np.testing.assert_allclose(gaps, [[[70, 50], [70, 70]], [[95, 95], [95, 100]]])


def test_titles_and_labels_are_shown_literally():
    figure = confusion_figure(np.eye(2, dtype=int), ["$a", "b_$^"], "costs $5 and $x^")
    figure_array(figure)
    figure_array(speakers_figure({"$s_$": {"uar": 0.5, "sex": None}}, 0.5, "$"))
    assert figure.get_suptitle() == "costs $5 and $x^"


def test_png_and_array_hold_the_same_pixels(tmp_path):
    figure = confusion_figure(confusion_of_eight(), LABELS, "p")
    png, array = figure_png(figure), figure_array(confusion_figure(confusion_of_eight(), LABELS, "p"))
    assert array.dtype == np.uint8
    assert array.shape == (798, 919, 3)
    (tmp_path / "p.png").write_bytes(png)
    read = matplotlib.image.imread(tmp_path / "p.png")[..., :3]
    np.testing.assert_array_equal((255 * read).round().astype(np.uint8), array)
    assert figure_png(figure) == png


def test_drawing_changes_no_global_state():
    program = (
        "import sys, numpy as np, matplotlib\n"
        "from serx.plots import evaluation as p, style\n"
        "before = dict(matplotlib.rcParams)\n"
        "style.figure_png(p.confusion_figure(np.eye(3, dtype=int), list('abc')))\n"
        "style.figure_array(p.speakers_figure({'a': {'uar': 1.0, 'sex': 'male'}}, 0.5))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert dict(matplotlib.rcParams) == before\n"
    )
    # With a backend set, reading the rcParams does not import pyplot to choose one.
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"MPLBACKEND": "agg"})
