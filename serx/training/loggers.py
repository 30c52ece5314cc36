"""The loggers of a run, chosen by `train.loggers`: TensorBoard, MLflow, Weights & Biases.

MLflow and Weights & Biases get the settings, the scores of each epoch and those of the kept epoch. Where they go is
what their own environment variables say (MLFLOW_TRACKING_URI, WANDB_MODE=offline, WANDB_PROJECT ...).
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from serx.config.loader import Config
from serx.errors import ConfigError
from serx.files import read_json, write_atomically
from serx.training.run_logger import RunLogger, SeveralLoggers, never_fatal
from serx.training.tensorboard import TensorBoardWriter, settings_of

PROJECT = "serx"
IDS = "{name}_id"  # file in the run folder with the identifier of the run at the service, for a resume


def check_loggers(names: Sequence[str]) -> None:
    """Raises ConfigError if the package of a logger is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(f"train.loggers: {name} is not installed: pip install 'serx[{name}]'")


def make_loggers(names: Sequence[str], folder: Path, epochs_done: int) -> SeveralLoggers:
    """The loggers of a run in `folder`, of which `epochs_done` epochs are trained."""
    kinds = {"tensorboard": TensorBoardWriter, "mlflow": MlflowLogger, "wandb": WandbLogger}
    return SeveralLoggers([kinds[name](folder, epochs_done) for name in names])


class MlflowLogger(RunLogger):
    """A run of MLflow in the experiment `serx` (MLFLOW_EXPERIMENT_NAME), through its client: no global state."""

    name = "MLflow"

    def __init__(self, folder: Path, epochs_done: int) -> None:
        """Opens the run that an earlier process wrote, if `epochs_done` of it are trained."""
        self._folder, self._resumes = folder, epochs_done > 0

    @never_fatal
    def start(self, config: Config, protocol: str, notes: Sequence[str], labels: tuple[str, ...]) -> None:
        import mlflow  # noqa: PLC0415 (an optional package)
        from mlflow.entities import Metric, Param  # noqa: PLC0415

        self._metric, self._client = Metric, mlflow.MlflowClient()
        saved = _saved_id(self._folder, "mlflow") if self._resumes else None
        if saved is not None:
            with suppress(Exception):  # the run may have been deleted, or be at another server
                self._client.set_terminated(saved, "RUNNING")
                self._run = saved
                return
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(title)
        number = self._client.create_experiment(title) if experiment is None else experiment.experiment_id
        tags = {"mlflow.runName": self._folder.name, "protocol": protocol, "folder": str(self._folder)}
        self._run = self._client.create_run(number, tags=tags).info.run_id
        settings = [Param(key, str(value)[:6000]) for key, value in settings_of(config).items()]
        for start in range(0, len(settings), 100):  # the most that MLflow takes at once
            self._client.log_batch(self._run, params=settings[start : start + 100])
        _save_id(self._folder, "mlflow", self._run)

    @never_fatal
    def epoch(self, scalars: dict[str, float], epoch: int, examples: int) -> None:
        import time  # noqa: PLC0415

        now = round(1000 * time.time())
        values = {**scalars, "examples": float(examples)}
        metrics = [self._metric(_mlflow_key(tag), float(value), now, epoch + 1) for tag, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    @never_fatal
    def finish(self, config: Config, kept: dict[str, Any]) -> None:
        self._client.set_tag(self._run, "kept_epoch", str(kept["epoch"] + 1))
        self._client.set_terminated(self._run, "FINISHED")

    @never_fatal
    def close(self) -> None:
        """A run that did not finish stays as it is, and can be resumed."""


class WandbLogger(RunLogger):
    """A run of Weights & Biases in the project `serx` (WANDB_PROJECT). With WANDB_MODE=offline it stays on the disk."""

    name = "Weights & Biases"

    def __init__(self, folder: Path, epochs_done: int) -> None:
        """Continues the run that an earlier process wrote, if `epochs_done` of it are trained."""
        self._folder, self._resumes = folder, epochs_done > 0
        self._run: Any = None

    @never_fatal
    def start(self, config: Config, protocol: str, notes: Sequence[str], labels: tuple[str, ...]) -> None:
        import wandb  # noqa: PLC0415 (an optional package)

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(self._folder),
            name=self._folder.name,
            id=_saved_id(self._folder, "wandb") if self._resumes else None,
            resume="allow",
            config={**settings_of(config), "protocol": protocol},
        )
        self._run.define_metric("*", step_metric="epoch")
        _save_id(self._folder, "wandb", self._run.id)

    @never_fatal
    def epoch(self, scalars: dict[str, float], epoch: int, examples: int) -> None:
        self._run.log({**scalars, "epoch": epoch + 1, "examples": examples})

    @never_fatal
    def finish(self, config: Config, kept: dict[str, Any]) -> None:
        self._run.summary["kept_epoch"] = kept["epoch"] + 1

    @never_fatal
    def close(self) -> None:
        if self._run is not None:
            self._run.finish()


def _mlflow_key(tag: str) -> str:
    """A metric's name with the characters that MLflow allows."""
    return "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in tag)


def _saved_id(folder: Path, name: str) -> str | None:
    with suppress(OSError, ValueError):
        saved = read_json(folder / IDS.format(name=name))
        return saved if isinstance(saved, str) else None
    return None


def _save_id(folder: Path, name: str, value: str) -> None:
    write_atomically(folder / IDS.format(name=name), f'"{value}"'.encode())
