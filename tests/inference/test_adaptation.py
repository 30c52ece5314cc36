"""A recognizer of any kind is adapted to one speaker within the block, and afterward restored to the bit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from serx.config.loader import from_tree
from serx.data.batches import make_batch_source
from serx.data.dataset import load_dataset
from serx.data.synthetic.corpus import make_corpus
from serx.errors import ConfigError, DataError
from serx.evaluation import evaluate
from serx.inference.adaptation import RunningAdaptation, adapted, own_offsets
from serx.inference.classify import classify
from serx.inference.predictor import Predictor
from serx.models.linear_probe import ClipOffsetHead
from serx.recognizer import Recognizer
from serx.speaker_model import SpeakerModel
from serx.training.ensemble import build_ensemble
from serx.training.run_folder import BEST
from serx.training.trainer import fit
from tests.conftest import RATE, batched, speechlike
from tests.inference.untrained import untrained_predictor

CPU = torch.device("cpu")
MELS = {"n_mels": 24, "n_fft": 512}
VECTORS = {**MELS, "statistics": ("mean", "std")}
WAVEFORMS = {"stack": ("waveform",), "normalize": "none"}
CNN2D = {"kind": "cnn2d", "stem": 8, "widths": (8, 8), "strides": ((2, 2), (2, 1)), "embedding": 8}
KINDS = {
    "cnn1d": (MELS, {"kind": "cnn1d", "stem": 8, "widths": (8,), "strides": (2,), "relaxed_freq_norm": 0.5}),
    "cnn2d": (MELS, {**CNN2D, "ensemble_size": 2, "shared_stages": 1, "tta_speeds": (0.9375, 1.0, 1.125)}),
    "timm": ({"n_mels": 32}, {"kind": "timm", "name": "resnet10t", "frames": 32}),
    "mlp": (VECTORS, {"kind": "mlp", "widths": (16,), "ensemble_size": 2}),
    "classical": (VECTORS, {"kind": "classical", "classifier": "logistic_regression", "c": (0.1,)}),
    "linear_probe": (WAVEFORMS, {"kind": "linear_probe", "components": 8}),
    "encoder_probe": (WAVEFORMS, {"kind": "encoder_probe", "hidden": 8}),
}
VOTERS = ("cnn2d", "classical", "linear_probe")


@pytest.fixture(scope="module")
def run_of(tmp_path_factory, tiny_root, encoder_folder) -> Callable[..., Path]:
    """A function from a kind to the checkpoint of a short run; "ensemble" of `VOTERS`."""
    finished: dict[tuple[str, str], Path] = {}

    def run(kind: str, **data) -> Path:
        key = (kind, repr(data))
        if key in finished:
            return finished[key]
        folder = tmp_path_factory.mktemp(kind) / "run"
        if kind == "ensemble":
            build_ensemble([run(voter) for voter in VOTERS], folder.with_suffix(".safetensors"))
            finished[key] = folder.with_suffix(".safetensors")
            return finished[key]
        features, model = KINDS[kind]
        source = {"source": str(encoder_folder("whisper"))} if kind.endswith("probe") else {}
        split = {"protocol": "speakers", "test_speakers": ("5", "6"), "valid_speakers": ("3",)}
        tree = {
            "data": {"root": str(tiny_root), **split, **data},
            "features": features,
            "model": {**model, **source},
            "train": {"epochs": 4, "batch_size": 8, "device": "cpu", "threads": 1},
            **({} if kind in ("classical", "linear_probe") else {"optim": {"lr": 0.02}}),
        }
        fit(from_tree(tree, source="test"), folder, progress=False)
        finished[key] = folder / BEST
        return finished[key]

    return run


@pytest.fixture
def checkpoint(trained):
    return trained("train.epochs=4", "model.ensemble_size=2")


@pytest.fixture
def predictor(checkpoint):
    return Predictor.load(checkpoint, CPU)


@pytest.fixture
def recognizer(predictor):
    return predictor.recognizer


def clips_of_speaker(count: int, pitch: float = 150, seconds: float = 0.6) -> list[Tensor]:
    return [torch.from_numpy(speechlike(seconds + 0.03 * (i % 3), pitch + 11 * i, i)) for i in range(count)]


def state_of(recognizer: Recognizer) -> tuple[dict[str, Tensor], list]:
    """Copies of its tensors, and what else an adaptation might leave in it."""
    tensors = {name: tensor.clone() for name, tensor in recognizer.state_dict().items()}
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in recognizer.modules()]
    shares = [head.own_share for head in recognizer.modules() if isinstance(head, ClipOffsetHead)]
    replaced = ["forward" in module.__dict__ for module in recognizer.modules()]
    return tensors, [hooks, shares, replaced, recognizer.adapted, recognizer.temperature]


def assert_restored(recognizer: Recognizer, before: tuple[dict[str, Tensor], list]) -> None:
    after = state_of(recognizer)
    assert after[1] == before[1] and after[0].keys() == before[0].keys()
    assert all(torch.equal(after[0][name], tensor) for name, tensor in before[0].items())
    assert not any(module.training for module in recognizer.modules())


def values(prediction) -> list[float]:
    return [*prediction.probabilities.values()]


# Every kind of model


@pytest.mark.parametrize("kind", [*KINDS, "ensemble"])
@pytest.mark.usefixtures("trusted")
def test_every_kind_of_model_is_adapted_within_the_block_and_restored(run_of, kind):
    recognizer = Predictor.load(run_of(kind), CPU).recognizer
    models = [model for model in recognizer.waveform_models().values() if model.speaker_model is not None]
    assert len(models) == (len(VOTERS) if kind == "ensemble" else 1)
    clips, before = clips_of_speaker(7), state_of(recognizer)
    batch = batched([clip.numpy() for clip in clips])
    plain = recognizer.probabilities(*batch)
    with adapted(recognizer, clips):
        together = recognizer.probabilities(*batched([clip.numpy() for clip in clips], extra=3000))
        for row, clip in zip(together, clips, strict=True):
            alone = recognizer.probabilities(clip[None], torch.tensor([len(clip)]))[0]
            torch.testing.assert_close(alone, row, atol=2e-5, rtol=0)
    assert together.isfinite().all() and (together - plain).abs().max() > 1e-3
    assert_restored(recognizer, before)
    with pytest.raises(ZeroDivisionError), adapted(recognizer, clips):
        raise ZeroDivisionError
    unusable = torch.zeros(RATE, dtype=torch.int16, device="meta")
    with pytest.raises(RuntimeError), adapted(recognizer, [*clips[:1], unusable]):
        pass
    assert_restored(recognizer, before)
    assert torch.equal(recognizer.probabilities(*batch), plain)


@pytest.mark.parametrize("kind", KINDS)
def test_the_speaker_model_of_a_run_is_that_of_the_logits_of_its_training_clips(run_of, kind, tiny_root):
    predictor = Predictor.load(run_of(kind), CPU)
    files = [path for actor in (1, 2, 4) for path in sorted((tiny_root / f"Actor_0{actor}").iterdir())]
    waves = [torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in files]
    emotions = {"01": "neutral", "03": "happy", "05": "angry"}
    targets = np.array([predictor.labels.index(emotions[path.name[6:8]]) for path in files])
    recognizer = predictor.recognizer
    with torch.no_grad(), own_offsets([recognizer], 0.0):
        logits = torch.cat([recognizer(wave[None], torch.tensor([len(wave)])) for wave in waves])
    expected = SpeakerModel.fit(logits, targets, [path.parent.name for path in files])
    scale = expected.means.abs().max()
    torch.testing.assert_close(recognizer.speaker_model.means / scale, expected.means / scale, atol=1e-3, rtol=0)
    torch.testing.assert_close(recognizer.speaker_model.prior_clips, expected.prior_clips, rtol=0.02, atol=1e-3)


def test_a_model_of_one_training_speaker_is_refused_in_one_line(run_of):
    path = run_of("mlp", test_speakers=("3", "4", "5", "6"), valid_speakers=("2",))
    predictor = Predictor.load(path, CPU)
    assert predictor.recognizer.speaker_model is None
    for refused in (
        lambda: adapted(predictor.recognizer, clips_of_speaker(3)).__enter__(),
        lambda: RunningAdaptation(predictor.recognizer),
        lambda: evaluate(path, None, "test", CPU, progress=False, adapt=True),
    ):
        with pytest.raises(ConfigError, match="trained on a single speaker") as caught:
            refused()
        assert "\n" not in str(caught.value) and "--adapt-to" in str(caught.value)


def test_a_model_that_is_adapted_already_is_refused(recognizer):
    with adapted(recognizer, clips_of_speaker(3)):
        with pytest.raises(ConfigError, match="adapted to recordings of a speaker already"):
            RunningAdaptation(recognizer)
        with (
            pytest.raises(ConfigError, match="adapted to recordings of a speaker already"),
            adapted(recognizer, clips_of_speaker(3)),
        ):
            pass
        assert recognizer.adapted
    assert not recognizer.adapted


# Adjusted logits


def untrained_with(logits_of: Callable[[Tensor], Tensor], monkeypatch) -> Recognizer:
    """A recognizer whose logits are a function of the waveforms `(B, T)`."""
    recognizer = untrained_predictor().recognizer
    recognizer.temperature = 2.0
    monkeypatch.setattr(recognizer, "logits", lambda waveform, _lengths: logits_of(waveform))
    return recognizer


def test_logits_are_adjusted_by_what_the_speaker_model_infers_at_the_temperature_of_the_recognizer(monkeypatch):
    random = torch.Generator().manual_seed(0)
    table = 6 * torch.eye(3)[torch.arange(40) % 3] + torch.randn(40, 3, generator=random) + torch.tensor([3.0, 0, -3])
    recognizer = untrained_with(lambda waveform: table[waveform[:, 0].long()], monkeypatch)
    recognizer.speaker_model = SpeakerModel(6 * torch.eye(3) - 2, torch.full((3,), 0.5))
    clips = [torch.full((100,), float(number)) for number in range(40)]  # three batches
    adjustment = recognizer.speaker_model.infer(table, 2.0)
    with adapted(recognizer, clips), torch.inference_mode():
        found = recognizer(torch.stack(clips), torch.full((40,), 100))
        probabilities = recognizer.probabilities(torch.stack(clips), torch.full((40,), 100))
    assert adjustment.trust > 0.5
    torch.testing.assert_close(found, adjustment.apply(table))
    torch.testing.assert_close(probabilities, (adjustment.apply(table) / 2).softmax(1))


def test_clips_of_one_emotion_leave_all_predictions_to_the_bit(monkeypatch):
    table = 6 * torch.eye(3)[torch.zeros(8, dtype=torch.int64)]
    recognizer = untrained_with(lambda waveform: table[waveform[:, 0].long()], monkeypatch)
    clips = torch.arange(8.0)[:, None].expand(8, 100)
    plain = recognizer.probabilities(clips, torch.full((8,), 100))
    with adapted(recognizer, list(clips)):
        assert torch.equal(recognizer.probabilities(clips, torch.full((8,), 100)), plain)


@pytest.mark.usefixtures("trusted")
def test_emotions_that_are_not_chosen_stay_without_probability(monkeypatch):
    random = torch.Generator().manual_seed(0)
    table = 6 * torch.eye(3)[torch.arange(10) % 3] + torch.randn(10, 3, generator=random)
    recognizer = untrained_with(lambda waveform: table[waveform[:, 0].long()], monkeypatch)
    recognizer.choose_among(("angry", "sad"))
    clips = torch.arange(10.0)[:, None].expand(10, 100)
    chosen = table[:, [0, 2]]
    expected = recognizer.speaker_model.among([0, 2]).infer(chosen.log_softmax(1), 2.0).apply(chosen.log_softmax(1))
    with adapted(recognizer, list(clips)):
        found = recognizer.probabilities(clips, torch.full((10,), 100))
    torch.testing.assert_close(found[:, [0, 2]], (expected / 2).softmax(1))
    assert found[:, 1].max() < 1e-6


@pytest.mark.usefixtures("trusted")
def test_a_long_recording_counts_as_its_pieces(recognizer):
    recording, clip = torch.from_numpy(speechlike(12.0, 140, 5)), clips_of_speaker(1)[0][None]
    found = []
    for clips in ([recording], list(recording.split(4 * RATE))):
        with adapted(recognizer, clips):
            found.append(recognizer.probabilities(clip, torch.tensor([clip.shape[1]])))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=0)
    assert (found[0] - recognizer.probabilities(clip, torch.tensor([clip.shape[1]]))).abs().max() > 1e-3


@pytest.mark.parametrize(("share", "trust"), [(0.0, 1.0), (0.75, 0.25), (1.0, 0.0)])
def test_the_offset_that_a_clip_tells_of_itself_counts_as_far_as_the_speakers_does_not(
    run_of, monkeypatch, share, trust
):
    monkeypatch.setattr("serx.speaker_model._trust", lambda *_: trust)
    recognizer, clips = Predictor.load(run_of("linear_probe"), CPU).recognizer, clips_of_speaker(5)
    batch = batched([clip.numpy() for clip in clips])
    [head] = [module for module in recognizer.modules() if isinstance(module, ClipOffsetHead)]
    head.between.fill_(2.0)  # three speakers have no measurable variance
    with torch.no_grad(), own_offsets([recognizer], 0.0):
        without = recognizer(*batch)
    adjustment = recognizer.speaker_model.infer(without, recognizer.temperature)
    with torch.no_grad(), own_offsets([recognizer], share):
        expected = adjustment.apply(recognizer(*batch))
    with adapted(recognizer, clips), torch.no_grad():
        assert head.own_share == share
        torch.testing.assert_close(recognizer(*batch), expected, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        assert (recognizer(*batch) - without).abs().max() > 1e-2  # the offset of a clip has an effect


@pytest.mark.parametrize("clips", [[], clips_of_speaker(1)])
def test_fewer_than_two_clips_raise(recognizer, clips):
    with pytest.raises(DataError, match=f"{len(clips)} clips are too few"), adapted(recognizer, clips):
        pass


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


@pytest.mark.usefixtures("trusted")
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
    with adapted(predictor.recognizer, segments):
        to_segments = values(predictor(files[0]))
    assert to_recording == to_segments != plain


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
