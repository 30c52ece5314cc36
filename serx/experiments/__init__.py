"""Experiments of many trainings. Every training is an ordinary run in its own folder, and finished runs are kept.

cross_validation.py   every fold of a protocol, and the same folds adapted to each speaker
sweep.py              settings compared on validation speakers: all parts run, the settings ranked
sweep_plan.py         which settings a sweep tries, and which speakers validate
sweep_part.py         one setting: trained with every group of speakers, scored, recorded
space.py, study.py    what a sweep tries, and its Optuna study
parts.py              one command for each part, which no two processes run
executors.py          parts as an array of Slurm
leakage.py            what overlapping test parts do to scores
folds.py              folds as run folders: which there are, how far each has come
fold_runs.py          `serx train` and `serx evaluate` for many folds
processes.py          commands in parallel, with signals passed on
feature_cache.py      features computed once, for training without augmentation
"""

from serx.experiments.cross_validation import cross_validate
from serx.experiments.fold_runs import Workers
from serx.experiments.sweep import sweep
from serx.experiments.sweep_plan import plan_sweep

__all__ = ["Workers", "cross_validate", "plan_sweep", "sweep"]
