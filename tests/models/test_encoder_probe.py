"""A probe on a frozen encoder: its vectors, what is trained, what is cached, and its checkpoints."""

from pathlib import Path

import numpy as np
import pytest
import torch

from serx import Predictor
from serx.config.loader import load_config
from serx.data.dataset import load_dataset, split_dataset
from serx.errors import ConfigError, SerxError
from serx.evaluation import evaluate
from serx.experiments.folds import state_of
from serx.models import build_model
from serx.models.encoder_probe import EncoderProbeConfig, FrozenEncoder, layer_statistics
from serx.models.encoders import load_encoder, resolve_encoder
from serx.training.ensemble import build_ensemble
from serx.training.trainer import fit
from tests.conftest import batched

KINDS = ("whisper", "wav2vec2", "wavlm")


@pytest.mark.parametrize("kind", KINDS)
def test_the_vector_is_the_mean_and_deviation_of_each_layer_over_the_frames_of_the_clip(kind, encoder_folder, clips):
    encoder = load_encoder(resolve_encoder(str(encoder_folder(kind)))).eval()
    vectors = layer_statistics(encoder, *batched(clips, extra=5000))
    for vector, clip in zip(vectors, clips, strict=True):
        with torch.no_grad():
            states, frames = encoder(*batched([clip]))
        parts = [(s[0, : frames[0]].mean(0), s[0, : frames[0]].std(0, correction=0)) for s in states]
        expected = torch.cat([statistic for pair in parts for statistic in pair])
        torch.testing.assert_close(vector, expected, atol=2e-3, rtol=1e-4)


def probe_config(root, folder, *overrides):
    return load_config(
        "configs/encoder_probe.yaml",
        f"data.root={root}",
        "data.protocol=speakers",
        "data.test_speakers=['01']",
        f"model={{kind: encoder_probe, source: {folder}, hidden: 8, ensemble_size: 4}}",
        "train.epochs=2",
        "train.batch_size=16",
        *overrides,
    )


@pytest.fixture
def encoded(monkeypatch):
    """The numbers of clips that each call of an encoder has encoded."""
    counts: list[int] = []

    def counting(encoder, waveform, lengths):
        counts.append(len(waveform))
        return layer_statistics(encoder, waveform, lengths)

    monkeypatch.setattr("serx.models.encoder_probe.layer_statistics", counting)
    return counts


def test_each_clip_is_encoded_once_for_all_epochs_seeds_and_evaluations(tiny_root, tmp_path, encoder_folder, encoded):
    folder = str(tmp_path / "cache")
    cache = f"data.cache={folder}"
    config = probe_config(tiny_root, encoder_folder("whisper"), cache, "data.valid_speakers=['02']")
    run = fit(config, tmp_path / "run", progress=False)
    assert sum(encoded) == 60  # the training and validation clips of 5 speakers
    second = fit(config.model_copy(update={"train": config.train.model_copy(update={"seed": 1})}), tmp_path / "b")
    assert sum(encoded) == 60
    scores = evaluate(run.checkpoint, cache=folder, progress=False)
    assert sum(encoded) == 72
    evaluate(second.checkpoint, cache=folder, progress=False)
    assert sum(encoded) == 72

    predictor = Predictor.load(run.checkpoint)  # it needs neither cache nor source
    path = next(Path(tiny_root).glob("Actor_01/*.wav"))
    row = [Path(name).name for name in scores.predictions.paths].index(path.name)
    expected = scores.predictions.probabilities[row]
    np.testing.assert_allclose(list(predictor(path).probabilities.values()), expected, atol=1e-4)


def test_only_the_heads_are_trained_and_the_checkpoint_holds_the_encoder_once(tiny_root, tmp_path, encoder_folder):
    folder = encoder_folder("whisper")
    run = fit(probe_config(tiny_root, folder), tmp_path / "run", progress=False)
    recognizer = Predictor.load(run.checkpoint).recognizer
    part = recognizer.backbone.constant_part
    assert isinstance(part, FrozenEncoder)
    published = load_encoder(resolve_encoder(str(folder))).state_dict()
    assert all((tensor == published[name]).all() for name, tensor in part.encoder.state_dict().items())
    assert len(recognizer.backbone.members) == 4
    assert sum("conv1" in name for name in recognizer.state_dict()) == 2  # weight and bias


def test_augmented_copies_are_encoded_once_and_trained_on(tiny_root, tmp_path, encoder_folder, encoded):
    noise = "augment.waveform=[{kind: noise, p: 1.0, snr_db: [5, 20]}]"
    config = probe_config(tiny_root, encoder_folder("whisper"), noise, "augment.copies=2", "train.epochs=3")
    fit(config.model_copy(update={"data": config.data.model_copy(update={"cache": str(tmp_path / "cache")})}),
        tmp_path / "run", progress=False)  # fmt: skip
    assert sum(encoded) == 3 * 60


def test_augmentation_without_copies_is_refused(tiny_root, tmp_path, encoder_folder):
    with pytest.raises(SerxError, match="augment.copies"):
        probe_config(tiny_root, encoder_folder("whisper"), "augment.waveform=[{kind: noise, p: 1.0}]")


def test_a_run_with_a_filled_cache_gives_the_same_bits(tiny_root, tmp_path, encoder_folder):
    config = probe_config(tiny_root, encoder_folder("whisper"))
    whole = fit(config, tmp_path / "whole", progress=False)
    again = fit(config, tmp_path / "again", progress=False)
    assert (whole.folder / "metrics.jsonl").read_text().count("\n") == 2
    first, second = (Predictor.load(run.checkpoint).recognizer.state_dict() for run in (whole, again))
    assert all((tensor == second[name]).all() for name, tensor in first.items())


def test_a_probe_without_an_architecture_says_where_it_comes_from():
    with pytest.raises(ConfigError, match="training reads it from model.source"):
        build_model(EncoderProbeConfig(), bins=1, classes=3)


def test_a_probe_is_adapted_by_the_speaker_model_that_its_training_fitted(tiny_root, tmp_path, encoder_folder, trusted):
    config = probe_config(tiny_root, encoder_folder("whisper"), "data.test_speakers=['01','02']", "train.epochs=4")
    run = fit(config, tmp_path / "run", progress=False)
    recognizer = Predictor.load(run.checkpoint).recognizer
    assert recognizer.speaker_model is not None and recognizer.speaker_model.means.shape == (3, 3)
    plain, adapted = (evaluate(run.checkpoint, adapt=adapt, progress=False) for adapt in (False, True))
    assert "ADAPTED" in adapted.protocol and "ADAPTED" not in plain.protocol
    assert np.abs(adapted.predictions.probabilities - plain.predictions.probabilities).max() > 1e-3
    again = evaluate(run.checkpoint, adapt=False, progress=False)  # nothing of the adaptation is left
    np.testing.assert_array_equal(again.predictions.probabilities, plain.predictions.probabilities)


def test_the_probe_of_an_ensemble_keeps_its_speaker_model(tiny_root, tmp_path, encoder_folder, trusted):
    source = encoder_folder("whisper")
    runs = [fit(probe_config(tiny_root, source, f"train.seed={seed}"), tmp_path / str(seed), progress=False)
            for seed in (0, 1)]  # fmt: skip
    path = tmp_path / "ensemble.safetensors"
    build_ensemble([run.checkpoint for run in runs], path)
    voters = Predictor.load(path).recognizer.backbone.members[0].voters
    for run, voter in zip(runs, voters, strict=True):
        own = Predictor.load(run.checkpoint).recognizer.speaker_model.tensors()
        assert all(torch.equal(tensor, own[name]) for name, tensor in voter.speaker_model.tensors().items())
    plain, adapted = (evaluate(path, adapt=adapt, progress=False) for adapt in (False, True))
    assert (adapted.predictions.probabilities != plain.predictions.probabilities).any()


def test_a_fold_of_a_probe_is_recognized_though_its_run_has_read_the_architecture(tiny_root, tmp_path, encoder_folder):
    config = probe_config(tiny_root, encoder_folder("whisper"))
    run = fit(config, tmp_path / "run", progress=False)
    dataset = load_dataset(config.data, progress=False)
    split = split_dataset(dataset, config.data, progress=False)
    assert state_of(run.folder, config, dataset, split) == "begun"
    other = probe_config(tiny_root, encoder_folder("wavlm"))
    with pytest.raises(ConfigError, match="model.source"):
        state_of(run.folder, other, dataset, split)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("features={stack: [logmel]}", "encoder_probe reads waveforms"),
        ("data.sample_rate=8000", "trained at 16000 Hz"),
        ("model.relaxed_freq_norm=0.5", "relaxed_freq_norm"),
        ("model.source=WAVLM_BASE", "microsoft/wavlm-base"),
    ],
)
def test_settings_that_a_probe_cannot_have_are_refused(override, message, tiny_root, encoder_folder):
    with pytest.raises(ConfigError, match=message):
        probe_config(tiny_root, encoder_folder("whisper"), override)
