"""A recognizer is adapted to one speaker within the block, and afterward restored to the bit."""

import numpy as np
import pytest
import soundfile
import torch

from serx.data.batches import make_batch_source
from serx.data.dataset import load_dataset
from serx.data.synthetic.corpus import make_corpus
from serx.errors import ConfigError, DataError
from serx.evaluation import evaluate
from serx.features.stack import FeaturesConfig
from serx.inference.adaptation import PRIOR_CLIPS, TRUST, Prototypes, adapted, captured_embeddings
from serx.inference.classify import classify
from serx.inference.predictor import Predictor
from serx.models.backbone import batch_norms, build_model
from serx.models.cnn2d import Cnn2dConfig
from serx.models.mlp import MlpConfig
from serx.models.timm_backbone import TimmConfig
from serx.recognizer import Recognizer
from tests.conftest import RATE, batched, speechlike

CPU = torch.device("cpu")


@pytest.fixture
def checkpoint(trained):
    return trained("train.epochs=4", "model.ensemble_size=2")


@pytest.fixture
def predictor(checkpoint):
    return Predictor.load(checkpoint, CPU)


@pytest.fixture
def recognizer(predictor):
    return predictor.recognizer


def clips_of_speaker(count: int, pitch: float = 150, seconds: float = 0.6) -> list[torch.Tensor]:
    return [torch.from_numpy(speechlike(seconds, pitch + 7 * i, i)) for i in range(count)]


def copied_state(recognizer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in recognizer.state_dict().items()}


def first_norm(recognizer) -> torch.nn.Module:
    return batch_norms(recognizer.backbone)[0]


def recorded_training_inputs(norm) -> list[torch.Tensor]:
    """A list that receives each batch that updates the statistics of `norm`."""
    inputs_of_norm: list[torch.Tensor] = []
    norm.register_forward_pre_hook(lambda layer, inputs: inputs_of_norm.append(inputs[0]) if layer.training else None)
    return inputs_of_norm


def values(prediction) -> list[float]:
    return [*prediction.probabilities.values()]


# Batch-norm statistics


@pytest.mark.usefixtures("trusted")
def test_statistics_of_speaker_and_training_are_weighted_by_the_number_of_clips(recognizer):
    clips, norm = clips_of_speaker(4), first_norm(recognizer)
    before = norm.running_mean.clone(), norm.running_var.clone()
    batches = recorded_training_inputs(norm)
    with adapted(recognizer, clips):
        weight = 4 / (4 + PRIOR_CLIPS)
        per_channel = batches[0].transpose(0, 1).flatten(1)
        mean, var = per_channel.mean(1), per_channel.var(1)
        torch.testing.assert_close(norm.running_mean, weight * mean + (1 - weight) * before[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(norm.running_var, weight * var + (1 - weight) * before[1], atol=1e-5, rtol=1e-4)
    assert len(batches) == 1


@pytest.mark.parametrize(
    ("logits", "trust"),
    [
        (20 * torch.eye(3), 1.0),  # three emotions, each of them sure
        (20 * torch.eye(3)[[0, 0, 0]], 0.0),  # one emotion
        (torch.zeros(3, 3), 0.0),  # nothing is known
        (20 * torch.eye(3)[[0, 0, 0, 0, 0, 0, 0, 1]], (0.342949 - TRUST[0]) / (TRUST[1] - TRUST[0])),
    ],
)
def test_clips_count_as_far_as_several_emotions_are_heard_and_sure(recognizer, logits, trust):
    """In the last case the mutual information is the entropy of (1/8, 7/8) = 0.376770 nats, of log(3) possible ones."""
    clips, norm = clips_of_speaker(len(logits)), first_norm(recognizer)
    recognizer.temperature = 1.0
    before, batches = norm.running_mean.clone(), recorded_training_inputs(norm)
    hook = recognizer.register_forward_hook(lambda _module, _inputs, _logits: logits)
    with adapted(recognizer, clips):
        weight = trust * len(clips) / (len(clips) + PRIOR_CLIPS)
        expected = before + weight * (batches[0].mean((0, 2, 3)) - before)
        torch.testing.assert_close(norm.running_mean, expected, atol=1e-5, rtol=1e-3)
    hook.remove()


def test_the_recognizer_is_restored_after_the_block_and_after_an_error(recognizer):
    before, momentum = copied_state(recognizer), first_norm(recognizer).momentum
    with adapted(recognizer, clips_of_speaker(3)):
        assert any(not torch.equal(tensor, before[name]) for name, tensor in recognizer.state_dict().items())
    with pytest.raises(ZeroDivisionError), adapted(recognizer, clips_of_speaker(3)):
        raise ZeroDivisionError
    unusable = torch.zeros(RATE, dtype=torch.int16, device="meta")
    with pytest.raises(RuntimeError), adapted(recognizer, [*clips_of_speaker(1), unusable]):
        pass
    after = recognizer.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert first_norm(recognizer).momentum == momentum
    assert not any(module.training for module in recognizer.modules())
    assert not recognizer._forward_hooks


def test_adapted_predictions_do_not_depend_on_neighbors_or_padding(recognizer):
    clips = clips_of_speaker(5)
    with adapted(recognizer, clips):
        together = recognizer.probabilities(*batched([clip.numpy() for clip in clips], extra=3000))
        for row, clip in zip(together, clips, strict=True):
            alone = recognizer.probabilities(clip[None], torch.tensor([len(clip)]))[0]
            torch.testing.assert_close(alone, row, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("trusted")
def test_logits_are_adjusted_by_the_prototypes_of_the_adapted_network(recognizer, monkeypatch):
    clips = clips_of_speaker(6)
    batch = batched([clip.numpy() for clip in clips])
    with adapted(recognizer, clips), torch.inference_mode():
        adjusted = recognizer(*batch)
    with monkeypatch.context() as without_prototypes:
        without_prototypes.setattr("serx.inference.adaptation.CONCENTRATION", 0.0)
        without_prototypes.setattr("serx.inference.adaptation.REDUNDANCY", 0.0)
        with adapted(recognizer, clips), captured_embeddings(recognizer) as read_embeddings, torch.inference_mode():
            predicted = recognizer(*batch).log_softmax(1)
            embeddings = read_embeddings()
    expected = Prototypes(predicted, embeddings).adjust(predicted, embeddings)
    torch.testing.assert_close(adjusted, expected, atol=1e-4, rtol=0)
    assert (adjusted - predicted).abs().max() > 0.05


def test_a_long_recording_counts_as_its_pieces(recognizer):
    recording = torch.from_numpy(speechlike(12.0, 140, 5))
    with adapted(recognizer, [recording]):
        expected = copied_state(recognizer)
    with adapted(recognizer, list(recording.split(4 * RATE))):
        for name, tensor in recognizer.state_dict().items():
            torch.testing.assert_close(tensor, expected[name], atol=1e-6, rtol=1e-6)


@pytest.mark.usefixtures("trusted")
def test_several_batches_are_averaged_and_every_clip_counts(recognizer, monkeypatch):
    clips, norm = clips_of_speaker(6), first_norm(recognizer)
    monkeypatch.setattr("serx.inference.adaptation.NORM_BATCH", 3)
    before, batches = norm.running_mean.clone(), recorded_training_inputs(norm)
    with adapted(recognizer, clips):
        mean = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
        expected = (6 * mean + PRIOR_CLIPS * before) / (6 + PRIOR_CLIPS)
        torch.testing.assert_close(norm.running_mean, expected, atol=1e-5, rtol=1e-4)
    assert [len(batch) for batch in batches] == [3, 3]
    with adapted(recognizer, clips[::2]):  # neighbors are spread over the batches
        pass
    torch.testing.assert_close(batches[2], batches[0], atol=1e-6, rtol=0)


def test_clips_of_equal_length_are_padded_as_in_training(recognizer):
    widths = []
    hook = recognizer.features.register_forward_pre_hook(lambda _, inputs: widths.append(inputs[0].shape[1]))
    with adapted(recognizer, clips_of_speaker(3, seconds=0.7)):
        hook.remove()
    assert widths[0] == RATE  # 0.7 of it is speech


@pytest.mark.usefixtures("trusted")
def test_after_adaptation_the_level_of_the_recording_does_not_matter(monkeypatch):
    """20 dB less subtract the same number from every row of a log-mel and from its mean, so batch norms cancel it."""
    monkeypatch.setattr("serx.inference.adaptation.PRIOR_CLIPS", 0)
    features = FeaturesConfig(statistics=("mean", "std"), normalize="none", remove_level=False, amin=1e-12, top_db=None)
    recognizer = Recognizer(features, MlpConfig(), ("calm", "angry", "sad"), RATE).eval()
    loud = clips_of_speaker(10)
    soft = [clip / 10 for clip in loud]

    def probabilities(clips: list[torch.Tensor]) -> torch.Tensor:
        return recognizer.probabilities(*batched([clip.numpy() for clip in clips]))

    assert (probabilities(soft) - probabilities(loud)).abs().max() > 0.05
    with adapted(recognizer, loud):
        expected = probabilities(loud)
    with adapted(recognizer, soft):
        torch.testing.assert_close(probabilities(soft), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("clips", [[], clips_of_speaker(1)])
def test_fewer_than_two_clips_raise(recognizer, clips):
    with pytest.raises(DataError, match=f"{len(clips)} clips are too few"), adapted(recognizer, clips):
        pass


def test_a_model_without_batch_norms_is_refused_before_training():
    build_model(Cnn2dConfig(adapt=True), 64, 8)
    build_model(TimmConfig(adapt=True, name="resnet10t"), 64, 8)
    build_model(MlpConfig(adapt=True), 64, 8)
    with pytest.raises(ConfigError, match="speaker adaptation needs batch norms"):
        build_model(TimmConfig(adapt=True, name="test_vit"), 64, 8)


# Evaluation


def test_evaluation_adapts_to_each_speaker_separately_and_says_so(checkpoint, predictor, tiny_config):
    plain = evaluate(checkpoint, None, "test", CPU, progress=False)
    with_adaptation = evaluate(checkpoint, None, "test", CPU, progress=False, adapt=True)
    assert "ADAPTED" not in plain.protocol and "without_adaptation" not in plain.details
    assert "ADAPTED to each speaker with 12 unlabeled clips" in with_adaptation.protocol
    probabilities, targets = plain.predictions.probabilities, plain.predictions.targets
    accuracy = (probabilities.argmax(1) == targets).mean()
    nll = -np.log(probabilities[np.arange(len(targets)), targets]).mean()
    expected_scores = {"uar": accuracy, "accuracy": accuracy, "nll": nll}
    assert with_adaptation.details["without_adaptation"] == pytest.approx(expected_scores, abs=1e-6)
    dataset = load_dataset(tiny_config().data, progress=False)
    source = make_batch_source(dataset.audio_cache, CPU)
    for speaker_id in ("ravdess/05", "ravdess/06"):
        clips = np.array([i for i, u in enumerate(dataset.utterances) if u.speaker_id == speaker_id])
        waveform, lengths = source.batch(clips)
        with adapted(predictor.recognizer, [row[:n] for row, n in zip(waveform, lengths, strict=True)]):
            expected = classify(predictor.recognizer, source, clips, dataset.audio_cache.lengths[clips])
        rows = [i for i, speaker in enumerate(with_adaptation.predictions.speaker_ids) if speaker == speaker_id]
        np.testing.assert_allclose(with_adaptation.predictions.probabilities[rows], expected, atol=1e-6)


def test_the_recipe_asks_for_adaptation_and_an_argument_overrides_it(trained):
    path = trained("train.epochs=1", "model.adapt=true")
    assert "ADAPTED" in evaluate(path, None, "test", CPU, progress=False).protocol
    assert "ADAPTED" not in evaluate(path, None, "test", CPU, progress=False, adapt=False).protocol


def test_the_error_names_a_speaker_with_a_single_clip(checkpoint, tmp_path):
    for actor, takes in ((7, 3), (8, 1)):
        for take in range(takes):
            name = tmp_path / "few" / f"03-01-03-01-01-0{take + 1}-0{actor}.wav"
            name.parent.mkdir(exist_ok=True)
            soundfile.write(name, speechlike(0.5, 170 + 9 * actor + 31 * take, 90 + 10 * actor + take), RATE)
    with pytest.raises(DataError, match=r"ravdess/08: 1 clips are too few.*--no-adapt"):
        evaluate(checkpoint, str(tmp_path / "few"), "test", CPU, progress=False, adapt=True)


# Predictor.adapted_to


@pytest.mark.usefixtures("trusted")
def test_a_predictor_is_adapted_to_files_within_the_block_only(predictor, tiny_root):
    files = sorted((tiny_root / "Actor_05").iterdir())
    plain = predictor(files[:3])
    with predictor.adapted_to(files[3:]) as skipped:
        with_adaptation = predictor(files[:3])
    assert skipped == {}
    assert predictor(files[:3]) == plain
    for before, after in zip(plain, with_adaptation, strict=True):
        assert np.abs(np.subtract(values(before), values(after))).max() > 1e-4
    clips, _ = predictor.adaptation_clips(files[3:])
    assert len(clips) == 9
    with adapted(predictor.recognizer, clips):
        assert predictor(files[:3]) == with_adaptation


def test_a_folder_may_be_given_for_its_files(predictor, tiny_root):
    folder = tiny_root / "Actor_05"
    files = sorted(folder.iterdir())
    with predictor.adapted_to(files):
        expected = predictor(files[0])
    with predictor.adapted_to(str(folder)):
        assert predictor(files[0]) == expected


def test_a_long_recording_is_cut_at_its_pauses_before_adaptation(predictor, tmp_path):
    make_corpus(tmp_path / "speaker", 1, 1, 0)
    files = sorted((tmp_path / "speaker").rglob("*.wav"))
    clips = [soundfile.read(path, dtype="float32")[0] for path in files]
    quiet = 1e-4 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    recording, silence = tmp_path / "recording.flac", tmp_path / "silence.flac"
    soundfile.write(recording, np.concatenate([part for clip in clips for part in (quiet, clip)]), RATE)
    soundfile.write(silence, np.tile(quiet, 80), RATE)
    segments, skipped = predictor.adaptation_clips([recording, silence])
    assert skipped == {silence: "no speech was found"}
    assert len(segments) == len(clips)
    for segment, clip in zip(segments, clips, strict=True):
        assert len(segment) == pytest.approx(len(clip), abs=0.2 * RATE)
    plain = values(predictor(files[0]))
    with predictor.adapted_to(recording):
        to_recording = values(predictor(files[0]))
    with predictor.adapted_to(files):
        to_clips = values(predictor(files[0]))
    assert np.abs(np.subtract(to_recording, to_clips)).max() < 0.1 * np.abs(np.subtract(plain, to_clips)).max()


def test_files_that_cannot_be_used_are_skipped_with_their_reasons(predictor, tiny_root, tmp_path):
    files = sorted((tiny_root / "Actor_05").iterdir())
    bad, absent = tmp_path / "b.wav", tmp_path / "absent.wav"
    bad.write_text("no audio")
    with predictor.adapted_to(files[3:]):
        expected = predictor(files[0])
    with predictor.adapted_to([files[3], bad, *files[4:], absent]) as skipped:
        assert predictor(files[0]) == expected
    assert list(skipped) == [bad, absent]
    assert skipped[bad].startswith("not_audio: ") and skipped[absent].startswith("unreadable: ")
    with pytest.raises(DataError, match="0 clips are too few"), predictor.adapted_to([bad]):
        pass
