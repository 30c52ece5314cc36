"""Training: `fit` runs a configuration from its first epoch to its last.

trainer.py      fit, and the Trainer that trains, validates, records and saves each epoch
epoch.py        one epoch by gradient descent: from a batch of clips to the optimizer's step
classical.py    one "epoch" of a scikit-learn classifier
losses.py, sampling.py, optim.py    the loss; which clips in which order; optimizer, schedule, averaged weights
state.py        all that changes while a run trains, and how a checkpoint stores it
validation.py   scores of an epoch, and whether it is kept
resume.py, run_folder.py, signals.py    continuing, the files of a run, stopping
console.py                    what is printed
run_logger.py, loggers.py,
tensorboard.py                what is shown: TensorBoard, MLflow, Weights & Biases
"""

from serx.training.state import TrainingState
from serx.training.trainer import Trainer, TrainingResult, fit

__all__ = ["Trainer", "TrainingResult", "TrainingState", "fit"]
