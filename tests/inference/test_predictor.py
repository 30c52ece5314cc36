"""`Predictor` gives the same predictions for files, arrays and streams, and reports what it cannot use."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from serx import checkpoint
from serx.data.audio.error import AudioError
from serx.data.audio.paths import audio_files
from serx.data.batches import make_batch_source
from serx.data.dataset import load_dataset
from serx.errors import CheckpointError, ConfigError, DataError
from serx.inference.classify import classify
from serx.inference.prediction import Prediction
from serx.inference.predictor import Predictor
from serx.inference.segmentation import RATE as SEGMENT_RATE
from serx.inference.segmentation import Segment
from serx.training.run_folder import BEST, LAST
from tests.conftest import RATE, speechlike
from tests.inference.untrained import untrained_predictor

CPU = torch.device("cpu")


@pytest.fixture
def run(trained) -> Path:
    return trained("train.epochs=2").parent


@pytest.fixture
def predictor(run) -> Predictor:
    return Predictor.load(run / BEST, CPU)


def values(prediction: Prediction) -> list[float]:
    return [*prediction.probabilities.values()]


def assert_same(prediction: Prediction, expected: Prediction, atol: float = 1e-6) -> None:
    assert prediction.label == expected.label
    np.testing.assert_allclose(values(prediction), values(expected), atol=atol)


# Files


def test_files_give_the_predictions_of_evaluation(predictor, tiny_config):
    dataset = load_dataset(tiny_config().data, progress=False)
    clips, source = np.arange(len(dataset.utterances)), make_batch_source(dataset.audio_cache, CPU)
    expected = classify(predictor.recognizer, source, clips, dataset.audio_cache.lengths)
    predictions = predictor([utterance.path for utterance in dataset.utterances])
    np.testing.assert_allclose([values(prediction) for prediction in predictions], expected, atol=1e-5)


def test_a_prediction_does_not_depend_on_other_files_of_the_list(predictor, tiny_root):
    paths = sorted(tiny_root.rglob("*.wav"))[:20]
    for path, prediction in zip(paths, predictor(paths), strict=True):
        assert_same(predictor(path), prediction, atol=1e-5)


def test_a_path_is_text_or_a_path_and_a_list_is_any_iterable(predictor, tiny_root):
    paths = sorted(tiny_root.rglob("*.wav"))[:2]
    expected = predictor(paths)
    assert [prediction.path for prediction in expected] == paths
    assert predictor(str(paths[0])) == predictor(paths[0])
    assert predictor(map(str, paths)) == predictor(tuple(paths)) == expected
    assert predictor([]) == []


def test_format_rate_and_channels_of_a_file_do_not_change_its_emotion(predictor, tmp_path):
    wave = speechlike(0.6, 180, 3)
    variants = {
        "plain.wav": (wave, RATE, "PCM_16"),
        "stereo.wav": (np.stack([wave, wave], 1), RATE, "PCM_24"),
        "fast.wav": (soxr.resample(wave, RATE, 48_000), 48_000, "PCM_16"),
        "small.flac": (wave, RATE, "PCM_16"),
    }
    for name, (samples, rate, subtype) in variants.items():
        soundfile.write(tmp_path / name, samples, rate, subtype=subtype)
    predictions = predictor([tmp_path / name for name in variants])
    assert np.ptp([values(prediction) for prediction in predictions], axis=0).max() < 0.02


def test_a_bad_file_of_a_list_gets_an_error_and_the_others_their_predictions(predictor, tiny_root, tmp_path):
    bad, absent = tmp_path / "bad.wav", tmp_path / "absent.wav"
    bad.write_text("no audio")
    good = sorted(tiny_root.rglob("*.wav"))[0]
    first, second, third = predictor([bad, good, absent])
    assert first.error.startswith("not_audio: ") and third.error.startswith("unreadable: ")
    for prediction, path in ((first, bad), (third, absent)):
        assert (prediction.label, prediction.confidence, prediction.probabilities) == (None, None, {})
        assert prediction.path == path
    assert second == predictor(good) and second.error is None
    assert sum(values(second)) == pytest.approx(1, abs=1e-5)


def test_a_single_bad_file_raises(predictor, tmp_path):
    (tmp_path / "bad.wav").write_text("no audio")
    for name, reason in (("bad.wav", "not_audio"), ("absent.wav", "unreadable")):
        with pytest.raises(AudioError, match=f"{name}: {reason}: "):
            predictor(tmp_path / name)


def test_audio_that_cannot_be_decoded_is_reported_and_not_ignored(predictor, tiny_root, tmp_path):
    good = sorted(tiny_root.rglob("*.wav"))[:2]
    for path in good:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "phone.M4A").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom" * 20)
    files = audio_files([tmp_path])
    errors = {prediction.path.name: prediction.error for prediction in predictor(files) if prediction.error}
    assert list(errors) == ["phone.M4A"] and errors["phone.M4A"].startswith("truncated: ")
    clips, skipped = predictor.adaptation_clips(files)
    assert len(clips) == 2 and {path.name: reason for path, reason in skipped.items()} == errors


def test_folders_are_searched_for_audio_and_an_empty_one_raises(tiny_root, tmp_path):
    files = audio_files([str(tiny_root), "single.wav"])
    assert len(files) == 73 and files[-1].name == "single.wav"
    with pytest.raises(DataError, match="no audio"):
        audio_files([str(tmp_path)])


@pytest.mark.speech
def test_native_and_resampled_recordings_get_the_same_prediction(predictor, speech_root):
    native = sorted((speech_root / "ravdess-native").rglob("*.wav"))
    resampled = [speech_root / "ravdess16k" / path.parent.name / f"{path.stem}.flac" for path in native]
    for prediction, expected in zip(predictor(native), predictor(resampled), strict=True):
        assert_same(prediction, expected, atol=5e-3)


# Arrays


CHANGES_AFTER_DECODING = {"trim_db": 30.0, "offset_seconds": 0.1, "duration_seconds": 0.6}


@pytest.mark.parametrize("data", [{}, CHANGES_AFTER_DECODING], ids=["plain", "trimmed"])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_32", "FLOAT", "DOUBLE"])
def test_samples_get_the_prediction_of_their_file(data, subtype, tmp_path):
    predictor, path = untrained_predictor(data=data), tmp_path / "a.wav"
    exact = {"int16": ("PCM_U8", "PCM_16"), "int32": ("PCM_U8", "PCM_16", "PCM_32")}
    for rate, channels in product((8_000, 16_000, 48_000), (1, 2)):
        wave = soxr.resample(speechlike(0.9, 180, 3), RATE, rate)
        soundfile.write(path, np.stack([wave, 0.3 * wave[::-1]][:channels], 1), rate, subtype=subtype)
        expected = predictor(path)
        for dtype in ("float64", "float32", "int32", "int16"):
            samples, read_rate = soundfile.read(path, dtype=dtype)
            if subtype in exact.get(dtype, (subtype,)):
                for same in (samples, samples.T, torch.from_numpy(samples), torch.from_numpy(samples.T)):
                    assert_same(predictor(same, read_rate), expected)


def test_the_memory_layout_of_samples_does_not_matter():
    predictor, wave = untrained_predictor(), speechlike(0.8, 180, 3)
    expected = predictor(wave, RATE)
    interleaved = np.stack([wave, wave], 1)
    variants = {
        "strided": np.repeat(wave, 3)[::3],
        "reversed twice": wave[::-1].copy()[::-1],
        "Fortran order": np.asfortranarray(interleaved),
        "big-endian": wave.astype(">f4"),
        "read-only": np.frombuffer(wave.tobytes(), np.float32),
        "channel of a tensor": torch.from_numpy(interleaved)[:, 0],
        "with a gradient": torch.from_numpy(wave).requires_grad_(),
        "NumPy's integer rate": wave,
    }
    for name, samples in variants.items():
        rate = np.int64(RATE) if "rate" in name else RATE
        assert_same(predictor(samples, rate), expected)
    for half in (wave.astype(np.float16), torch.from_numpy(wave).half(), torch.from_numpy(wave).bfloat16()):
        assert_same(predictor(half, RATE), expected, atol=0.02)


def test_eight_bit_samples_are_scaled_from_their_middle():
    predictor, wave = untrained_predictor(), speechlike(0.8, 180, 3)
    eight_bit = np.round(wave * 128 + 128).astype(np.uint8)
    assert_same(predictor(eight_bit, RATE), predictor((eight_bit.astype(np.float64) - 128) / 128, RATE))


ONES = np.ones(RATE, np.float32)
NOISE = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
ULTRASOUND = 0.5 * np.sin(2 * np.pi * 20_000 * np.arange(48_000) / 48_000) * np.hanning(48_000)
BAD_SAMPLES = {
    "empty": (np.zeros(0), RATE, "empty: no samples"),
    "empty channels": (np.zeros((2, 0)), RATE, "empty: no samples"),
    "NaN": (np.where(np.arange(RATE) == 5, np.nan, ONES), RATE, "nonfinite: "),
    "infinite": (np.where(np.arange(RATE) == 5, np.inf, ONES), RATE, "nonfinite: "),
    "beyond float32": (1e300 * ONES.astype(np.float64), RATE, "nonfinite: "),
    "silent": (0 * ONES, RATE, "silent: "),
    "integers as floats": (20_000 * ONES, RATE, "absurd_level: "),
    "short": (ONES[:100], RATE, "too_short: "),
    "a constant": (ONES, RATE, "silent: all samples are equal"),
    "noise at -90 dB": (10**-4.5 * NOISE, RATE, "silent: its loudest 25 ms have a level of -90 dB re full scale"),
    "noise at -90 dB upon an offset": (0.1 + 10**-4.5 * NOISE, RATE, "silent: its loudest 25 ms"),
    "one bit": ((np.arange(RATE) // 40 % 2).astype(np.int16), RATE, "silent: its loudest 25 ms"),
    "one bit once": ((np.arange(RATE) == 8000).astype(np.int16), RATE, "silent: its loudest 25 ms"),
    "a tone that the model's rate cannot hold": (ULTRASOUND, 48_000, "silent: its loudest 25 ms"),
    "silent and long": (10**-4.5 * np.tile(NOISE, 61), RATE, "silent: its loudest 25 ms"),
    "long and without speech": (0.01 * np.tile(NOISE, 61), RATE, "no_speech: no speech was found"),
    "int64": (ONES.astype(np.int64), RATE, "not_audio: int64 samples; give floats, int16, int32 or uint8"),
    "complex": (ONES.astype(np.complex64), RATE, "not_audio: complex64 samples"),
    "text": (np.array(["a", "b"]), RATE, "not_audio: "),
    "a number": (np.array(1.0), RATE, r"not_audio: shape \(\)"),
    "a batch of stereo": (torch.ones(4, 2, RATE), RATE, r"not_audio: shape \(4, 2, 16000\)"),
    "a spectrogram": (np.ones((80, 300)), RATE, "too_many_channels: "),
    "no rate": (ONES, None, "bad_rate: samples need their sample rate"),
    "a rate in kHz": (ONES, 16, "bad_rate: 16 Hz"),
    "a rate that is NaN": (ONES, float("nan"), "bad_rate: "),
}


@pytest.mark.parametrize("name", BAD_SAMPLES)
def test_bad_samples_raise_one_clear_line(name):
    samples, rate, message = BAD_SAMPLES[name]
    with pytest.raises(AudioError, match=f"^array: {message}") as caught:
        untrained_predictor()(samples, rate)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("audio", [16_000, [ONES, ONES], [0.1, 0.2], None])
@pytest.mark.parametrize("rate", [None, RATE])
def test_anything_else_raises_what_to_give_instead(audio, rate):
    with pytest.raises(ConfigError, match="cannot predict .*; give a path, a list of paths, or samples as"):
        untrained_predictor()(audio, rate)


def test_a_sample_rate_with_a_path_raises(tmp_path):
    for audio in ("a.wav", ["a.wav"]):
        with pytest.raises(ConfigError, match="a file has its own sample rate"):
            untrained_predictor()(audio, RATE)
    with pytest.raises(ConfigError, match="a file has its own sample rate"):
        untrained_predictor().stream("a.wav", RATE)


# Running speech


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    """Three clips of synthetic speech with pauses, stereo at 44.1 kHz."""
    from serx.data.synthetic.corpus import make_corpus

    folder = tmp_path_factory.mktemp("recording")
    make_corpus(folder / "speaker", 1, 1, 0)
    clips = [soundfile.read(path)[0] for path in sorted((folder / "speaker").rglob("*.wav"))[:3]]
    noise = 1e-4 * np.random.default_rng(0).standard_normal(SEGMENT_RATE)
    wave = soxr.resample(np.concatenate([part for clip in clips for part in (noise, clip)] + [noise]), RATE, 44_100)
    soundfile.write(folder / "talk.wav", np.stack([wave, wave], 1), 44_100)
    return folder / "talk.wav"


def test_files_samples_and_blocks_are_streamed_alike(recording):
    predictor = untrained_predictor()
    expected = list(predictor.stream(recording))
    assert len(expected) == 3
    samples, rate = soundfile.read(recording, dtype="int16")
    mono = samples.mean(1) / 2**15
    for audio in (samples, torch.from_numpy(samples).T, np.array_split(mono, 77), (block for block in [mono])):
        segments = list(predictor.stream(audio, rate))
        assert [(s.start, s.end) for s in segments] == [(s.start, s.end) for s in expected]
        for segment, same in zip(segments, expected, strict=True):
            assert_same(segment.prediction, same.prediction, atol=1e-4)


def test_a_segment_has_the_prediction_of_its_waveform(recording):
    predictor = untrained_predictor()
    for segment in predictor.stream(str(recording)):
        assert_same(segment.prediction, predictor(segment.waveform, SEGMENT_RATE))
        assert segment.prediction.path is None


def test_a_segment_is_predicted_before_the_recording_ends(recording):
    samples, rate = soundfile.read(recording)
    blocks = iter(np.array_split(samples[:, 0], 100))
    next(untrained_predictor().stream(blocks, rate))
    assert len(list(blocks)) > 30


def test_a_long_recording_gets_the_mean_of_its_segments_weighted_by_duration(recording):
    predictor = untrained_predictor(data={"max_seconds": 5.0})  # the recording is longer
    segments = list(predictor.stream(recording))
    seconds = np.array([segment.end - segment.start for segment in segments])
    expected = seconds @ np.array([values(segment.prediction) for segment in segments]) / seconds.sum()
    prediction = predictor(recording)
    np.testing.assert_allclose(values(prediction), expected, atol=1e-6)
    assert prediction.label == max(prediction.probabilities, key=prediction.probabilities.get)
    assert prediction.path == recording and prediction.confidence == max(values(prediction))
    assert [(s.start, s.end) for s in prediction.segments] == [(s.start, s.end) for s in segments]
    for segment, same in zip(prediction.segments, segments, strict=True):
        assert_same(segment, same.prediction)
    of_list, absent = predictor([recording, "absent.wav"])
    assert of_list == prediction and absent.error.startswith("unreadable")
    assert_same(predictor(*soundfile.read(recording)), prediction, atol=1e-4)
    row = json.loads(json.dumps(prediction.as_dict()))
    assert [list(segment)[:3] for segment in row["segments"]] == [["start", "end", "label"]] * 3
    unsure = untrained_predictor(data={"max_seconds": 5.0}, min_confidence=1.0)(recording)
    assert unsure.label == "unsure" and values(unsure) == values(prediction)


def test_a_long_recording_with_a_fault_in_it_has_no_prediction(recording, tmp_path):
    predictor = untrained_predictor(data={"max_seconds": 5.0})
    samples, rate = soundfile.read(recording)
    samples[-100] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, rate, subtype="FLOAT")
    [prediction] = predictor([tmp_path / "nan.wav"])
    assert prediction.error.startswith("nonfinite: NaN or infinite samples before ") and prediction.label is None


def test_an_almost_silent_segment_is_set_aside(recording, monkeypatch):
    predictor = untrained_predictor(data={"max_seconds": 5.0})
    clips = [speechlike(1.0, 150, 0), 10**-4.5 * NOISE, speechlike(1.0, 200, 1)]
    segments = [Segment(2.0 * n, clip.astype(np.float32)) for n, clip in enumerate(clips)]
    monkeypatch.setattr("serx.inference.predictor.speech_segments", lambda blocks: iter(segments))
    first, silent, last = predictor.stream(recording)
    assert silent.prediction.error.startswith("silent: its loudest 25 ms have a level of -90 dB")
    assert first.prediction.error is last.prediction.error is None
    pooled = predictor(recording)
    assert pooled.error is None and [bool(s.error) for s in pooled.segments] == [False, True, False]
    expected = np.mean([values(first.prediction), values(last.prediction)], axis=0)
    np.testing.assert_allclose(values(pooled), expected, atol=1e-6)


def test_probabilities_that_are_not_numbers_are_no_prediction(tmp_path):
    predictor = untrained_predictor()
    soundfile.write(tmp_path / "a.wav", speechlike(0.8, 180, 3), RATE)
    with torch.no_grad():
        next(predictor.recognizer.backbone.parameters()).fill_(float("nan"))
    for arguments in ([tmp_path / "a.wav"],), (speechlike(0.8, 180, 3), RATE):
        with pytest.raises(CheckpointError, match="its weights give probabilities that are not numbers"):
            predictor(*arguments)


def test_samples_that_cannot_be_streamed_raise():
    predictor = untrained_predictor()
    with pytest.raises(AudioError, match="samples need their sample rate"):
        predictor.stream(ONES)
    with pytest.raises(AudioError, match="array: nonfinite: "):
        list(predictor.stream([ONES, np.nan * ONES], RATE))
    with pytest.raises(AudioError, match="unreadable"):
        list(predictor.stream("absent.wav"))
    with pytest.raises(AudioError, match="array: silent: its loudest 25 ms"):
        list(predictor.stream(np.array_split(10**-4.5 * NOISE, 3000), RATE))
    assert list(predictor.stream(np.array_split(0.01 * NOISE, 3000), RATE)) == []
    assert list(predictor.stream([ONES[:0]], RATE)) == []


# Predictions and checkpoints


def test_a_prediction_below_min_confidence_is_labeled_unsure():
    shares = {"calm": 0.25, "happy": 0.75}
    labels = [Prediction.from_probabilities(shares, threshold).label for threshold in (0.0, 0.5, 0.75, 0.76)]
    assert labels == ["happy", "happy", "happy", "unsure"]
    wave = speechlike(0.8, 180, 3)
    usual, careful = untrained_predictor()(wave, RATE), untrained_predictor(min_confidence=1.0)(wave, RATE)
    assert usual.confidence == max(usual.probabilities.values()) == usual.probabilities[usual.label]
    assert careful.label == "unsure" and values(careful) == values(usual)
    with pytest.raises(ConfigError, match=r"min_confidence 1\.5: not a probability"):
        untrained_predictor(min_confidence=1.5)


def test_probabilities_are_in_the_order_of_the_labels_and_json_can_hold_them():
    predictor = untrained_predictor()
    prediction = predictor(speechlike(0.8, 180, 3), RATE)
    assert tuple(prediction.probabilities) == predictor.labels == ("angry", "happy", "sad")
    assert json.loads(json.dumps(prediction.as_dict())) == {
        "label": prediction.label,
        "confidence": prediction.confidence,
        "probabilities": prediction.probabilities,
        "ood": None,
        "path": None,
        "error": None,
        "warning": None,
        "segments": [],
    }


def test_a_checkpoint_is_loaded_from_text_or_a_path_onto_a_named_device(run, tiny_root):
    path = sorted(tiny_root.rglob("*.wav"))[0]
    expected = Predictor.load(run / BEST, CPU)(path)
    assert Predictor.load(str(run / BEST), device="cpu")(str(path)) == expected
    assert Predictor.load(run / BEST).device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ConfigError, match="device quantum: "):
        Predictor.load(run / BEST, device="quantum")


def test_the_last_checkpoint_predicts_with_the_averaged_weights(run):
    saved = checkpoint.load(run / LAST)
    weight = Predictor.load(run / LAST, CPU).recognizer.state_dict()["backbone.members.0.embedding.weight"]
    assert torch.equal(weight, saved.tensors["ema.backbone.members.0.embedding.weight"])
    assert not torch.equal(weight, saved.tensors["model.backbone.members.0.embedding.weight"])


def test_a_checkpoint_whose_configuration_does_not_fit_its_weights_raises(run, tmp_path):
    saved = checkpoint.load(run / BEST)
    metadata = {key: value for key, value in saved.metadata.items() if key not in ("format", "sha256")}
    metadata["config"]["model"]["embedding"] = 32
    checkpoint.save(tmp_path / "odd.safetensors", saved.tensors, metadata)
    with pytest.raises(CheckpointError, match="embed"):
        Predictor.load(tmp_path / "odd.safetensors", CPU)
    metadata["config"]["model"]["kind"] = "os.system"
    checkpoint.save(tmp_path / "odd.safetensors", saved.tensors, metadata)
    with pytest.raises(CheckpointError, match="kind"):
        Predictor.load(tmp_path / "odd.safetensors", CPU)
