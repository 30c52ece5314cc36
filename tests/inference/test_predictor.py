"""A checkpoint alone predicts any file, and a bad file never stops the others."""

import numpy as np
import pytest
import soundfile
import torch

from serx import checkpoint
from serx.data.audio import audio_files
from serx.data.batches import make_batch_source
from serx.data.dataset import load_dataset
from serx.errors import CheckpointError, DataError
from serx.inference.classify import classify
from serx.inference.predictor import Predictor, verdict
from serx.training.run_folder import BEST, LAST
from tests.conftest import RATE, speechlike

CPU = torch.device("cpu")


@pytest.fixture
def run(trained):
    return trained("train.epochs=2").parent


def test_files_give_what_the_corpus_gives(run, tiny_config):
    predictor = Predictor(run / BEST, CPU)
    dataset = load_dataset(tiny_config().data, progress=False)
    clips = np.arange(len(dataset.utterances))
    expected = classify(
        predictor.recognizer, make_batch_source(dataset.audio_cache, CPU), clips, dataset.audio_cache.lengths
    )
    heard = predictor.predict([utterance.path for utterance in dataset.utterances])
    got = np.array([list(prediction.probabilities.values()) for prediction in heard])
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_file_alone_is_as_it_is_among_others(run, tiny_root):
    predictor = Predictor(run / BEST, CPU)
    paths = sorted(tiny_root.rglob("*.wav"))[:20]
    together = predictor.predict(paths)
    for path, prediction in zip(paths, together, strict=True):
        alone = predictor.predict([path])[0]
        assert alone.label == prediction.label
        np.testing.assert_allclose([*alone.probabilities.values()], [*prediction.probabilities.values()], atol=1e-5)


def test_rate_channels_and_format_do_not_change_the_emotion(run, tmp_path):
    import soxr

    predictor = Predictor(run / BEST, CPU)
    wave = speechlike(0.6, 180, 3)
    variants = {
        "plain.wav": (wave, RATE, "PCM_16"),
        "stereo.wav": (np.stack([wave, wave], 1), RATE, "PCM_24"),
        "fast.wav": (soxr.resample(wave, RATE, 48_000), 48_000, "PCM_16"),
        "small.flac": (wave, RATE, "PCM_16"),
    }
    rows = []
    for name, (samples, rate, subtype) in variants.items():
        soundfile.write(tmp_path / name, samples, rate, subtype=subtype)
        rows.append([*predictor.predict([tmp_path / name])[0].probabilities.values()])
    assert np.ptp(np.array(rows), axis=0).max() < 0.02


def test_a_bad_file_gets_its_reason_and_the_others_their_emotions(run, tiny_root, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    good = sorted(tiny_root.rglob("*.wav"))[0]
    predictions = Predictor(run / BEST, CPU).predict([bad, good, tmp_path / "absent.wav"])
    assert [p.label is None for p in predictions] == [True, False, True]
    assert predictions[0].refused.startswith("not_audio")
    assert predictions[2].refused.startswith("unreadable")
    assert abs(sum(predictions[1].probabilities.values()) - 1) < 1e-5


def test_recordings_that_cannot_be_decoded_are_refused_by_name_and_not_passed_over(run, tiny_root, tmp_path):
    good = sorted(tiny_root.rglob("*.wav"))[:2]
    for path in good:
        (tmp_path / "mine" / path.name).parent.mkdir(exist_ok=True)
        (tmp_path / "mine" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "mine/phone.M4A").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom" * 20)
    mine, predictor = audio_files([str(tmp_path / "mine")]), Predictor(run / BEST, CPU)
    refused = {p.path.name: p.refused for p in predictor.predict(mine) if p.refused}
    assert list(refused) == ["phone.M4A"] and "convert it to WAV or FLAC" in refused["phone.M4A"]
    heard, unused = predictor.recordings(mine)
    assert len(heard) == 2 and {path.name: reason for path, reason in unused.items()} == refused


def test_last_and_best_both_predict_with_the_averaged_weights(run):
    saved = checkpoint.load(run / LAST)
    predictor = Predictor(run / LAST, CPU)
    weight = predictor.recognizer.state_dict()["backbone.members.0.embedding.weight"]
    assert torch.equal(weight, saved.tensors["ema.backbone.members.0.embedding.weight"])
    assert not torch.equal(weight, saved.tensors["model.backbone.members.0.embedding.weight"])


def test_a_checkpoint_whose_settings_and_weights_disagree_is_refused(run, tmp_path):
    saved = checkpoint.load(run / BEST)
    metadata = {key: value for key, value in saved.metadata.items() if key not in ("format", "sha256")}
    metadata["config"]["model"]["embedding"] = 32
    checkpoint.save(tmp_path / "odd.safetensors", saved.tensors, metadata)
    with pytest.raises(CheckpointError, match="embed"):
        Predictor(tmp_path / "odd.safetensors", CPU)
    metadata["config"]["model"]["kind"] = "os.system"
    checkpoint.save(tmp_path / "odd.safetensors", saved.tensors, metadata)
    with pytest.raises(CheckpointError, match="kind"):
        Predictor(tmp_path / "odd.safetensors", CPU)


def test_folders_are_searched_for_audio_and_empty_ones_refused(tiny_root, tmp_path):
    found = audio_files([str(tiny_root), "single.wav"])
    assert len(found) == 73
    assert found[-1].name == "single.wav"
    with pytest.raises(DataError, match="no audio"):
        audio_files([str(tmp_path)])


@pytest.mark.speech
def test_native_and_prepared_clips_are_predicted_alike(run, speech_root):
    predictor = Predictor(run / BEST, CPU)
    natives = sorted((speech_root / "ravdess-native").rglob("*.wav"))
    prepared = [speech_root / "ravdess16k" / p.parent.name / f"{p.stem}.flac" for p in natives]
    for one, two in zip(predictor.predict(natives), predictor.predict(prepared), strict=True):
        assert one.label == two.label
        np.testing.assert_allclose([*one.probabilities.values()], [*two.probabilities.values()], atol=5e-3)


def test_a_verdict_needs_the_probability_that_is_asked_for():
    shares = {"calm": 0.25, "happy": 0.75}
    assert [verdict(shares, min_confidence) for min_confidence in (0.0, 0.5, 0.75, 0.76)] == [
        "happy",
        "happy",
        "happy",
        "unsure",
    ]
