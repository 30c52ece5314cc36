"""TensorBoard's one event file has the charts that matter; MLflow and Weights & Biases get the same numbers."""

import re
import sys
import urllib.request
from importlib.metadata import packages_distributions
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import metadata

from serx.cli import tensorboard as command
from serx.errors import ConfigError
from serx.training import loggers as services
from serx.training import tensorboard as tracking
from serx.training.run_logger import KEPT
from serx.training.tensorboard import TensorBoardWriter, custom_charts
from serx.training.trainer import Trainer, fit
from tests.conftest import blank

CLIPS = 24  # for training in the tiny corpus


@pytest.fixture
def run(trained):
    """The folder of a finished run, and its events."""
    folder = trained("train.epochs=3").parent
    return folder, events_of(folder)


def events_of(folder) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "audio": 0}).Reload()


def points(events: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_a_run_has_one_event_file_and_no_run_within_a_run(run):
    folder, _ = run
    assert len(list(folder.rglob("events.out.tfevents*"))) == 1


def test_training_and_validation_share_a_chart_whose_curves_exist(run):
    _, events = run
    tags = set(events.Tags()["scalars"])
    [config] = events.Tensors("custom_scalars__config__")
    layout = Layout.FromString(config.tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for category in layout.category for chart in category.chart}
    assert charts["UAR"] == ["train/uar", "valid/uar"] and charts["loss"] == ["train/loss", "valid/loss"]
    named = {tag for chart in charts.values() for tag in chart} - {"loop/gpu_memory_gb"}
    assert all(any(re.fullmatch(tag, existing) for existing in tags) for tag in named)


def test_a_label_is_no_regular_expression():
    recalls = custom_charts(("a+b", "c"))["Scores"]["validation recall of each emotion"][1]
    assert re.fullmatch(recalls[0], "valid_recall/a+b")


def test_the_hparams_row_names_curves_and_adds_no_chart(run):
    _, events = run
    tags = events.Tags()["scalars"]
    assert not [tag for tag in tags if tag.startswith("hparam")]
    content = events.summary_metadata[metadata.EXPERIMENT_TAG].plugin_data.content
    experiment = metadata.parse_experiment_plugin_data(content)
    names = {info.name.tag for info in experiment.metric_infos}
    assert names == set(KEPT) <= set(tags)
    assert {"optim.lr", "model.kind", "train.batch_size"} <= {info.name for info in experiment.hparam_infos}


def test_the_kept_curves_end_at_the_scores_of_the_kept_epoch(run):
    _, events = run
    uar = points(events, "valid/uar")
    best = [max(value for _, value in uar[: i + 1]) for i in range(len(uar))]
    assert [value for _, value in points(events, "kept/uar")] == best


def test_the_same_scores_are_drawn_over_training_clips(run):
    _, events = run
    for part, name in (("train", "uar"), ("valid", "loss")):
        by_epoch, by_examples = points(events, f"{part}/{name}"), points(events, f"examples/{part}_{name}")
        assert by_examples == [(epoch * CLIPS, value) for epoch, value in by_epoch]


def test_after_a_resume_every_curve_has_each_epoch_once(tiny_config, tmp_path, monkeypatch):
    config = tiny_config("train.epochs=3")

    def killed(self):
        if self.state.progress.epoch == 2:
            raise KeyboardInterrupt
        saved(self)

    saved = Trainer._save_last
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_last", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(config, tmp_path / "run", progress=False)
    fit(config, tmp_path / "run", resume=True, progress=False)
    events = events_of(tmp_path / "run")
    assert [step for step, _ in points(events, "valid/uar")] == [1, 2, 3]
    assert [step for step, _ in points(events, "examples/valid_uar")] == [CLIPS, 2 * CLIPS, 3 * CLIPS]


def test_confusion_matrices_are_few_and_the_last_is_that_of_the_kept_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "confusion_pixels", blank)
    writer = TensorBoardWriter(tmp_path, 0)
    for epoch in range(40):
        writer.confusion(np.eye(2), ("a", "b"), "title", epoch)
    view = SimpleNamespace(
        mistakes=[], targets=np.array([0, 1]), probabilities=np.eye(2), rows=[["a"] * 6] * 2, points=np.eye(2)
    )
    writer.validation(lambda: view, ("a", "b"), "title", 16_000, 39)
    writer.close()
    assert not writer.failed
    assert [event.step for event in events_of(tmp_path).Images("valid/confusion")] == [1, 4, 16, 40]


def test_without_loggers_nothing_but_the_run_itself_is_written(tiny_config, tmp_path):
    fit(tiny_config("train.epochs=1", "train.loggers=[]"), tmp_path / "run", progress=False)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert "metrics.jsonl" in names and not [name for name in names if "tfevents" in name]


# MLflow and Weights & Biases, of which the tests have tiny stand-ins


class FakeService:
    """What the two services were told, as both of their interfaces."""

    def __init__(self) -> None:
        self.runs: dict[str, dict] = {}
        self.metrics: list[tuple[str, str, float, int]] = []

    # MLflow's client

    def get_experiment_by_name(self, title):
        return None

    def create_experiment(self, title):
        return "7"

    def create_run(self, experiment, tags):
        self.runs["run1"] = {"experiment": experiment, "tags": tags, "params": {}, "status": "RUNNING"}
        return SimpleNamespace(info=SimpleNamespace(run_id="run1"))

    def set_terminated(self, run, status):
        self.runs[run]["status"] = status

    def set_tag(self, run, key, value):
        self.runs[run]["tags"][key] = value

    def log_batch(self, run, metrics=(), params=()):
        assert len(params) <= 100
        self.runs[run]["params"].update({param.key: param.value for param in params})
        self.metrics += [(run, metric.key, metric.value, metric.step) for metric in metrics]

    # Weights & Biases

    def init(self, **settings):
        self.settings, self.summary, self.id = settings, {}, settings["id"] or "w1"
        return self

    def define_metric(self, name, step_metric):
        pass

    def log(self, values):
        self.metrics += [(self.id, tag, value, values["epoch"]) for tag, value in values.items()]

    def finish(self):
        self.finished = True


@pytest.fixture
def service(monkeypatch):
    fake = FakeService()
    records = {
        "Metric": lambda key, value, _now, step: SimpleNamespace(key=key, value=value, step=step),
        "Param": lambda key, value: SimpleNamespace(key=key, value=value),
    }
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=lambda: fake))
    monkeypatch.setitem(sys.modules, "mlflow.entities", SimpleNamespace(**records))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(services, "find_spec", lambda name: name)
    return fake


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_service_gets_the_settings_and_the_scores_of_each_epoch(name, service, tiny_config, tmp_path):
    config = tiny_config("train.epochs=2", f"train.loggers=[{name}]")
    outcome = fit(config, tmp_path / "run", progress=False)
    uar = [(value, step) for _, tag, value, step in service.metrics if tag == "valid/uar"]
    assert [step for _, step in uar] == [1, 2] and max(uar)[0] == outcome.kept["valid"]["uar"]
    assert [value for _, tag, value, _ in service.metrics if tag == "examples"] == [CLIPS, 2 * CLIPS]
    settings = service.runs["run1"]["params"] if name == "mlflow" else service.settings["config"]
    assert str(settings["optim.lr"]) == str(config.optim.lr) and settings["model.kind"] == "cnn2d"
    kept = service.runs["run1"]["tags"]["kept_epoch"] if name == "mlflow" else service.summary["kept_epoch"]
    assert int(kept) == outcome.kept["epoch"] + 1
    assert service.runs["run1"]["status"] == "FINISHED" if name == "mlflow" else service.finished
    before = len(service.metrics)
    fit(tiny_config("train.epochs=2", "train.loggers=[mlflow,wandb]"), tmp_path / "run", resume=True, progress=False)
    assert len(service.metrics) == before  # nothing is left to train, and the loggers may change on a resume
    if name == "wandb":
        assert service.settings["id"] == "w1"


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_service_out_of_reach_does_not_stop_training(name, service, tiny_config, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise ConnectionError("no route\nto host")

    for method in ("log_batch", "log"):
        monkeypatch.setattr(service, method, fail)
    outcome = fit(tiny_config("train.epochs=2", f"train.loggers=[{name}]"), tmp_path / "run", progress=False)
    assert outcome.kept
    assert capsys.readouterr().out.count("stops here (ConnectionError: no route to host)") == 1


def test_a_missing_service_is_named_before_anything_is_read(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(services, "find_spec", lambda name: None if name == "mlflow" else name)
    with pytest.raises(ConfigError, match=r"mlflow is not installed: pip install 'serx\[mlflow\]'"):
        fit(tiny_config("train.loggers=[mlflow]"), tmp_path / "run", progress=False)
    assert not list((tmp_path / "run").glob("metrics.jsonl"))


# serx tensorboard


def test_the_command_serves_the_runs_of_a_folder(run):
    folder, _ = run
    address = command.start(folder, None)
    assert address.startswith("http://127.0.0.1:") and address.endswith("#custom_scalars")
    with urllib.request.urlopen(address.partition("#")[0]) as answer:
        assert b"TensorBoard" in answer.read()


def test_a_folder_without_runs_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        command.start(tmp_path / "absent", None)
    with pytest.raises(ConfigError, match="no run with TensorBoard's files"):
        command.start(tmp_path, None)
    (tmp_path / "events.out.tfevents.1").touch()
    with pytest.raises(ConfigError, match="--port 0"):
        command.start(tmp_path, 0)


def test_no_script_hides_a_package_that_the_others_import():
    """Python looks into the folder of a script first: scripts/tensorboard.py would be imported as tensorboard."""
    scripts = {path.stem for path in (Path(__file__).parents[2] / "scripts").glob("*.py")}
    hidden = {name.partition(".")[0] for name in packages_distributions()} & scripts
    assert hidden == set()
