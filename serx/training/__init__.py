"""Training: `fit` runs a configuration from its first epoch to its last.

The loop:

trainer.py               fit, and the Trainer that trains, validates, records and saves each epoch
training_clips.py        what an epoch trains on: clips, targets, weights
sampling.py              which clips an epoch takes, in which order
epoch.py                 one epoch by gradient descent: from a batch of clips to the optimizer's step
classical.py             one "epoch" of a scikit-learn classifier
linear_probe.py          one "epoch" of a linear probe: a fit to all clips
losses.py                cross-entropy of votes and classes, concordance of ratings
optim.py                 optimizer, learning-rate schedules, averaged weights
validation.py            scores of an epoch, and whether it is kept
state.py                 all that changes while a run trains, and how a checkpoint stores it
epoch_sums.py            loss, confusion and gradient norms of the current epoch

Before and after it:

new_run.py               the state of a new run: weights, and the normalizer fitted
init_from.py             begin with the weights of a checkpoint
distillation.py          learn from the probabilities of other models
resume.py                continue a run
distributed.py           several processes, one for each GPU
memory.py                whether a run fits into memory
run_folder.py            the files of a run
signals.py               stop after the current step
speaker_statistics.py    what speaker adaptation needs of a finished run
ensemble.py              one checkpoint of several, whose models vote

What is shown:

console.py               printed lines
run_logger.py            what every logger is given
loggers.py               TensorBoard, MLflow or Weights & Biases
tensorboard.py           curves, matrices, sounds
"""

from serx.training.state import TrainingState
from serx.training.trainer import Trainer, TrainingResult, fit

__all__ = ["Trainer", "TrainingResult", "TrainingState", "fit"]
