"""The figure of the classification report has the numbers of scikit-learn's text report."""

import numpy as np
import pytest
from sklearn.metrics import classification_report

from serx.metrics import score
from serx.plots import figure_array, report_figure


def random_evaluation(classes: int, clips: int = 200) -> tuple[dict, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    truth = random.integers(0, classes, clips)
    guess = np.where(random.random(clips) < 0.6, truth, random.integers(0, classes, clips))
    labels = tuple(f"emotion {i}" for i in range(classes))
    scores = score(truth, guess, labels)
    columns = {"precision": scores.precision, "recall": scores.recall, "f1": scores.f1, "support": scores.support}
    each = {label: {name: column[i].item() for name, column in columns.items()} for i, label in enumerate(labels)}
    return {"labels": list(labels), "per_class": each}, truth, guess


def rows_of(figure) -> list[list[str]]:
    """The texts of the table from top to bottom, each row from left to right."""
    cells = sorted((text.get_position()[1], text.get_position()[0], text.get_text()) for text in figure.axes[0].texts)
    return [[text for _, _, text in cells[i : i + 4]] for i in range(0, len(cells), 4)]


def test_every_number_equals_that_of_scikit_learn():
    evaluation, truth, guess = random_evaluation(8)
    known = classification_report(truth, guess, output_dict=True)
    expected = [known[str(i)] for i in range(8)] + [known["macro avg"], known["weighted avg"]]
    figure = report_figure(evaluation)
    for row, scores in zip(rows_of(figure), expected, strict=True):
        numbers = [f"{100 * scores[name]:.1f}" for name in ("precision", "recall", "f1-score")]
        assert row == [*numbers, f"{scores['support']:.0f}"]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == [*evaluation["labels"], "macro average", "weighted average"]
    shades = [float(image.get_array()[0, 1]) for image in figure.axes[0].images]
    assert shades == pytest.approx([scores["recall"] for scores in expected])


@pytest.mark.parametrize("classes", [1, 2, 8, 12])
def test_texts_neither_overlap_nor_leave_the_figure(classes):
    figure = report_figure(random_evaluation(classes)[0], "a long title " * 12)
    figure_array(figure)
    axes = figure.axes[0]
    boxes = [text.get_window_extent() for text in [*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels()]]
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :] if a.overlaps(b)]
    assert min(box.x0 for box in boxes) > 0
    assert max(box.x1 for box in boxes) < figure.bbox.x1
    title = figure._suptitle.get_window_extent()
    assert title.y0 > max(box.y1 for box in boxes)


def test_a_class_that_does_not_occur_has_zeros_and_no_weight_in_the_weighted_average():
    evaluation, _, _ = random_evaluation(3)
    evaluation["per_class"]["emotion 1"] = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    rows = rows_of(report_figure(evaluation))
    assert rows[1] == ["0.0", "0.0", "0.0", "0"]
    present = [evaluation["per_class"][f"emotion {i}"] for i in (0, 2)]
    weighted = sum(c["recall"] * c["support"] for c in present) / sum(c["support"] for c in present)
    assert rows[-1][1] == f"{100 * weighted:.1f}"
