"""A voice is known by its own clips for as long as it is enrolled, and to the bit forgotten afterward."""

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
from serx.inference.adaptation import PRIOR, Prototypes, adapted, capture_embeddings
from serx.inference.classify import classify
from serx.inference.predictor import Predictor
from serx.models.cnn2d import Cnn2dConfig
from serx.models.mlp import MlpConfig
from serx.models.backbone import batch_norms, build_model
from serx.models.timm_backbone import TimmConfig
from serx.recognizer import Recognizer
from tests.conftest import RATE, batched, speechlike

CPU = torch.device("cpu")


@pytest.fixture
def checkpoint(trained):
    return trained("train.epochs=4", "model.ensemble_size=2")


@pytest.fixture
def recognizer(checkpoint):
    return Predictor(checkpoint, CPU).recognizer


def voice(count: int, pitch: float = 150, seconds: float = 0.6) -> list[torch.Tensor]:
    return [torch.from_numpy(speechlike(seconds, pitch + 7 * i, i)) for i in range(count)]


def state(recognizer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in recognizer.state_dict().items()}


def first_norm(recognizer) -> torch.nn.Module:
    return batch_norms(recognizer.backbone)[0]


def what_sets(norm) -> list[torch.Tensor]:
    """A list that every batch joins which sets the statistics of `norm`."""
    heard: list[torch.Tensor] = []
    norm.register_forward_pre_hook(lambda layer, inputs: heard.append(inputs[0]) if layer.training else None)
    return heard


def test_a_norm_holds_the_voice_and_the_training_voices_by_their_number(recognizer):
    clips, norm = voice(4), first_norm(recognizer)
    before = norm.running_mean.clone(), norm.running_var.clone()
    seen = what_sets(norm)
    with adapted(recognizer, clips):
        share = 4 / (4 + PRIOR)
        values = seen[0].transpose(0, 1).flatten(1)
        mean, var = values.mean(1), values.var(1)
        torch.testing.assert_close(norm.running_mean, share * mean + (1 - share) * before[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(norm.running_var, share * var + (1 - share) * before[1], atol=1e-5, rtol=1e-4)
    assert len(seen) == 1


def test_afterwards_nothing_is_left_of_the_voice(recognizer):
    before, momentum = state(recognizer), first_norm(recognizer).momentum
    with adapted(recognizer, voice(3)):
        assert not torch.equal(first_norm(recognizer).running_mean, before["backbone.members.0.norm.running_mean"])
    with pytest.raises(ZeroDivisionError), adapted(recognizer, voice(3)):
        raise ZeroDivisionError
    with (
        pytest.raises(RuntimeError),
        adapted(recognizer, [*voice(1), torch.zeros(RATE, dtype=torch.int16, device="meta")]),
    ):
        pass
    after = recognizer.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert first_norm(recognizer).momentum == momentum
    assert not any(module.training for module in recognizer.modules())


def test_an_enrolled_voice_is_heard_clip_by_clip_as_in_a_batch(recognizer):
    clips = voice(5)
    with adapted(recognizer, clips):
        together = recognizer.probabilities(*batched([clip.numpy() for clip in clips], extra=3000))
        for row, clip in zip(together, clips, strict=True):
            alone = recognizer.probabilities(clip[None], torch.tensor([len(clip)]))[0]
            torch.testing.assert_close(alone, row, atol=1e-5, rtol=0)


def test_a_known_voice_is_drawn_to_its_own_prototypes(recognizer, monkeypatch):
    clips = voice(6)
    batch = batched([clip.numpy() for clip in clips])
    with adapted(recognizer, clips), torch.inference_mode():
        drawn = recognizer(*batch)
    with monkeypatch.context() as plainly:
        plainly.setattr("serx.inference.adaptation.CONCENTRATION", 0.0)
        plainly.setattr("serx.inference.adaptation.OVERLAP", 0.0)
        with adapted(recognizer, clips), capture_embeddings(recognizer) as embeddings, torch.inference_mode():
            verdict = recognizer(*batch).log_softmax(1)
            heard = embeddings()
    torch.testing.assert_close(drawn, Prototypes(verdict, heard).draw(verdict, heard), atol=1e-4, rtol=0)
    assert (drawn - verdict).abs().max() > 0.05


def test_a_long_recording_is_as_good_as_its_stretches(recognizer):
    whole = torch.from_numpy(speechlike(12.0, 140, 5))
    with adapted(recognizer, [whole]):
        expected = state(recognizer)
    with adapted(recognizer, list(whole.split(4 * RATE))):
        for name, tensor in recognizer.state_dict().items():
            torch.testing.assert_close(tensor, expected[name], atol=1e-6, rtol=1e-6)


def test_more_clips_than_a_batch_holds_count_all(recognizer, monkeypatch):
    clips, norm = voice(6), first_norm(recognizer)
    monkeypatch.setattr("serx.inference.adaptation.BATCH", 3)
    before, heard = norm.running_mean.clone(), what_sets(norm)
    with adapted(recognizer, clips):
        mean = torch.stack([x.mean((0, 2, 3)) for x in heard]).mean(0)
        expected = (6 * mean + PRIOR * before) / (6 + PRIOR)
        torch.testing.assert_close(norm.running_mean, expected, atol=1e-5, rtol=1e-4)
    assert [len(x) for x in heard] == [3, 3]
    with adapted(recognizer, clips[::2]):  # neighbors are spread over batches
        pass
    torch.testing.assert_close(heard[2], heard[0], atol=1e-6, rtol=0)


def test_clips_of_one_length_get_some_padding_as_in_training(recognizer):
    widths = []
    hook = recognizer.features.register_forward_pre_hook(lambda _, inputs: widths.append(inputs[0].shape[1]))
    with adapted(recognizer, voice(3, seconds=0.7)):
        hook.remove()
    assert widths[0] == RATE  # of which 0.7 are speech


def test_a_quieter_voice_is_the_same_voice_once_it_is_known(monkeypatch):
    """20 dB less is the same number off every row of a log-mel, and off every mean: batch norms take it out."""
    monkeypatch.setattr("serx.inference.adaptation.PRIOR", 0)
    features = FeaturesConfig(statistics=("mean", "std"), normalize="none", remove_level=False, amin=1e-12, top_db=None)
    recognizer = Recognizer(features, MlpConfig(), ("calm", "angry", "sad"), RATE).eval()
    near = voice(10)
    far = [clip / 10 for clip in near]

    def heard(clips: list[torch.Tensor]) -> torch.Tensor:
        return recognizer.probabilities(*batched([clip.numpy() for clip in clips]))

    assert (heard(far) - heard(near)).abs().max() > 0.05
    with adapted(recognizer, near):
        expected = heard(near)
    with adapted(recognizer, far):
        torch.testing.assert_close(heard(far), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("clips", [[], voice(1)])
def test_a_single_clip_has_no_variance(recognizer, clips):
    with pytest.raises(DataError, match=f"{len(clips)} clips of a voice are too few"), adapted(recognizer, clips):
        pass


def test_a_model_without_batch_norms_says_so_before_it_is_trained():
    build_model(Cnn2dConfig(adapt=True), 64, 8)
    build_model(TimmConfig(adapt=True, name="resnet10t"), 64, 8)
    build_model(MlpConfig(adapt=True), 64, 8)
    with pytest.raises(ConfigError, match="leave model.adapt, --adapt and --adapt-to out"):
        build_model(TimmConfig(adapt=True, name="test_vit"), 64, 8)


def test_evaluation_enrols_each_voice_by_itself_and_says_so(checkpoint, tiny_config):
    plain = evaluate(checkpoint, None, "test", CPU, progress=False)
    known = evaluate(checkpoint, None, "test", CPU, progress=False, adapt=True)
    assert "ADAPTED" not in plain.protocol and "without_adaptation" not in plain.details
    assert "ADAPTED to each speaker with 12 unlabeled clips" in known.protocol
    by_itself = plain.predictions.probabilities
    hit = by_itself.argmax(1) == plain.predictions.targets
    nll = -np.log(by_itself[np.arange(len(hit)), plain.predictions.targets]).mean()
    expected = {"uar": hit.mean(), "accuracy": hit.mean(), "nll": nll}
    assert known.details["without_adaptation"] == pytest.approx(expected, abs=1e-6)
    predictor, dataset = Predictor(checkpoint, CPU), load_dataset(tiny_config().data, progress=False)
    corpus = make_batch_source(dataset.audio_cache, CPU)
    for speaker_id in ("ravdess/05", "ravdess/06"):
        mine = np.array([i for i, u in enumerate(dataset.utterances) if u.speaker_id == speaker_id])
        waveform, lengths = corpus.batch(mine)
        with adapted(predictor.recognizer, [row[:n] for row, n in zip(waveform, lengths, strict=True)]):
            expected = classify(predictor.recognizer, corpus, mine, dataset.audio_cache.lengths[mine])
        rows = [i for i, who in enumerate(known.predictions.speaker_ids) if who == speaker_id]
        np.testing.assert_allclose(known.predictions.probabilities[rows], expected, atol=1e-6)


def test_a_recipe_may_ask_for_it_and_the_command_line_may_not_want_it(trained):
    path = trained("train.epochs=1", "model.adapt=true")
    assert "ADAPTED" in evaluate(path, None, "test", CPU, progress=False).protocol
    assert "ADAPTED" not in evaluate(path, None, "test", CPU, progress=False, adapt=False).protocol


def test_a_speaker_of_one_clip_is_named(checkpoint, tmp_path):
    for actor, takes in ((7, 3), (8, 1)):
        for take in range(takes):
            name = tmp_path / "few" / f"03-01-03-01-01-0{take + 1}-0{actor}.wav"
            name.parent.mkdir(exist_ok=True)
            soundfile.write(name, speechlike(0.5, 170 + 9 * actor + 31 * take, 90 + 10 * actor + take), RATE)
    with pytest.raises(DataError, match=r"ravdess/08: 1 clips of a voice are too few.*--no-adapt"):
        evaluate(checkpoint, str(tmp_path / "few"), "test", CPU, progress=False, adapt=True)


def test_files_are_predicted_as_by_one_who_knows_the_voice(checkpoint, tiny_root):
    predictor = Predictor(checkpoint, CPU)
    mine = sorted((tiny_root / "Actor_05").iterdir())
    heard, refused = predictor.recordings(mine[3:])
    assert len(heard) == 9 and not refused
    plain, known = predictor.predict(mine[:3]), predictor.predict(mine[:3], voice=heard)
    again = predictor.predict(mine[:3])
    assert [p.probabilities for p in plain] == [p.probabilities for p in again]
    assert all(
        max(abs(a.probabilities[label] - b.probabilities[label]) for label in a.probabilities) > 1e-4
        for a, b in zip(plain, known, strict=True)
    )


def test_a_long_recording_of_a_voice_is_cut_into_what_was_said(checkpoint, tmp_path):
    make_corpus(tmp_path / "voices", 1, 1, 0)
    paths = sorted((tmp_path / "voices").rglob("*.wav"))
    clips = [soundfile.read(path, dtype="float32")[0] for path in paths]
    quiet = 1e-4 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    long, still = tmp_path / "long.flac", tmp_path / "still.flac"
    soundfile.write(long, np.concatenate([part for clip in clips for part in (quiet, clip)]), RATE)
    soundfile.write(still, np.tile(quiet, 80), RATE)
    predictor = Predictor(checkpoint, CPU)
    heard, refused = predictor.recordings([long, still])
    assert refused == {still: "no speech was found"}
    assert len(heard) == len(clips)
    for one, clip in zip(heard, clips, strict=True):
        assert len(one) == pytest.approx(len(clip), abs=0.2 * RATE)
    apart, _ = predictor.recordings(paths)
    unknown, known, alike = (
        [*predictor.predict(paths[:1], voice=voice)[0].probabilities.values()] for voice in (None, heard, apart)
    )
    assert np.abs(np.subtract(known, alike)).max() < 0.1 * np.abs(np.subtract(unknown, alike)).max()


def test_a_voice_goes_on_without_the_files_that_cannot_be_used(checkpoint, tiny_root, tmp_path):
    predictor = Predictor(checkpoint, CPU)
    mine = sorted((tiny_root / "Actor_05").iterdir())
    bad, absent = tmp_path / "b.wav", tmp_path / "absent.wav"
    bad.write_text("no audio")
    heard, refused = predictor.recordings([mine[3], bad, *mine[4:], absent])
    assert list(refused) == [bad, absent]
    assert refused[bad].startswith("not_audio") and refused[absent].startswith("unreadable")
    for clip, expected in zip(heard, predictor.recordings(mine[3:])[0], strict=True):
        assert torch.equal(clip, expected)
    with pytest.raises(DataError, match="0 clips of a voice are too few"):  # and no prediction by itself instead
        predictor.predict(mine[:3], voice=predictor.recordings([bad])[0])
