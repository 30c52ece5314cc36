"""`serx.fit`: train a configuration, and evaluate what came of it, from Python."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serx.config import Config
from serx.evaluation import Evaluation, evaluate
from serx.inference import Predictor
from serx.training.trainer import OnEpoch, TrainingResult
from serx.training.trainer import fit as train


@dataclass(frozen=True)
class Run(TrainingResult):
    """A finished or stopped training; its checkpoint can be evaluated and used.

    Attributes:
        folder: the run folder; docs/training.md lists its files.
        kept: the line of `metrics.jsonl` of the epoch that was kept, with its loss and scores as fractions; empty if no
            epoch had finite scores.
        stopped_by: the number of the signal that stopped the run, or None.
        cache: the folder for decoded audio, as `data.cache` names it.
    """

    cache: str | None = None

    def evaluate(self, part: str = "test", **options: Any) -> Evaluation:
        """The scores of the kept epoch on a part of the clips.

        Args:
            part: `test`, `valid` or `all`.
            **options: the other arguments of `serx.evaluate`, whose errors it has.
        """
        return evaluate(self.checkpoint, part=part, **{"cache": self.cache, **options})  # type: ignore[arg-type]

    def predictor(self, device: str = "auto") -> Predictor:
        """The kept epoch, ready to predict.

        Raises:
            CheckpointError: no epoch was kept.
            ConfigError: there is no such device.
        """
        return Predictor.load(self.checkpoint, device)


def fit(
    config: Config,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    overwrite: bool = False,
    on_epoch: OnEpoch | None = None,
) -> Run:
    """Trains a model, and prints what it does: the protocol, the speakers of each part, a line for each epoch.

    SIGINT and SIGTERM stop the run after its current step; it is saved and can be resumed.

    Args:
        config: of the run, as `serx.load_config` returns it.
        folder: the run folder; default `train.output`, else `checkpoints/<kind of model>/<time>`. With `resume`, the
            default is the newest run there.
        resume: continue the run in the folder. Only settings that change no result may differ.
        progress: show progress bars.
        overwrite: delete a run that is already in the folder.
        on_epoch: called after each epoch, once it is saved, with its line of `metrics.jsonl`; the training ends there
            if it returns True, and `resume` continues it.

    Raises:
        ConfigError: the folder already holds a run, there is none to resume, the run to resume has other settings or
            data, or an argument has another type.
        OutOfMemoryError: the run does not fit into memory; it is a ConfigError, too.
        RunInUseError: another process uses the folder.
        DataError: the clips cannot be used, or a speaker is in two parts of the split.
        DivergedError: gradients stayed non-finite.
        CheckpointError: the checkpoint to resume is damaged.
        DiskError: a file cannot be written. After this and the other errors, the checkpoints saved before are whole.

    >>> from tempfile import TemporaryDirectory
    >>> import serx
    >>> from serx.data.synthetic import make_corpus
    >>> with TemporaryDirectory() as folder:
    ...     corpus = make_corpus(f"{folder}/corpus", speakers=4, clips_per_emotion=1, progress=False)
    ...     config = serx.load_config("logistic_regression", {"data": {"root": str(corpus), "cache": f"{folder}/cache",
    ...                               "protocol": "speakers", "test_speakers": ["1"], "valid_speakers": ["2"]}})
    ...     run = serx.fit(config, f"{folder}/run", progress=False)  # doctest: +ELLIPSIS
    ...     run.evaluate(progress=False).protocol
    protocol: ...
    'speakers, speaker-independent'
    """
    result = train(config, folder, resume, progress, overwrite, on_epoch)
    return Run(result.folder, result.kept, result.stopped_by, config.data.cache)
