"""Evaluation of checkpoints on held-out speakers: predictions -> scores -> report and figures.

`evaluate(checkpoint)` gives an `Evaluation` with `.uar`, `.confusion`, `.report()` and `.write(folder)`.

evaluate_checkpoint.py      `evaluate`: predict the clips of a part, score the predictions
held_out.py                 which clips those are; training speakers are refused
predictions.py              probabilities and what is known about the clips, and their CSV file
ratings.py                  the same for dimensions such as arousal
csv_files.py                rows of a CSV file, in groups such as seed and fold
scores.py                   all scores of predictions as one dictionary
report.py                   the Evaluation: scores as an object, as text and as files
pooling.py                  the folds of a cross-validation together: their scores
cross_validation_report.py  these scores as text, tables, figures and files
finished_runs.py            reads what the folders of finished runs and cross-validations hold
comparison.py               runs and cross-validations compared, speaker by speaker
comparison_report.py        the comparison as text and tables
ranking.py                  the settings of a sweep, best first
corpora.py                  how much a model's embedding tells of the corpus of a clip
stress.py                   scores under noise, reverberation, telephones and other levels
stamps.py                   the words that name a protocol
tables.py                   text and Markdown tables
"""

from serx.evaluation.comparison import compare
from serx.evaluation.evaluate_checkpoint import evaluate
from serx.evaluation.pooling import FoldResult
from serx.evaluation.predictions import Predictions
from serx.evaluation.report import Evaluation

__all__ = ["Evaluation", "FoldResult", "Predictions", "compare", "evaluate"]
