"""Adaptation to running speech: each segment in the light of those up to it, each encoded once."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from serx.cli.listen import output_line
from serx.config.loader import from_tree
from serx.data.labels import order_labels
from serx.errors import ConfigError
from serx.inference.adaptation import PIECE_SECONDS, RunningAdaptation, adapted
from serx.inference.predictor import Predictor
from serx.inference.recordings import clip_of_segment
from serx.inference.segmentation import Segment
from serx.models.layers import embedding_heads
from serx.models.linear_probe import ClipOffsetHead, LinearProbe
from serx.recognizer import Recognizer
from serx.speaker_model import SpeakerModel
from tests.conftest import RATE, randomize, speechlike
from tests.inference.untrained import untrained_predictor

LABELS = order_labels(["neutral", "happy", "angry"])
SEGMENTS = [
    Segment(float(10 * i), speechlike(seconds, 120 + 15 * i, i)) for i, seconds in enumerate((0.6, 0.9, 4.7, 0.5))
]


@pytest.fixture(scope="module")
def predictor_of(encoder_folder) -> Callable[..., Predictor]:
    """A function from settings of the model to a predictor whose network and speaker model are made up."""

    def build(**model) -> Predictor:
        model = {"source": str(encoder_folder("whisper")), **model}
        tree = {"data": {"root": "."}, "features": {"stack": ["waveform"], "normalize": "none"}, "model": model}
        config = from_tree(tree, source="test")
        recognizer = Recognizer(config.features, config.model.resolved(), LABELS, RATE, pretrained=True).eval()
        torch.manual_seed(0)
        for head in embedding_heads(recognizer):
            randomize(head)
            if isinstance(head, ClipOffsetHead):
                head.between.fill_(0.5)
        for member in recognizer.backbone.members:
            if isinstance(member, LinearProbe):
                member.projection.normal_(std=0.3)
        clips = [torch.from_numpy(speechlike(0.5, 100 + 9 * i, 50 + i)) for i in range(3)]
        with torch.no_grad():
            means = torch.cat([recognizer(clip[None], torch.tensor([len(clip)])) for clip in clips])
        recognizer.speaker_model = SpeakerModel(means - means.mean(1, keepdim=True), torch.full((3,), 0.5))
        return Predictor(recognizer, config)

    return build


@pytest.fixture(params=["speech_encoder", "encoder_probe", "linear_probe", "tta", "cnn1d"])
def predictor(request, predictor_of, monkeypatch) -> Predictor:
    """Its clips count in part, whatever the made-up network predicts."""
    monkeypatch.setattr("serx.speaker_model._trust", lambda *_: 0.6)
    if request.param == "cnn1d":
        return untrained_predictor()
    if request.param == "speech_encoder":
        return predictor_of(kind="speech_encoder", embedding=12)
    if request.param == "linear_probe":
        return predictor_of(kind="linear_probe", components=8)
    tta = {"tta_speeds": [0.9, 1.0], "ensemble_size": 2} if request.param == "tta" else {}
    return predictor_of(kind="encoder_probe", **tta)


def streamed(predictor: Predictor, segments: list[Segment], monkeypatch, adapt: bool = True):
    monkeypatch.setattr("serx.inference.predictor.speech_segments", lambda _blocks: iter(segments))
    return list(predictor.stream(SEGMENTS[0].waveform, RATE, adapt=adapt))


def rows(segments) -> np.ndarray:
    return np.array([list(segment.prediction.probabilities.values()) for segment in segments])


def test_each_segment_is_predicted_as_if_adapted_to_the_segments_up_to_it(predictor, monkeypatch):
    found = streamed(predictor, SEGMENTS, monkeypatch)
    assert [segment.adapted_to for segment in found] == [0, 2, 3, 4]
    plain = rows(streamed(predictor, SEGMENTS, monkeypatch, adapt=False))
    np.testing.assert_array_equal(rows(found)[0], plain[0])
    clips = [torch.from_numpy(clip_of_segment(segment, predictor.config.data)) for segment in SEGMENTS]
    for n in range(1, len(clips)):
        with adapted(predictor.recognizer, clips[: n + 1]):
            expected = predictor.recognizer.probabilities(clips[n][None], torch.tensor([len(clips[n])]))[0]
        np.testing.assert_allclose(rows(found)[n], expected.numpy(), atol=2e-5)
    assert np.abs(rows(found)[1:] - plain[1:]).max() > 0.01  # adaptation has an effect
    np.testing.assert_array_equal(rows(streamed(predictor, SEGMENTS, monkeypatch, adapt=False)), plain)


def test_a_result_depends_on_no_later_segment(predictor, monkeypatch):
    whole = rows(streamed(predictor, SEGMENTS, monkeypatch))
    other = [*SEGMENTS[:2], Segment(40.0, speechlike(0.7, 300, 9))]
    np.testing.assert_array_equal(rows(streamed(predictor, other, monkeypatch))[:2], whole[:2])


def test_no_segment_is_encoded_twice(predictor_of, monkeypatch, encoded):
    predictor = predictor_of(kind="speech_encoder", embedding=12)
    encoded.clear()
    found = streamed(predictor, SEGMENTS, monkeypatch)
    short = [len(s.waveform) for s in SEGMENTS if s.end - s.start <= PIECE_SECONDS]
    assert len(encoded) == len(SEGMENTS) + 2 and len(found) == len(SEGMENTS)  # 4.7 s have two pieces
    assert len(short) == 3 and all(encoded.count(length) == 1 for length in short)
    assert not any("forward" in module.__dict__ for module in predictor.recognizer.modules())


def test_the_recognizer_is_restored_after_each_segment_and_after_an_error(predictor):
    running, clip = RunningAdaptation(predictor.recognizer), torch.from_numpy(SEGMENTS[0].waveform)
    before = [(dict(module.__dict__), list(module._forward_hooks.items())) for module in predictor.recognizer.modules()]
    for _ in range(2):
        with running.including(clip):
            assert predictor.recognizer.adapted
        with pytest.raises(ZeroDivisionError), running.including(clip):
            raise ZeroDivisionError
    assert running.clips == 4
    after = [(dict(module.__dict__), list(module._forward_hooks.items())) for module in predictor.recognizer.modules()]
    assert after == before and not predictor.recognizer.adapted


def test_a_silent_segment_is_no_part_of_the_speaker(predictor_of, monkeypatch):
    predictor = predictor_of(kind="encoder_probe")
    silent = Segment(5.0, np.zeros(RATE, np.float32))
    found = streamed(predictor, [SEGMENTS[0], silent, SEGMENTS[1]], monkeypatch)
    assert found[1].prediction.error.startswith("silent") and found[1].adapted_to == 0
    expected = rows(streamed(predictor, SEGMENTS[:2], monkeypatch))
    np.testing.assert_array_equal(rows([found[0], found[2]]), expected)


def test_clips_that_do_not_count_change_nothing(predictor_of, monkeypatch):
    monkeypatch.setattr("serx.speaker_model._trust", lambda *_: 0.0)
    for predictor in (untrained_predictor(), predictor_of(kind="linear_probe", components=8)):
        plain = rows(streamed(predictor, SEGMENTS, monkeypatch, adapt=False))
        np.testing.assert_array_equal(rows(streamed(predictor, SEGMENTS, monkeypatch)), plain)


@pytest.mark.usefixtures("trusted")
def test_only_the_last_pieces_count(monkeypatch):
    predictor = untrained_predictor()
    monkeypatch.setattr("serx.inference.adaptation.MAX_PIECES", 3)
    found = rows(streamed(predictor, SEGMENTS, monkeypatch))
    clips = [torch.from_numpy(clip_of_segment(segment, predictor.config.data)) for segment in SEGMENTS]
    expected = []
    for kept in (clips[2:], clips):  # the third has two pieces
        with adapted(predictor.recognizer, kept):
            expected.append(
                predictor.recognizer.probabilities(clips[3][None], torch.tensor([len(clips[3])]))[0].numpy()
            )
    np.testing.assert_allclose(found[3], expected[0], atol=2e-5)
    assert np.abs(found[3] - expected[1]).max() > 1e-3


def test_a_model_that_cannot_be_adapted_and_an_adapted_one_are_refused(predictor_of):
    predictor = predictor_of(kind="encoder_probe")
    clips = [torch.from_numpy(segment.waveform) for segment in SEGMENTS[:2]]
    for kind in (predictor, untrained_predictor()):
        with adapted(kind.recognizer, clips):
            with pytest.raises(ConfigError, match="adapted to recordings of a speaker"):
                kind.stream(SEGMENTS[0].waveform, RATE, adapt=True)
            with (
                pytest.raises(ConfigError, match="adapted to recordings of a speaker"),
                adapted(kind.recognizer, clips),
            ):
                pass
        assert not kind.recognizer.adapted
    predictor.recognizer.speaker_model = None
    with pytest.raises(ConfigError, match="trained on a single speaker") as caught:
        RunningAdaptation(predictor.recognizer)
    assert "\n" not in str(caught.value)


def test_the_line_of_a_segment_says_to_how_many_utterances_of_one_speaker_the_model_was_adapted(
    predictor_of, monkeypatch
):
    found = streamed(predictor_of(kind="encoder_probe"), SEGMENTS[:2], monkeypatch)
    first, second = (output_line(segment, as_json=False) for segment in found)
    assert "adapted" not in first and second.endswith("adapted to 2 utterances of one speaker")
    assert ['"adapted_to": 0' in output_line(found[0], True), '"adapted_to": 2' in output_line(found[1], True)] == [
        True,
        True,
    ]
    plain = streamed(predictor_of(kind="encoder_probe"), SEGMENTS[:2], monkeypatch, adapt=False)
    assert "adapted" not in "".join(output_line(segment, as_json) for segment in plain for as_json in (False, True))
