"""Pages of evaluations: numbers as in evaluation.json, escaped names, no scripts, nothing from the internet, small."""

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from serx.data.audio.mp3 import encode_mp3
from serx.evaluation import Evaluation
from serx.evaluation.pooling import summarize_folds
from serx.evaluation.predictions import join
from serx.evaluation.scores import score_predictions
from serx.features.stack import FeaturesConfig
from serx.files import to_json
from serx.inference.explanation import Explanation, explain_clip
from serx.inference.prediction import Prediction
from serx.models import Cnn1dConfig
from serx.pages import (
    Absent,
    Reproduction,
    clip_explainer,
    clip_reader,
    confident_mistakes,
    evaluation_page,
    map_of_clips,
    stress_of,
)
from serx.pages.clip_map import MAX_POINTS, chosen_clips, flat_map
from serx.pages.clips import SALIENCY_STEPS
from serx.recognizer import Recognizer
from tests.conftest import RATE, speechlike
from tests.evaluation.test_pooling import fold_results
from tests.evaluation.test_report import random_predictions

VOID = {"meta", "img", "br", "input", "wbr"}  # have no end tag
HOSTILE = '<script>alert("1")</script>\u202e\'"&\x1b[2J\udcff'


class Reader(HTMLParser):
    """Reads a page; fails where an end tag does not close the last open tag."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attributes]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> where {self.open[-3:]} are open"
        self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def read(page: str) -> Reader:
    """The page as a parser sees it, after the checks that hold for every page."""
    page.encode()  # no half of a surrogate pair
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == [] and page.startswith("<!DOCTYPE html>")
    assert len(set(reader.ids)) == len(reader.ids)
    assert "script" not in reader.tags and "link" not in reader.tags and "iframe" not in reader.tags
    assert not any(name.startswith("on") for name, _ in reader.attributes)
    for name, value in reader.attributes:
        assert "//" not in value or value.startswith("data:"), f"{name}={value}"
        if name in ("src", "href"):
            assert value.startswith(("data:audio/mpeg;base64,", "data:image/png;base64,"))
    assert "url(" not in page and "@import" not in page
    assert "default-src 'none'" in page  # a browser that is asked to load anything else refuses
    assert len(page) < 5_000_000
    return reader


def text_of(page: str) -> str:
    """What a reader sees, with single spaces."""
    return " ".join(" ".join(read(page).words).split())


def sound(i: int) -> tuple[np.ndarray, int]:
    """A clip of 0.5 s."""
    return speechlike(0.5, 120, i), RATE


def page_of(p, details=None, **options) -> tuple[dict, str]:
    """The scores of predictions as evaluation.json has them, and their page."""
    scores = json.loads(to_json(Evaluation(p, "made fold 0, speaker-independent", details or {}).scores))
    return scores, evaluation_page(scores, p, "made: evaluation on the test part", **options)


def test_the_numbers_of_a_page_are_those_of_evaluation_json():
    p = random_predictions()
    before = {"nll": 1.5, "ece": 0.25, "brier": 0.7}
    scores, page = page_of(p, {"temperature": 1.5, "calibration_before": before, "warnings": ["seen speakers"]})
    text = text_of(page)
    low, high = (100 * bound for bound in scores["intervals"]["uar"])
    assert (
        f"{100 * scores['uar']:.1f} % UAR (mean recall of the emotions), 95 % interval {low:.1f} to {high:.1f}".replace(
            " ,", ","
        )
        in text.replace(" ,", ",")
    )
    assert "made fold 0, speaker-independent" in text and "seen speakers" in text
    rows = [
        [cell.strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)]
        for row in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    ]
    named = {re.sub("<.*?>", "", cells[0]): cells for cells in rows if cells}
    for label, row in scores["per_class"].items():
        expected = [f"{100 * row[key]:.1f}" for key in ("recall", "precision", "f1")]
        assert named[label][2:] == [*expected, str(row["support"])]
    for key in ("per_speaker", "per_sex", "per_corpus", "per_intensity"):
        assert scores[key]
        for name, row in scores[key].items():
            assert named[name][2:5] == [f"{100 * row['uar']:.1f}", f"{100 * row['accuracy']:.1f}", str(row["n_clips"])]
    for row in scores["selective"]:
        accuracy = "–" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f}"
        assert named[f"{row['confidence']:.1f}"][1:] == [f"{100 * row['coverage']:.1f}", accuracy]
    cells = re.findall(r"<small>(\d+)</small>", page)
    assert [int(cell) for cell in cells] == np.ravel(scores["confusion"]).tolist()
    assert f"{100 * scores['calibration']['ece']:.1f} %" in text and "25.0 %, 1.500 nats" in text


def test_names_of_users_can_neither_add_markup_nor_hide_text():
    p = random_predictions()
    speakers = tuple(f"{HOSTILE}{name}" for name in p.speaker_ids)
    p = replace(
        p,
        labels=(HOSTILE, *p.labels[1:]),
        speaker_ids=speakers,
        paths=tuple(f"/data/{HOSTILE.replace('/', '')}{i}.wav" for i in range(len(p.paths))),
        intensities=tuple(f"{HOSTILE}{i}" for i in p.intensities),
    )
    scores = Evaluation(p, HOSTILE, {"warnings": [HOSTILE]}).scores
    page = evaluation_page(
        scores,
        p,
        HOSTILE,
        {HOSTILE: [{"epoch": 0, "train": {"loss": 1.0, "uar": 0.5}, "valid": None, "kept": True}]},
        [{"name": HOSTILE, "uar": 0.5, "change": 0.0, "interval": None}],
        mistakes=confident_mistakes(p, sound, 2),
        reproduction=Reproduction([HOSTILE], [(HOSTILE, HOSTILE)]),
    )
    reader = read(page)
    assert "alert" not in " ".join(value for _, value in reader.attributes)
    assert not re.search("[\x00-\x08\x1b\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page)
    assert r"\u202e" in page and r"\x1b[2J" in page and '<script>alert("1")</script>' in " ".join(reader.words)


def test_the_same_input_makes_the_same_page():
    p = random_predictions()
    first, second = (page_of(p, mistakes=confident_mistakes(p, sound, 3))[1] for _ in range(2))
    assert first == second


def test_mistakes_are_the_most_confident_wrong_predictions_and_their_sound_can_be_decoded():
    p = random_predictions()
    found = confident_mistakes(p, sound)
    wrong = np.flatnonzero(p.predicted != p.targets)
    expected = sorted(wrong, key=lambda i: -p.probabilities[i].max())[:10]
    assert [m.confidence for m in found] == pytest.approx([p.probabilities[i].max() for i in expected])
    assert [m.name for m in found] == [f"{i:04d}.wav" for i in expected]
    for i, m in zip(expected, found, strict=True):
        assert (m.target, m.predicted) == (p.labels[p.targets[i]], p.labels[p.predicted[i]])
        decoded, rate = soundfile.read(io.BytesIO(base64.b64decode(m.audio.partition(",")[2])), dtype="float32")
        original = sound(i)[0]
        assert rate == RATE and abs(len(decoded) - len(original)) < 0.15 * RATE
        shift = np.correlate(decoded, original, "full").argmax() - len(original) + 1  # MP3 delays a little
        aligned = decoded[max(shift, 0) :][: len(original)]
        size = min(len(aligned), len(original))
        assert np.corrcoef(aligned[:size], original[:size])[0, 1] > 0.95
    _, page = page_of(p, mistakes=found)
    reader = read(page)
    assert reader.tags.count("audio") == reader.tags.count("img") == 10


def test_a_long_clip_is_cut_and_ten_clips_stay_small():
    long = 0.3 * np.random.default_rng(0).standard_normal(20 * RATE).astype(np.float32)
    [found] = confident_mistakes(random_predictions(), lambda i: (long, RATE), 1)
    assert found.is_cut and found.seconds == 20
    assert 10 * (len(found.audio) + len(found.spectrogram.uri)) < 3_000_000
    assert "only its beginning" in page_of(random_predictions(), mistakes=[found])[1]


def test_a_page_of_many_emotions_speakers_and_epochs_stays_small():
    labels = tuple(f"emotion {i}" for i in range(70))
    p = random_predictions(1, labels, 10)
    p = replace(p, speaker_ids=tuple(f"made/{i}" for i in range(700)), sexes=(None,) * 700)
    of_epoch = {"loss": 1.0, "uar": 0.5}
    lines = [{"epoch": i, "train": of_epoch, "valid": of_epoch, "kept": False} for i in range(5_000)]
    scores = score_predictions(p, "made fold 0", resamples=2)
    page = evaluation_page(scores, p, "made", {"run": lines})
    assert len(page) < 600_000
    text = text_of(page)
    assert "And 200 more, in evaluation.json." in text and "the whole matrix of 70 emotions" in text
    wrong = np.array(scores["confusion"])
    np.fill_diagonal(wrong, 0)
    row, column = np.unravel_index(wrong.argmax(), wrong.shape)
    assert f"{labels[row]} {labels[column]} {wrong.max()}" in text


@pytest.mark.parametrize("rate", [4_000, 8_000, 44_100, 48_000, 192_000])
def test_any_sampling_rate_becomes_an_mp3_file_of_the_same_pitch(rate):
    wave = np.sin(2 * np.pi * 500 * np.arange(rate) / rate).astype(np.float32)
    decoded, decoded_rate = soundfile.read(io.BytesIO(encode_mp3(0.5 * wave, rate)), dtype="float32")
    spectrum = np.abs(np.fft.rfft(decoded * np.hanning(len(decoded))))
    assert spectrum.argmax() * decoded_rate / len(decoded) == pytest.approx(500, abs=2)
    assert decoded_rate <= 24_000 and len(decoded) / decoded_rate == pytest.approx(1, abs=0.15)


def test_clips_that_cannot_be_read_are_listed_without_sound():
    p = random_predictions()
    read_clip = clip_reader(lambda clips: (torch.zeros(1, 8), torch.tensor([8])), [None] * len(p.paths), RATE)
    _, page = page_of(p, mistakes=confident_mistakes(p, read_clip, 2))
    assert "<audio" not in page and page.count('<article class="card">') == 2


def explanation_of(saliency: np.ndarray, /, **changes) -> Explanation:
    """An explanation with this saliency `(F, N)`, of silence."""
    bands, frames = saliency.shape
    known = {
        "prediction": Prediction(probabilities={}),
        "emotion": "happy",
        "method": "integrated_gradients",
        "seconds": np.arange(frames) / 100,
        "hertz": np.geomspace(100, 6400, bands),
        "spectrogram": np.full_like(saliency, -100.0),
        "saliency": saliency,
        "frame_saliency": saliency.sum(0),
        "feature_saliency": {},
        "value": 0.0,
    }
    return Explanation(**{**known, **changes})


def pixels_of(uri: str) -> np.ndarray:
    """`(H, W, 3)` of a picture in a page, the lowest row first."""
    content = base64.b64decode(uri.partition("base64,")[2])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), int)[::-1]


def test_the_saliency_of_a_mistake_is_over_time_and_frequency_for_the_part_that_is_shown():
    saliency = np.zeros((60, 200))
    saliency[40:43, 30:34], saliency[10:13, 90:94] = 1.0, -1.0
    saliency[20, 150:] = 1e6  # the last quarter of 16 s is not shown
    long = 0.3 * np.random.default_rng(0).standard_normal(16 * RATE).astype(np.float32)
    [found] = confident_mistakes(
        random_predictions(), lambda i: (long, RATE), 1, lambda i, wave: explanation_of(saliency)
    )
    pixels = pixels_of(found.saliency.uri)
    assert pixels.shape == (60, 150, 3)
    redness = pixels[..., 0] - pixels[..., 2]
    for sign, rows, columns in ((1, (40, 43), (30, 34)), (-1, (10, 13), (90, 94))):
        places = np.argwhere(sign * redness > 80)
        assert len(places) >= 12 and (places.min(0) >= (rows[0] - 1, columns[0] - 1)).all()
        assert (places.max(0) <= (rows[1], columns[1])).all()
    assert np.abs(redness[25:35]).max() <= 2
    heights = dict(found.saliency.ticks)
    assert heights["4 kHz"] == pytest.approx(100 * (np.interp(4000, np.geomspace(100, 6400, 60), range(60)) + 0.5) / 60)
    _, page = page_of(random_predictions(), mistakes=[found])
    reader = read(page)
    assert found.saliency.uri in [value for name, value in reader.attributes if name == "src"]
    assert "red frequencies and moments raise" in text_of(page) and "4 kHz" in text_of(page)


def test_a_saliency_of_many_bands_and_frames_becomes_a_small_picture():
    saliency = np.zeros((256, 3000))
    saliency[100:108, 1500:1530] = 1.0
    [found] = confident_mistakes(random_predictions(), sound, 1, lambda i, wave: explanation_of(saliency))
    pixels = pixels_of(found.saliency.uri)
    assert pixels.shape == (64, 400, 3)
    redness = pixels[..., 0] - pixels[..., 2]
    row, column = np.argwhere(redness > 0.5 * redness.max()).mean(0)
    assert abs((row + 0.5) / 64 - 104 / 256) < 0.02 and abs((column + 0.5) / 400 - 1515 / 3000) < 0.01


def test_the_saliency_of_each_moment_is_drawn_below_for_the_part_that_is_shown():
    p = random_predictions()
    asked = []

    def explain(i, waveform):
        asked.append((i, len(waveform)))
        moments = np.array([0.0, 2.0, -1.0, 1e6])  # the last quarter of 16 s is not shown
        return explanation_of(np.zeros((3, 4)), saliency=None, frame_saliency=moments, method="occlusion")

    long = 0.3 * np.random.default_rng(0).standard_normal(16 * RATE).astype(np.float32)
    [found] = confident_mistakes(p, lambda i: (long, RATE), 1, explain)
    wrong = np.flatnonzero(p.predicted != p.targets)
    assert asked == [(wrong[p.probabilities[wrong].max(1).argmax()], 16 * RATE)]
    _, page = page_of(p, mistakes=[found])
    raises, lowers = (re.search(f'<path class="{css}" d="(.*?)"', page)[1] for css in ("raises", "lowers"))
    assert raises == "M0 20H0.00V20.0H1.00H1.00V0.0H2.00H2.00V20.0H3.00V20Z"
    assert lowers == "M0 20H0.00V20.0H1.00H1.00V20.0H2.00H2.00V30.0H3.00V20Z"
    assert found.saliency is None and "explained over time only" in text_of(page)


def test_the_saliency_is_of_the_predicted_emotion_and_models_of_waveforms_have_none():
    p = random_predictions(1, ("happy", "sad"), 2)
    recognizer = Recognizer(FeaturesConfig(), Cnn1dConfig(stem=8, widths=(8, 8, 8)), p.labels, RATE).eval()
    wave = sound(0)[0]
    for i in (0, 3):
        predicted = p.labels[p.predicted[i]]
        expected = explain_clip(recognizer, wave, Prediction(probabilities={}), predicted, steps=SALIENCY_STEPS)
        np.testing.assert_allclose(clip_explainer(recognizer, p)(i, wave).saliency, expected.saliency)
    of_waveforms = FeaturesConfig(stack=("waveform",), normalize="none", remove_level=False)
    assert clip_explainer(SimpleNamespace(features=SimpleNamespace(config=of_waveforms)), p) is None


def test_a_page_without_mistakes_curves_speakers_or_intervals_is_whole():
    p = random_predictions(1, clips=1)
    p = replace(p, probabilities=np.eye(8)[p.targets], sexes=(None,) * 8, intensities=(None,) * 8)
    scores, page = page_of(p)
    assert scores["intervals"]["uar"] is None
    assert "Every prediction is correct." in text_of(page)


SECTIONS = {  # the words of a heading, and what is said where its section is empty
    "Emotions": "",
    "Learning curves": "There is no metrics.jsonl beside the checkpoint.",
    "Speakers": "",
    "Sex": "Unknown: the clips say no sex.",
    "Corpus": "",
    "Intensity": "Unknown: the clips say none.",
    "Confidence": "",
    "Stress test": "Not measured.",
    "Map of the clips": "A map needs 10 clips or more",
    "Most confident mistakes": "The saliency was not computed; serx explain FILE does it",
    "How to reproduce this page": "No command made this page",
}


def test_a_section_without_content_says_why_and_how_to_get_it():
    p = random_predictions(1, clips=1)
    p = replace(p, sexes=(None,) * 8, intensities=(None,) * 8)
    text = text_of(page_of(p, mistakes=confident_mistakes(p, sound))[1])
    places = [text.index(title) for title in SECTIONS if title != "Emotions"]
    assert places == sorted(places)
    for title, why in SECTIONS.items():
        assert title in text and why in text[text.index(title) :].replace(" .", ".")
    p = replace(p, speaker_ids=tuple(f"unknown {i}" for i in range(8)), paths=p.paths)
    stated = page_of(p, absent={"stress": Absent("Not yet: `<b>`.", ["serx stress --checkpoint '<b>'"])})[1]
    assert "Not yet: <code>&lt;b&gt;</code>." in stated
    assert "serx stress --checkpoint &#39;&lt;b&gt;&#39;" in stated


def test_a_section_with_content_makes_no_excuse():
    of_epoch = {"loss": 1.0, "uar": 0.5}
    p = random_predictions()
    _, page = page_of(
        p,
        curves={"run": [{"epoch": 0, "train": of_epoch, "valid": of_epoch, "kept": True}]},
        stress=[{"name": "as recorded", "uar": 0.5, "change": 0.0, "interval": None}],
        clip_map={"chart": "", "colors": {}, "names": {}, "note": "Near."},
        mistakes=confident_mistakes(p, sound, 2, lambda i, wave: explanation_of(np.ones((8, 20)))),
        reproduction=Reproduction(["serx evaluate"]),
    )
    text = text_of(page)
    assert all(title in text for title in SECTIONS)
    assert not any(why and why in text for why in SECTIONS.values())


def test_learning_curves_have_a_line_for_each_part_and_name_the_kept_epoch():
    scores = {"loss": 1.0, "uar": 0.5}
    lines = [{"epoch": i, "train": scores, "valid": scores, "kept": i < 2} for i in range(3)]
    p = random_predictions()
    _, page = page_of(p, curves={"run": lines})
    assert "kept: epoch 2" in page and page.count('<polyline class="line train"') == 3  # loss, UAR, coverage
    _, without = page_of(p, curves={"run": [{**line, "valid": None} for line in lines]})
    assert "validation" not in text_of(without)
    _, folds = page_of(p, curves={"a": lines, "b": lines})
    assert folds.count('<polyline class="line train thin"') == 4 and "2 runs." in folds


def test_the_stress_test_is_shown_only_where_it_is_of_the_same_evaluation(tmp_path):
    scores, _ = page_of(random_predictions(), {"part": "test"})
    rows = [
        {"condition": "as recorded", "strength": "", "uar": scores["uar"], "change": 0.0, "interval": None},
        {"condition": "white noise", "strength": "0 dB SNR", "uar": 0.1, "change": -0.35, "interval": [-0.4, -0.3]},
    ]
    stress = {key: scores[key] for key in ("part", "protocol", "n_clips", "n_speakers")} | {"conditions": rows}
    (tmp_path / "stress.json").write_text(json.dumps(stress))
    found = stress_of([tmp_path / "none", tmp_path], scores)
    _, page = page_of(random_predictions(), {"part": "test"}, stress=found)
    assert "white noise, 0 dB SNR" in page and "-35.0" in page and "-40.0 to -30.0" in page and "fill loss" in page
    for change in ({"n_clips": 1}, {"protocol": "other"}, {"conditions": []}, {"conditions": [{**rows[0], "uar": 0.2}]},
                   {"conditions": [rows[0], {**rows[1], "change": "x"}]}):  # fmt: skip
        (tmp_path / "stress.json").write_text(json.dumps(stress | change))
        assert stress_of([tmp_path], scores) == []
    (tmp_path / "stress.json").write_text("[")
    assert stress_of([tmp_path], scores) == []


def test_a_cross_validation_has_a_page_with_its_folds():
    results = fold_results(random_predictions())
    summary = summarize_folds(results, resamples=20)
    page = evaluation_page(summary, join([r.predictions for r in results]), "made: cross-validation")
    text = text_of(page)
    assert "Folds" in text and all(f"{100 * fold['uar']:.1f}" in text for fold in summary["folds"])


def test_folds_that_are_not_pooled_are_named_on_the_page():
    results = fold_results(random_predictions())
    summary = summarize_folds(results, resamples=20) | {
        "failed": ["seed 0 fold 3 (exit code 4)"],
        "missing": ["seed 1"],
    }
    text = text_of(evaluation_page(summary, join([r.predictions for r in results]), "made: cross-validation"))
    assert "failed: seed 0 fold 3 (exit code 4)" in text and "missing: seed 1" in text


def test_a_map_puts_groups_apart_and_is_the_same_in_every_call():
    centers = np.random.default_rng(0).standard_normal((3, 20))
    groups = np.repeat([0, 1, 2], 15)
    vectors = centers[groups] + 0.05 * np.random.default_rng(1).standard_normal((45, 20))
    places = flat_map(vectors)
    assert places.min() == 0 and places.max() == 1
    np.testing.assert_array_equal(places, flat_map(vectors))
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (groups[distances.argmin(1)] == groups).all()
    assert flat_map(vectors[:5]) is None and flat_map(np.ones((20, 3))) is None


def test_a_map_of_many_clips_shows_some_of_them():
    chosen = chosen_clips(10_000)
    assert len(set(chosen.tolist())) == MAX_POINTS and chosen[0] == 0 and chosen[-1] == 9_999


def test_the_map_of_a_page_switches_between_emotion_speaker_and_sex():
    p = random_predictions(3, clips=1)
    recognizer = Recognizer(FeaturesConfig(), Cnn1dConfig(stem=8, widths=(8, 8, 8)), p.labels, RATE)
    waves = torch.from_numpy(np.stack([speechlike(0.3, 100 + 5 * i, i) for i in range(24)]))
    source = SimpleNamespace(batch=lambda clips: (waves[clips], torch.full((len(clips),), waves.shape[1])))
    shown = map_of_clips(recognizer, source, np.arange(24), p, "Before adaptation.")
    assert shown["note"].endswith(". Before adaptation.")
    _, page = page_of(p, clip_map=shown)
    reader = read(page)
    assert reader.tags.count("circle") >= 24
    assert [value for name, value in reader.attributes if name == "for"] == ["map-emotion", "map-speaker", "map-sex"]
    assert len(re.findall(r'class="emotion\d speaker\d sex\d( wrong)?"', page)) == 24
    assert len(re.findall(r'class="emotion\d speaker\d sex\d wrong"', page)) == (p.predicted != p.targets).sum()
