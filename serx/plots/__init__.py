"""Figures: numbers in, matplotlib figures out, drawn without a display.

evaluation.py    confusion matrix, classification report, speakers, calibration
training.py      learning curves, spectrogram
explanation.py   saliency over a spectrogram
experiments.py   leakage lesson, sweep, stress test
style.py         colors, titles, legends, PNG

>>> import numpy as np, serx.plots
>>> figure = serx.plots.confusion_figure(np.array([[3, 1], [0, 4]]), ["happy", "sad"])
>>> png = serx.plots.figure_png(figure)
"""

from serx.plots.evaluation import calibration_figure, confusion_figure, report_figure, speakers_figure
from serx.plots.experiments import protocols_figure, ranking_figure, stress_figure
from serx.plots.explanation import saliency_figure
from serx.plots.style import figure_array, figure_png, image_png
from serx.plots.training import curves_figure, spectrogram_figure

__all__ = [
    "calibration_figure",
    "confusion_figure",
    "curves_figure",
    "figure_array",
    "figure_png",
    "image_png",
    "protocols_figure",
    "ranking_figure",
    "report_figure",
    "saliency_figure",
    "speakers_figure",
    "spectrogram_figure",
    "stress_figure",
]
