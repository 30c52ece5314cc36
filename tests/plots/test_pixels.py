"""The pictures for TensorBoard show their numbers, whatever these are, and every text is within them."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib import colormaps

from serx.plots.pixels import BOTTOM, LEFT, RIGHT, _blue, _ticks, confusion_pixels, magma, spectrogram_pixels

BLUE_OF_100 = (8, 48, 107)


def test_magma_is_that_of_matplotlib():
    values = np.linspace(0, 1, 256)
    np.testing.assert_allclose(magma(values) / 255, colormaps["magma"](values)[:, :3], atol=0.03)
    assert magma(np.array([np.nan, -1.0, 2.0])).shape == (3, 3)


def test_a_spectrogram_has_its_lowest_bin_at_the_bottom_and_its_first_frame_on_the_left():
    features = np.zeros((4, 6))
    features[0, :3] = 1  # low and early
    pixels = spectrogram_pixels(features, "clip", 2.0)
    plot = pixels[100:-BOTTOM, LEFT:-RIGHT].astype(int).sum(2)
    half, middle = plot.shape[1] // 2, len(plot) // 2
    assert plot[-5, 5] > 600
    assert plot[5, 5] < 100
    assert plot[-5, half - 10] > 600
    assert plot[-5, half + 10] < 100 and plot[middle, 5] < 100


@pytest.mark.parametrize("values", [np.zeros((4, 5)), np.full((4, 5), np.nan), np.full((1, 1), -np.inf)])
def test_a_spectrogram_of_odd_values_is_drawn(values):
    assert spectrogram_pixels(values, "odd", 1.0).shape == (440, 880, 3)


def test_a_click_does_not_hide_the_rest_of_a_spectrogram():
    features = np.tile(np.linspace(0, 1, 50), (40, 1))
    clicked = features.copy()
    clicked[0, 0] = 1e6
    a, b = (spectrogram_pixels(x, "", 1.0)[100:-BOTTOM, 2 * LEFT : -RIGHT].astype(int) for x in (features, clicked))
    assert np.abs(a - b).mean() < 3


@pytest.mark.parametrize("title", ["clip", "a title of so many words that it takes " + "another line " * 12])
def test_no_text_of_a_picture_is_cut_at_its_edge(title):
    labels = ["a label that is long", "b", "$x$"]
    for pixels in (
        spectrogram_pixels(np.linspace(-20000, 20000, 4000).reshape(1000, 4), title, 0.04),
        confusion_pixels(np.array([[1000, 0, 0], [0, 0, 0], [5, 6, 7]]), labels, title),
    ):
        edge = np.concatenate([pixels[:3].reshape(-1, 3), pixels[-3:].reshape(-1, 3), pixels[:, :3].reshape(-1, 3)])
        assert (edge == 255).all() and (pixels[:, -3:] == 255).all()


def test_the_color_of_a_confusion_is_its_share_of_the_row():
    counts = np.array([[40, 0], [5, 5]])
    pixels = confusion_pixels(counts, ["a", "b"], "t").reshape(-1, 3)
    for share in (1.0, 0.0, 0.5):
        assert (pixels == _blue(share)).all(1).sum() > 500, share
    assert _blue(1.0) == BLUE_OF_100
    swapped = confusion_pixels(counts[::-1], ["a", "b"], "t").reshape(-1, 3)
    assert not np.array_equal(pixels, swapped)


@pytest.mark.parametrize("classes", [1, 2, 26, 120])
def test_a_confusion_of_many_classes_is_drawn(classes):
    pixels = confusion_pixels(np.eye(classes, dtype=int), [f"label {i}" for i in range(classes)], "t")
    assert max(pixels.shape) < 4000 and (pixels.reshape(-1, 3) == BLUE_OF_100).all(1).sum() > 20 * classes


@pytest.mark.parametrize("end", [0.0, 1e-9, 0.04, 0.99, 3.21, 59.0, 60.0, 1023.0])
def test_ticks_are_few_round_and_within_the_axis(end):
    ticks = _ticks(end)
    assert 1 <= len(ticks) <= 6 and ticks[0] == 0 and ticks[-1] <= max(end, 1e-9) + 1e-9


def test_a_training_with_tensorboard_draws_without_matplotlib():
    program = (
        "import sys, numpy as np, serx.training.trainer; from serx.plots.pixels import *;"
        "confusion_pixels(np.eye(2), ['a', 'b'], 't'); spectrogram_pixels(np.eye(3), 't', 1.0);"
        "import serx.inference; print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
