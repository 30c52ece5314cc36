"""TensorBoard shows the best checkpoint's predictions for the validation clips; its errors do not stop training."""

import csv

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from serx import checkpoint
from serx.data.batches import make_batch_source
from serx.data.dataset import load_dataset, split_dataset
from serx.evaluation import evaluate
from serx.plots.pixels import spectrogram_pixels
from serx.training import tensorboard as tracking
from serx.training import trainer as loop
from serx.training.run_folder import BEST
from serx.training.state import TrainingState
from serx.training.tensorboard import COLUMNS, MISTAKES, ShownClip, validation_view
from serx.training.trainer import fit

CPU = torch.device("cpu")


@pytest.fixture
def finished(tiny_config, tmp_path):
    """A configuration, its result, and the best checkpoint's predictions for the validation clips."""
    config = tiny_config("train.epochs=4")
    outcome = fit(config, tmp_path / "run", progress=False)
    predictions = evaluate(tmp_path / "run" / BEST, None, "valid", CPU, progress=False).predictions
    return config, outcome, predictions


def test_the_projector_holds_the_best_checkpoints_probabilities_of_every_validation_clip(finished, tmp_path):
    _, outcome, predictions = finished
    [folder] = (tmp_path / "run").glob("0*/valid")
    assert int(folder.parent.name) == outcome.kept["epoch"] + 1
    points = np.loadtxt(folder / "tensors.tsv", delimiter="\t")
    np.testing.assert_allclose(np.exp(points), predictions.probabilities, atol=1e-4)
    rows = list(csv.DictReader((folder / "metadata.tsv").open(), delimiter="\t"))
    assert tuple(rows[0]) == COLUMNS and len(rows) == len(predictions.paths)
    for row, path, speaker_id, target in zip(
        rows, predictions.paths, predictions.speaker_ids, predictions.targets, strict=True
    ):
        assert row["speaker"] == speaker_id and path.endswith(row["file"]) and row["corpus"] == "ravdess"
        assert row["emotion"] == predictions.labels[target] and row["sex"] in ("male", "female")
    assert [row["prediction"] for row in rows] == [predictions.labels[i] for i in predictions.probabilities.argmax(1)]


def test_mistakes_are_sorted_by_confidence_and_have_their_audio(finished, tmp_path):
    config, outcome, predictions = finished
    dataset = load_dataset(config.data, progress=False)
    clips = np.asarray(split_dataset(dataset, config.data, progress=False).valid)
    state = TrainingState(config, dataset.labels, CPU, pretrained=False)
    state.start_average()
    view = validation_view(state, tmp_path / "run" / BEST, make_batch_source(dataset.audio_cache, CPU), dataset, clips)
    predicted, confidences = predictions.probabilities.argmax(1), predictions.probabilities.max(1)
    wrong = np.flatnonzero(predicted != predictions.targets)
    assert 0 < len(view.mistakes) == min(MISTAKES, len(wrong))
    expected = wrong[np.argsort(-confidences[wrong], kind="stable")][: len(view.mistakes)]
    for mistake, i in zip(view.mistakes, expected, strict=True):
        truth, prediction = (predictions.labels[indices[i]] for indices in (predictions.targets, predicted))
        assert mistake.title.endswith(f": {truth}, predicted {prediction} {100 * confidences[i]:.0f} %")
        np.testing.assert_allclose(mistake.sound * 32768, dataset.audio_cache.clip(int(clips[i])), atol=1e-3)
        assert mistake.picture.shape[0] == 24
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0, "audio": 0})
    tags = events.Reload().Tags()
    for kind in ("images", "audio"):
        assert sum(tag.startswith("mistakes/") for tag in tags[kind]) == len(view.mistakes)
    assert [event.step for event in events.Images("mistakes/0")] == [outcome.kept["epoch"] + 1]


def test_precision_recall_curves_are_those_of_the_best_checkpoint(finished, tmp_path):
    _, _, predictions = finished
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    for number, label in enumerate(predictions.labels):
        [event] = events.Tensors(f"precision_recall/{label}")
        rows = np.frombuffer(event.tensor_proto.tensor_content, np.float32)
        values = rows if len(rows) else np.array(event.tensor_proto.float_val)
        hits, alarms, _, _, precision, recall = values.reshape(6, -1)
        truth, probability = predictions.targets == number, predictions.probabilities[:, number]
        middle = hits.shape[0] // 2
        over = probability > middle / (hits.shape[0] - 1)
        assert hits[middle] == (truth & over).sum() and alarms[middle] == (~truth & over).sum()
        assert recall[0] == 1 and precision[0] == pytest.approx(truth.mean())


def test_an_error_in_the_validation_view_does_not_stop_training(tiny_config, tmp_path, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("no memory for that")

    monkeypatch.setattr(loop, "validation_view", broken)
    outcome = fit(tiny_config("train.epochs=1"), tmp_path / "run", progress=False)
    assert outcome.kept and checkpoint.load(tmp_path / "run" / BEST)
    assert "warning: TensorBoard stops here (RuntimeError: no memory for that)" in capsys.readouterr().out


def test_without_validation_no_predictions_are_shown(tiny_config, tmp_path):
    no_validation = ("data.valid_speakers=[]", "data.valid_fraction=0", "train.select=last")
    fit(tiny_config(*no_validation, "train.epochs=1"), tmp_path / "run", progress=False)
    assert not list((tmp_path / "run").glob("**/tensors.tsv"))


@pytest.mark.pictures
def test_the_time_axis_of_a_spectrogram_is_the_clips_duration(monkeypatch):
    drawn = []

    def draw(features, title, seconds):
        drawn.append((features.shape, title, seconds))
        return spectrogram_pixels(features, title, seconds)

    monkeypatch.setattr(tracking, "spectrogram_pixels", draw)
    pixels = tracking.picture(ShownClip(torch.zeros(8000), torch.rand(4, 10), "a clip"), 16_000)
    assert drawn == [((4, 10), "a clip", 0.5)]
    assert pixels.dtype == np.uint8 and pixels.shape == (440, 880, 3)
