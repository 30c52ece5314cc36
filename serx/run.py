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
        folder: the run folder.
        kept: the line of `metrics.jsonl` of the epoch that was kept; empty if no epoch had finite scores.
        stopped_by: the number of the signal that stopped the run, or None.
        cache: the folder for decoded audio, as `data.cache` names it.
    """

    cache: str | None = None

    def evaluate(self, part: str = "test", **options: Any) -> Evaluation:
        """The scores of the kept epoch on a part of the clips: `serx.evaluation.evaluate` with the same options."""
        return evaluate(self.checkpoint, part=part, **{"cache": self.cache, **options})  # type: ignore[arg-type]

    def predictor(self, device: str = "auto") -> Predictor:
        """The kept epoch, ready to predict."""
        return Predictor.load(self.checkpoint, device)


def fit(
    config: Config,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    overwrite: bool = False,
    on_epoch: OnEpoch | None = None,
) -> Run:
    """Trains a configuration: `serx.training.fit`, whose arguments and errors it has, with a result that can evaluate.

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
