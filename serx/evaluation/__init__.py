"""Evaluation: a checkpoint on held-out speakers, reports, comparisons and the stress test.

The front door is `evaluate(checkpoint)`, which gives an `Evaluation` with `.uar`, `.confusion`, `.report()` and
`.write(folder)`.
"""

from serx.evaluation.comparison import compare, compare_cross_validations, comparison_table
from serx.evaluation.held_out import evaluate, load_held_out
from serx.evaluation.predictions import Predictions
from serx.evaluation.report import Evaluation
from serx.evaluation.stress import stress_test

__all__ = [
    "Evaluation",
    "Predictions",
    "compare",
    "compare_cross_validations",
    "comparison_table",
    "evaluate",
    "load_held_out",
    "stress_test",
]
