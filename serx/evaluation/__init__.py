"""Evaluation of checkpoints on held-out speakers: predictions -> scores -> report and figures.

`evaluate(checkpoint)` gives an `Evaluation` with `.uar`, `.confusion`, `.report()` and `.write(folder)`.

held_out.py       choose the clips of a part, refuse training speakers, predict
predictions.py    probabilities and what is known about the clips, and their CSV file
ratings.py        the same for dimensions such as arousal
csv_files.py      rows of a CSV file, in groups such as seed and fold
scores.py         all scores of predictions as one dictionary
report.py         the Evaluation: scores as an object, as text and as files
pooling.py        the folds of a cross-validation together
finished_runs.py  what the folders of finished runs and cross-validations hold
comparison.py     runs and cross-validations compared, speaker by speaker
comparison_report.py  the comparison as text and tables
ranking.py        the settings of a sweep, best first
corpora.py        how much a model's embedding tells of the corpus of a clip
stress.py         scores under noise, reverberation, telephones and other levels
stamps.py         the words that name a protocol
tables.py         text and Markdown tables
"""

from serx.evaluation.comparison import compare
from serx.evaluation.held_out import evaluate
from serx.evaluation.pooling import FoldResult
from serx.evaluation.predictions import Predictions
from serx.evaluation.report import Evaluation

__all__ = ["Evaluation", "FoldResult", "Predictions", "compare", "evaluate"]
