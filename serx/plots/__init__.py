"""Figures: numbers in, matplotlib figures out, drawn without a display.

evaluation.py    confusion matrix, classification report, speakers, calibration
training.py      learning curves
explanation.py   saliency over a spectrogram
experiments.py   leakage lesson, sweep, stress test
pixels.py        pictures for TensorBoard, by Pillow
style.py         colors, titles, legends, PNG

>>> import numpy as np, serx.plots
>>> figure = serx.plots.confusion_figure(np.array([[3, 1], [0, 4]]), ["happy", "sad"])
>>> png = serx.plots.figure_png(figure)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serx.plots.evaluation import calibration_figure, confusion_figure, report_figure, speakers_figure
    from serx.plots.experiments import protocols_figure, ranking_figure, stress_figure
    from serx.plots.explanation import octave_rows, saliency_figure, saliency_png
    from serx.plots.pixels import confusion_pixels, spectrogram_pixels
    from serx.plots.style import figure_array, figure_png, image_png
    from serx.plots.training import curves_figure

__all__ = [
    "calibration_figure",
    "confusion_figure",
    "confusion_pixels",
    "curves_figure",
    "figure_array",
    "figure_png",
    "image_png",
    "octave_rows",
    "protocols_figure",
    "ranking_figure",
    "report_figure",
    "saliency_figure",
    "saliency_png",
    "speakers_figure",
    "spectrogram_pixels",
    "stress_figure",
]

# Public name -> the module that has it; imported when first used, since matplotlib takes half a second.
_MODULES = {
    **dict.fromkeys(("calibration_figure", "confusion_figure", "report_figure", "speakers_figure"), "evaluation"),
    **dict.fromkeys(("protocols_figure", "ranking_figure", "stress_figure"), "experiments"),
    **dict.fromkeys(("confusion_pixels", "spectrogram_pixels"), "pixels"),
    **dict.fromkeys(("figure_array", "figure_png", "image_png"), "style"),
    **dict.fromkeys(("octave_rows", "saliency_figure", "saliency_png"), "explanation"),
    "curves_figure": "training",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"serx.plots.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'serx.plots' has no attribute {name!r}")
