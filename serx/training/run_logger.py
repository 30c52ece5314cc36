"""`RunLogger`: what shows a run while it trains. `metrics.jsonl` is the record; an error in a view never ends a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from torch import Tensor

from serx.config.loader import Config
from serx.training.console import echo
from serx.training.run_folder import METRICS

if TYPE_CHECKING:
    from serx.training.tensorboard import ValidationView


@dataclass(frozen=True)
class ShownClip:
    """A clip to show: `sound (T,)`, the network's input `picture (F, N)`, and a title."""

    sound: Tensor
    picture: Tensor
    title: str


class RunLogger:
    """Gets what a run produces. Each method does nothing here; a view takes what it can show.

    Attributes:
        name: for messages.
        failed: whether an error has ended the view.
    """

    name = ""
    failed = False

    def start(self, config: Config, protocol: str, notes: Sequence[str], labels: tuple[str, ...]) -> None:
        """The run begins or is resumed."""

    def clips(self, make: Callable[[], list[ShownClip]], sample_rate: int) -> None:
        """Augmented training clips; `make` is called where an error in it ends the view only."""

    def epoch(self, scalars: dict[str, float], epoch: int, examples: int) -> None:
        """The scores of an epoch by their tags (`epoch_scalars`), after so many `examples` (training clips)."""

    def past_epoch(self, scalars: dict[str, float], epoch: int, examples: int) -> None:
        """An epoch of the process that the run is resumed from."""

    def confusion(self, confusion: np.ndarray, labels: tuple[str, ...], title: str, epoch: int) -> None:
        """The confusion matrix of an epoch that is kept so far."""

    def validation(
        self, make: Callable[[], "ValidationView"], labels: tuple[str, ...], title: str, sample_rate: int, epoch: int
    ) -> None:
        """The kept epoch's predictions for the validation clips, at the end."""

    def finish(self, config: Config, kept: dict[str, Any]) -> None:
        """The run is complete; `kept` is the line of the kept epoch."""

    def close(self) -> None:
        """Nothing follows."""


class SeveralLoggers(RunLogger):
    """Hands everything to each of several loggers.

    >>> SeveralLoggers([RunLogger(), RunLogger()]).close()
    """

    def __init__(self, loggers: Sequence[RunLogger]) -> None:
        self.loggers = list(loggers)

    def start(self, *arguments: Any) -> None:
        self._all("start", *arguments)

    def clips(self, *arguments: Any) -> None:
        self._all("clips", *arguments)

    def epoch(self, *arguments: Any) -> None:
        self._all("epoch", *arguments)

    def past_epoch(self, *arguments: Any) -> None:
        self._all("past_epoch", *arguments)

    def confusion(self, *arguments: Any) -> None:
        self._all("confusion", *arguments)

    def validation(self, *arguments: Any) -> None:
        self._all("validation", *arguments)

    def finish(self, *arguments: Any) -> None:
        self._all("finish", *arguments)

    def close(self) -> None:
        self._all("close")

    def _all(self, method: str, *arguments: Any) -> None:
        for logger in self.loggers:
            getattr(logger, method)(*arguments)


def epoch_scalars(line: dict[str, Any], kept: dict[str, Any], labels: Sequence[str]) -> dict[str, float]:
    """The numbers of a line of `metrics.jsonl` by their tags.

    Args:
        line: of the epoch.
        kept: the line of the epoch that is kept so far; its validation (else training) scores are `kept/...`.
        labels: the emotions.

    >>> scores = {"loss": 1.0, "uar": 0.5, "recall": [0.25, 0.75]}
    >>> epoch_scalars({"train": scores, "valid": None, "lr": 0.1}, {}, ("happy", "sad"))["train_recall/sad"]
    0.75
    """
    result: dict[str, float] = {}
    for part in ("train", "valid"):
        for name, value in (line[part] or {}).items():  # there may be no validation
            if name == "recall":
                result |= {f"{part}_recall/{label}": recall for label, recall in zip(labels, value, strict=True)}
            else:
                result[f"{part}/{name}"] = value
    result |= {f"loop/{name}": line[name] for name in LOOP if line.get(name) is not None}
    if kept:
        scores = kept["valid"] or kept["train"]
        result |= {tag: scores[tag.removeprefix("kept/")] for tag in kept_tags(kept)}
    return result


LOOP = ("lr", "grad_norm", "clips_per_second", "skipped_steps", "c")
KEPT = ("kept/uar", "kept/accuracy", "kept/macro_f1", "kept/loss")


def kept_tags(kept: dict[str, Any]) -> list[str]:
    """The tags of the scores of the kept epoch: those of `KEPT` that it has, and the CCC of dimensions.

    >>> kept_tags({"valid": None, "train": {"loss": 0.5, "ccc": 0.7}})
    ['kept/loss', 'kept/ccc']
    """
    scores = kept["valid"] or kept["train"]
    return [tag for tag in (*KEPT, "kept/ccc") if tag.removeprefix("kept/") in scores]


Method = TypeVar("Method", bound=Callable[..., None])


def never_fatal(method: Method) -> Method:
    """An error in a view (mostly a full disk, or a server out of reach) is printed once and ends the view only."""

    @wraps(method)
    def guarded(self: RunLogger, *arguments: Any) -> None:
        if self.failed:
            return
        try:
            method(self, *arguments)
        except Exception as error:  # whatever the library, matplotlib, the network or the disk may raise
            self.failed = True
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            echo(f"warning: {self.name} stops here ({reason}); {METRICS} has all figures")

    return cast(Method, guarded)
