"""Evaluation of checkpoints on held-out speakers: predictions, scores, reports, comparisons and the stress test.

The front door is `evaluate(checkpoint)`, which gives an `Evaluation` with `.uar`, `.confusion`, `.report()` and
`.write(folder)`.
"""

from serx.evaluation.comparison import compare
from serx.evaluation.held_out import evaluate
from serx.evaluation.pooling import FoldResult
from serx.evaluation.predictions import Predictions
from serx.evaluation.report import Evaluation

__all__ = ["Evaluation", "FoldResult", "Predictions", "compare", "evaluate"]
