"""The saliency of a prediction lies where the evidence was planted, adds up, and depends on the clip alone."""

import csv
import io
import json

import matplotlib.image
import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from serx.cli.explain import clearest_segment
from serx.cli.main import main
from serx.config.loader import from_tree
from serx.data.audio.error import AudioError
from serx.data.audio.trimming import trim_bounds
from serx.demo.analysis import synthetic_conversation
from serx.errors import ConfigError
from serx.inference.adaptation import adapted
from serx.inference.attribution import _at_recorded_speed, integrated_gradients, occlusion
from serx.inference.prediction import Prediction
from serx.inference.predictor import Predictor
from serx.plots import figure_array, saliency_png
from serx.recognizer import Dimension, Recognizer
from tests.conftest import RATE, speechlike
from tests.inference.untrained import RATED, SMALL, rated_predictor, untrained_predictor

SMALL_CNN2D = {"kind": "cnn2d", "stem": 8, "widths": (8, 8), "strides": ((2, 2), (2, 1))}
TONE_HZ, TONE_SECONDS, SECONDS = 1500.0, 0.12, 0.8


def noise_with_tone(start: float | None, seed: int) -> np.ndarray:
    """`(T,)` of noise, with a short tone that begins at `start` seconds."""
    wave = 0.02 * np.random.default_rng(seed).standard_normal(round(SECONDS * RATE))
    if start is not None:
        first, count = round(start * RATE), round(TONE_SECONDS * RATE)
        wave[first : first + count] += 0.2 * np.hanning(count) * np.sin(2 * np.pi * TONE_HZ / RATE * np.arange(count))
    return wave.astype(np.float32)


@pytest.fixture(scope="module")
def tone_predictor() -> Predictor:
    """A small network that is trained to tell clips with the tone ("sad") from clips without it ("neutral")."""
    tree = {
        "data": {"root": "nowhere"},
        "features": {"n_mels": 32, "n_fft": 512},
        "model": {**SMALL_CNN2D, "embedding": 16},
    }
    config = from_tree(tree, source="test")
    torch.manual_seed(0)
    recognizer = Recognizer(config.features, config.model, ("neutral", "sad"), RATE)
    starts = np.random.default_rng(5).uniform(0.02, SECONDS - TONE_SECONDS - 0.02, 48)
    waves = [noise_with_tone(start if i % 2 else None, i) for i, start in enumerate(starts)]
    waveform, targets = torch.from_numpy(np.stack(waves)), torch.arange(48) % 2
    features, frames = recognizer.features(waveform, torch.full((48,), waveform.shape[1]))
    recognizer.normalizer.fit([(features, frames)])
    optimizer = torch.optim.AdamW(recognizer.parameters(), lr=1e-2)
    for _ in range(25):
        loss = torch.nn.functional.cross_entropy(
            recognizer.backbone(recognizer.normalizer(features, frames), frames), targets
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Predictor(recognizer, config)


@pytest.mark.parametrize("start", [0.1, 0.5])
def test_the_saliency_lies_on_the_tone_that_decides_the_class(tone_predictor, start):
    explanation = tone_predictor.explain(noise_with_tone(start, 1000), RATE)
    assert explanation.emotion == "sad" and explanation.prediction.probabilities["sad"] > 0.9
    in_time = (explanation.seconds > start - 0.05) & (explanation.seconds < start + TONE_SECONDS + 0.05)
    in_frequency = np.abs(explanation.hertz - TONE_HZ) < 400
    on_tone = explanation.saliency[np.ix_(in_frequency, in_time)]
    assert on_tone.size < 0.06 * explanation.saliency.size and on_tone.sum() > 0.6 * explanation.saliency.sum()
    elsewhere = np.abs(explanation.saliency).sum() - np.abs(on_tone).sum()
    assert np.abs(on_tone).mean() > 4 * elsewhere / (explanation.saliency.size - on_tone.size)
    band, frame = np.unravel_index(explanation.saliency.argmax(), explanation.saliency.shape)
    assert abs(explanation.hertz[band] - TONE_HZ) < 200
    assert start - 0.02 <= explanation.seconds[frame] <= start + TONE_SECONDS + 0.02
    [(first, last, _), *_] = explanation.strongest_parts()
    assert first < start + TONE_SECONDS and last > start


@pytest.mark.parametrize("start", [0.1, 0.5])
def test_the_red_of_the_picture_lies_on_the_tone(tone_predictor, start):
    explanation = tone_predictor.explain(noise_with_tone(start, 1000), RATE)
    figure = explanation.figure()
    pixels = figure_array(figure).astype(int)
    upper, lower = figure.axes
    rows, columns = np.nonzero(pixels[..., 0] - pixels[..., 2] > 80)
    seconds, bands = upper.transData.inverted().transform(np.stack([columns, len(pixels) - rows], 1)).T
    inside = (bands > -0.5) & (bands < len(explanation.hertz) - 0.5)
    hertz = np.interp(bands[inside], np.arange(len(explanation.hertz)), explanation.hertz)
    on_tone = (np.abs(hertz - TONE_HZ) < 500) & (np.abs(seconds[inside] - start - TONE_SECONDS / 2) < TONE_SECONDS)
    assert inside.sum() > 200 and on_tone.mean() > 0.9
    below = lower.transData.inverted().transform(np.stack([columns, len(pixels) - rows], 1))[~inside]
    assert np.abs(np.median(below[:, 0]) - start - TONE_SECONDS / 2) < TONE_SECONDS
    small = matplotlib.image.imread(io.BytesIO(saliency_png(explanation.spectrogram, explanation.saliency)))[::-1]
    rows, columns = np.nonzero(small[..., 0] - small[..., 2] > 0.3)
    near = np.abs(explanation.hertz[rows] - TONE_HZ) < 500
    near &= np.abs(explanation.seconds[columns] - start - TONE_SECONDS / 2) < TONE_SECONDS
    assert len(near) > 5 and near.mean() > 0.9


def test_the_same_tone_speaks_against_the_other_class(tone_predictor):
    clip = noise_with_tone(0.3, 1000)
    for_sad, for_neutral = (tone_predictor.explain(clip, RATE, emotion=name) for name in ("sad", "neutral"))
    band, frame = np.unravel_index(for_sad.saliency.argmax(), for_sad.saliency.shape)
    assert for_neutral.saliency[band, frame] < 0 < for_sad.saliency[band, frame]


class EnergyModel(torch.nn.Module):
    """Two classes whose log-odds are the energy of the clip."""

    sample_rate, temperature, dimensions = RATE, 1.0, ()

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        energy = waveform.square().sum(1)
        return torch.stack([torch.zeros_like(energy), energy], dim=1)


def test_occlusion_reports_how_far_the_log_probability_falls_without_each_moment():
    waveform, seconds = torch.zeros(1, RATE), np.array([0.15, 0.45, 0.55, 0.85])
    waveform[0, round(0.5 * RATE) : round(0.54 * RATE)] = 0.05  # energy 1.6
    falls, value = occlusion(EnergyModel(), waveform, torch.tensor([1]), seconds)
    full, silent = (float(torch.tensor(energy).sigmoid().log()) for energy in (1.6, 0.0))
    assert value == pytest.approx(full, abs=1e-4)
    np.testing.assert_allclose(falls, [0, full - silent, full - silent, 0], atol=1e-4)


@pytest.mark.parametrize(
    "features",
    [{}, {"normalize": "clip"}, {"remove_level": True}, {"stack": ["rms", "logmel", "mfcc"], "deltas": 1}],
    ids=["training", "clip", "remove_level", "several"],
)
@pytest.mark.parametrize(
    "model", [{}, {"tta_speeds": [0.9, 1.0, 1.15]}, SMALL_CNN2D | {"gru": 8}, {"relaxed_freq_norm": 0.5}]
)
def test_the_saliency_adds_up_to_the_change_of_the_log_probability(features, model):
    predictor = untrained_predictor({**SMALL, **model}, features)
    explanation = predictor.explain(speechlike(0.7, 150, 0), RATE, emotion="happy")
    change = explanation.value - explanation.baseline_value
    assert explanation.frame_saliency.sum() == pytest.approx(change, abs=0.01 + 0.02 * abs(change))
    assert explanation.completeness_error == pytest.approx(explanation.frame_saliency.sum() - change, abs=1e-6)
    assert sum(explanation.feature_saliency.values()) == pytest.approx(explanation.frame_saliency.sum(), abs=1e-6)
    assert set(explanation.feature_saliency) == set(features.get("stack", ["logmel"]))
    assert explanation.saliency.sum() == pytest.approx(explanation.feature_saliency["logmel"], abs=1e-6)
    assert np.exp(explanation.value) == pytest.approx(explanation.prediction.probabilities["happy"], abs=1e-5)


@pytest.mark.parametrize("labels", [(), ("angry", "happy")])
@pytest.mark.parametrize("model", [SMALL, SMALL | {"tta_speeds": [0.9, 1.0, 1.15]}, SMALL | {"ensemble_size": 2}])
@pytest.mark.parametrize("name", ["arousal", "valence"])
def test_the_saliency_adds_up_to_the_change_of_the_rating(labels, model, name):
    explanation = rated_predictor(labels, model=model).explain(speechlike(0.7, 150, 0), RATE, dimension=name)
    assert (explanation.dimension, explanation.emotion, explanation.unit) == (name, None, "rating")
    assert explanation.value == pytest.approx(explanation.prediction.dimensions[name], abs=1e-4)
    change = explanation.value - explanation.baseline_value
    assert abs(change) > 1e-3
    assert explanation.frame_saliency.sum() == pytest.approx(change, abs=0.01 + 0.02 * abs(change))
    assert explanation.saliency.sum() == pytest.approx(explanation.frame_saliency.sum(), abs=1e-5)


def test_the_saliency_of_a_rating_is_in_its_units():
    narrow = (Dimension("arousal", 1.0, 7.0), Dimension("valence", 0.0, 1.0))
    wide = (narrow[0], Dimension("valence", -5.0, 5.0))
    clip = speechlike(0.7, 150, 0)
    small, large = (
        rated_predictor(dimensions=of).explain(clip, RATE, dimension="valence").saliency for of in (narrow, wide)
    )
    np.testing.assert_allclose(large, 10 * small, rtol=1e-3, atol=1e-6)


class RatedEnergyModel(EnergyModel):
    """The rating is 1 and the energy of the clip."""

    dimensions = RATED[:1]

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        return torch.cat([super().forward(waveform, lengths), waveform.square().sum(1, keepdim=True)], -1)

    def ratings(self, values: Tensor) -> Tensor:
        return 1 + values


def test_occlusion_reports_how_far_the_rating_falls_without_each_moment():
    waveform, seconds = torch.zeros(1, RATE), np.array([0.15, 0.45, 0.55, 0.85])
    waveform[0, round(0.5 * RATE) : round(0.54 * RATE)] = 0.05  # energy 1.6
    falls, value = occlusion(RatedEnergyModel(), waveform, torch.tensor([2]), seconds)
    assert value == pytest.approx(2.6, abs=1e-4)
    np.testing.assert_allclose(falls, [0, 1.6, 1.6, 0], atol=1e-4)


def test_what_is_explained_unless_it_is_named():
    clip = speechlike(0.7, 150, 0)
    assert rated_predictor().explain(clip, RATE, steps=8).dimension == "arousal"
    both = rated_predictor(("angry", "happy")).explain(clip, RATE, steps=8)
    assert both.dimension is None and both.emotion == both.prediction.label


@pytest.mark.parametrize(
    ("labels", "wrong", "fault"),
    [
        (
            (),
            {"dimension": "arousel"},
            "'arousel': did you mean arousal[?] this model knows arousal, valence",
        ),
        ((), {"emotion": "sad"}, "emotion 'sad': this model predicts no emotions"),
        (("sad", "happy"), {"emotion": "sad", "dimension": "valence"}, "an explanation is of one of them"),
    ],
)
def test_a_wrong_dimension_is_named(labels, wrong, fault):
    with pytest.raises(ConfigError, match=fault):
        rated_predictor(labels).explain(speechlike(0.7, 150, 0), RATE, **wrong)


def test_a_model_without_dimensions_says_so(tone_predictor):
    with pytest.raises(ConfigError, match="dimension 'arousal': this model predicts no dimensions"):
        tone_predictor.explain(noise_with_tone(0.4, 3), RATE, dimension="arousal")


def test_the_command_explains_a_rating(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("serx.cli.explain.load_predictor", lambda *_args, **_settings: rated_predictor())
    soundfile.write("me.wav", speechlike(0.8, 150, 0), RATE)
    with pytest.raises(SystemExit) as left:
        main("explain", ["me.wav", "--dimension", "valence", "--steps", "64"])
    printed = capsys.readouterr()
    assert left.value.code == 0, printed.err
    assert "valence: rating" in printed.out and "nats" not in printed.out
    written = json.loads((tmp_path / "explanation" / "saliency.json").read_text())
    assert written["dimension"] == "valence" and "emotion" not in written and "log_probability" not in written
    assert written["value"] == pytest.approx(written["prediction"]["dimensions"]["valence"], abs=1e-4)
    monkeypatch.setattr("serx.inference.explanation.Explanation.strongest_parts", lambda _: [])
    with pytest.raises(SystemExit):
        main("explain", ["me.wav", "--dimension", "valence", "--steps", "8"])
    printed = capsys.readouterr().out
    assert "no part raises valence" in printed and "Strongest" not in printed


def test_of_a_long_recording_the_segment_with_the_highest_rating_is_explained():
    parts = [Prediction(dimensions={"arousal": v, "valence": -v}, start=v, end=v + 1) for v in (0.2, 0.9, 0.6)]
    recording = Prediction(dimensions={"arousal": 0.5, "valence": -0.5}, segments=tuple(parts))
    assert clearest_segment(recording) == clearest_segment(recording, None, "arousal") == (0.9, 1.9)
    assert clearest_segment(recording, None, "valence") == (0.2, 1.2)


def test_a_linear_models_saliency_is_its_weights_times_its_input():
    predictor = untrained_predictor({"kind": "classical"}, {"n_mels": 8})
    clip = speechlike(0.5, 150, 0)
    waveform, lengths = torch.from_numpy(clip)[None], torch.tensor([len(clip)])
    saliency = integrated_gradients(predictor.recognizer, waveform, lengths, torch.tensor([1])).saliency[0]
    features, frames = predictor.recognizer.features(waveform, lengths)
    read = predictor.recognizer.normalizer(features, frames)[0]
    slope = saliency / read
    torch.testing.assert_close(slope, slope[:, :1].expand_as(slope), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("normalize", ["training", "clip"])
def test_integrated_gradients_are_those_of_captum(normalize):
    captum = pytest.importorskip("captum.attr")
    predictor = untrained_predictor(features={"n_mels": 24, "normalize": normalize})
    recognizer, clip = predictor.recognizer, speechlike(0.5, 150, 0)
    waveform, lengths = torch.from_numpy(clip)[None], torch.tensor([len(clip)])
    features, frames = recognizer.features(waveform, lengths)

    def log_probabilities(read: Tensor) -> Tensor:
        logits = recognizer.backbone(read, frames.expand(len(read)))
        return (logits / recognizer.temperature).log_softmax(-1)

    read = recognizer.normalizer(features, frames)
    expected = captum.IntegratedGradients(log_probabilities).attribute(read, target=2, n_steps=400)
    actual = integrated_gradients(recognizer, waveform, lengths, torch.tensor([2]), steps=400).saliency
    torch.testing.assert_close(actual, expected.float(), rtol=0.02, atol=0.01 * float(expected.abs().max()))


def test_the_saliency_does_not_depend_on_padding_or_other_clips(tone_predictor):
    recognizer = tone_predictor.recognizer
    clip, other = noise_with_tone(0.4, 1000), noise_with_tone(0.1, 1001)
    alone = integrated_gradients(recognizer, torch.from_numpy(clip)[None], torch.tensor([len(clip)]), torch.tensor([1]))
    waveform = torch.zeros(2, len(clip) + 5000)
    waveform[0, : len(clip)] = torch.from_numpy(clip)
    waveform[1, :9000] = 30 * torch.from_numpy(other[:9000])
    together = integrated_gradients(recognizer, waveform, torch.tensor([len(clip), 9000]), torch.tensor([1, 0]))
    frames = alone.saliency.shape[-1]
    torch.testing.assert_close(together.saliency[:1, :, :frames], alone.saliency, rtol=1e-3, atol=1e-4)
    assert together.saliency[0, :, frames:].abs().max() == 0


def test_frames_of_a_faster_version_lie_where_they_are_in_the_clip():
    saliency = torch.zeros(1, 1, 80)
    saliency[0, 0, 40] = 1.0
    placed = _at_recorded_speed(saliency, 1.25, 100)
    assert placed.shape == (1, 1, 100) and float(placed.sum()) == pytest.approx(1) and int(placed.argmax()) == 50
    beyond = _at_recorded_speed(torch.ones(1, 1, 80), 1.3, 100)
    assert float(beyond.sum()) == pytest.approx(80)  # nothing is lost at the end


@pytest.mark.parametrize("model", [SMALL, SMALL_CNN2D])
@pytest.mark.usefixtures("trusted")
def test_within_adaptation_the_adapted_prediction_is_explained(model):
    predictor = untrained_predictor(model)
    clip = speechlike(0.7, 150, 0)
    before = predictor.explain(clip, RATE, emotion="sad", steps=16)
    speaker = [torch.from_numpy(speechlike(0.6, 220, seed)) for seed in range(4)]
    with adapted(predictor.recognizer, speaker):
        inside = predictor.explain(clip, RATE, emotion="sad")
        again = predictor(clip, RATE)
    assert np.exp(inside.value) == pytest.approx(again.probabilities["sad"], abs=1e-5)
    assert abs(inside.value - before.value) > 1e-4
    change = inside.value - inside.baseline_value
    assert abs(inside.completeness_error) < 0.01 + 0.02 * abs(change)
    after = predictor.explain(clip, RATE, emotion="sad", steps=16)
    np.testing.assert_array_equal(after.saliency, before.saliency)


@pytest.mark.parametrize("features", [{"stack": ["waveform"], "normalize": "none"}, {"statistics": ["mean"]}])
def test_models_without_frames_of_features_are_explained_over_time(features, encoder_folder):
    if "statistics" in features:
        model = {"kind": "mlp", "widths": (8,)}
    else:
        config = from_tree(
            {
                "data": {"root": "."},
                "features": features,
                "model": {"kind": "encoder_probe", "source": str(encoder_folder("wav2vec2"))},
            },
            source="test",
        )
        model = config.model.resolved().model_dump()
    predictor = untrained_predictor(model, features)
    clip = speechlike(0.7, 150, 0)
    explanation = predictor.explain(clip, RATE)
    assert explanation.method == "occlusion" and explanation.saliency is None and explanation.band_saliency is None
    assert explanation.completeness_error is None and np.isfinite(explanation.frame_saliency).all()
    assert len(explanation.frame_saliency) == len(explanation.seconds) == explanation.spectrogram.shape[1]
    assert explanation.as_dict()["bands"] is None and explanation.figure()
    assert explanation.csv().splitlines()[0] == "seconds,saliency"


def test_times_count_from_the_start_of_the_recording(tone_predictor, tmp_path):
    predictor = Predictor(
        tone_predictor.recognizer,
        tone_predictor.config.model_copy(
            update={"data": tone_predictor.config.data.model_copy(update={"trim_db": 30.0})}
        ),
    )
    clip, pause = noise_with_tone(0.4, 3), np.zeros(RATE, np.float32)
    wave = np.concatenate([pause, clip, pause])
    soundfile.write(tmp_path / "late.wav", wave, RATE, subtype="FLOAT")
    for begin, end in ((None, None), (0.5, 2.0)):
        first, last = trim_bounds(wave, RATE, 30.0, predictor.config.data.trim_keep_seconds)
        expected = tone_predictor.explain(wave[first:last], RATE)
        explanation = predictor.explain(tmp_path / "late.wav", start=begin, end=end)
        np.testing.assert_allclose(explanation.seconds, expected.seconds + first / RATE, atol=0.011)
        np.testing.assert_allclose(explanation.frame_saliency, expected.frame_saliency, atol=1e-4)
    expected = predictor(tmp_path / "late.wav").probabilities
    assert predictor.explain(tmp_path / "late.wav").prediction.probabilities == pytest.approx(expected)


def test_a_part_of_a_recording_longer_than_the_model_takes_can_be_explained(tone_predictor, tmp_path):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.tile(noise_with_tone(0.4, 3), 90), RATE)
    with pytest.raises(AudioError, match=r"too_long: 72\.0 s.*start and end"):
        tone_predictor.explain(path)
    assert tone_predictor.explain(path, start=64.0, end=64.8).seconds[0] == 64.0


def test_of_a_long_recording_the_command_explains_the_segment_in_which_the_emotion_is_most_probable(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    talk = synthetic_conversation()
    soundfile.write("talk.wav", np.tile(talk, 5), RATE)  # 71 s
    with pytest.raises(SystemExit) as left:
        main("explain", ["talk.wav", "--emotion", "sad", "--steps", "8", "--json"])
    printed = capsys.readouterr()
    assert left.value.code == 0, printed.err
    document = json.loads(printed.out)
    segments = document["recording"]["segments"]
    best = max(segments, key=lambda segment: segment["probabilities"]["sad"])
    assert len(segments) > 20 and document["emotion"] == "sad"
    times = [frame["seconds"] for frame in document["frames"]]
    assert best["start"] <= times[0] and times[-1] <= best["end"] + 0.02
    assert (tmp_path / "explanation/saliency.png").exists()
    with pytest.raises(SystemExit) as left:
        main("explain", ["talk.wav", "--steps", "8"])
    printed = capsys.readouterr().out
    assert left.value.code == 0 and "is most probable; --start and --end choose another part" in printed
    assert f"the mean of {len(segments)} segments" in printed


@pytest.mark.parametrize(
    "wrong", [{"start": 2.0, "end": 1.0}, {"start": -1.0}, {"end": float("nan")}, {"steps": 0}, {"emotion": "sadd"}]
)
def test_wrong_arguments_are_named(tone_predictor, wrong):
    with pytest.raises(ConfigError, match="did you mean sad" if "emotion" in wrong else next(iter(wrong))):
        tone_predictor.explain(noise_with_tone(0.4, 3), RATE, **wrong)


def test_the_written_files_hold_the_same_numbers(tone_predictor, tmp_path):
    soundfile.write(tmp_path / "$a_\x1b[2J.wav", noise_with_tone(0.4, 3), RATE)
    explanation = tone_predictor.explain(tmp_path / "$a_\x1b[2J.wav")
    picture, numbers, matrix = explanation.write(tmp_path / "out" / "deep")
    assert picture.read_bytes().startswith(b"\x89PNG")
    result = json.loads(numbers.read_text())
    assert [frame["saliency"] for frame in result["frames"]] == pytest.approx(explanation.frame_saliency.tolist())
    assert [band["saliency"] for band in result["bands"]] == pytest.approx(explanation.saliency.sum(1).tolist())
    assert result["completeness_error"] == explanation.completeness_error and result["method"] == "integrated_gradients"
    rows = list(csv.reader(io.StringIO(matrix.read_text())))
    assert rows[0][2:] == [f"{hertz:.1f}" for hertz in explanation.hertz]
    np.testing.assert_allclose(np.array(rows[1:], float)[:, 2:], explanation.saliency.T, rtol=1e-4, atol=1e-6)


def test_the_command_prints_the_explanation_and_names_its_files(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write("me.wav", speechlike(0.8, 150, 0), RATE)
    with pytest.raises(SystemExit) as left:
        main("explain", ["me.wav", "--emotion", "angry", "--steps", "8", "--start", "0.1"])
    printed = capsys.readouterr()
    assert left.value.code == 0, printed.err
    assert "angry: log-probability" in printed.out and "completeness error" in printed.out
    assert json.loads((tmp_path / "explanation" / "saliency.json").read_text())["emotion"] == "angry"
    with pytest.raises(SystemExit) as left:
        main("explain", ["me.wav", "--emotion", "angri"])
    assert left.value.code == 2 and "did you mean angry?" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as left:
        main("explain", ["me.wav", "--steps", "8", "--out", "file/deep"])
    assert left.value.code == 5 and "cannot write the explanation into file/deep" in capsys.readouterr().err
