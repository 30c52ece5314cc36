"""Adaptation to running speech: each segment in the light of those up to it, each encoded once."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from serx.cli.listen import output_line
from serx.config.loader import from_tree
from serx.data.labels import order_labels
from serx.errors import ConfigError
from serx.inference.adaptation import PIECE_SECONDS, TRUST, RunningAdaptation, adapted
from serx.inference.predictor import Predictor
from serx.inference.segmentation import Segment
from serx.models.layers import EmbeddingHead, embedding_heads
from serx.models.linear_probe import ClipOffsetHead
from serx.recognizer import Recognizer, embeddings_of
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
        heads = embedding_heads(recognizer)
        for head in heads:
            randomize(head)
        clips = [torch.from_numpy(speechlike(0.5, 100 + 9 * i, 50 + i)) for i in range(6)]
        own = embeddings_of(recognizer, heads, [(clip[None], torch.tensor([len(clip)])) for clip in clips])
        means = tuple(e.detach()[:3] for e in own)
        recognizer.speaker_model = SpeakerModel(means, tuple(torch.full_like(mean[0], 0.5) for mean in means))
        return Predictor(recognizer, config)

    return build


@pytest.fixture(params=["speech_encoder", "encoder_probe", "tta", "cnn1d"])
def predictor(request, predictor_of, monkeypatch) -> Predictor:
    """Its clips count in part, whatever the made-up network predicts."""
    monkeypatch.setattr("serx.inference.adaptation._trust", lambda *_: 0.6)
    if request.param == "cnn1d":  # has batch norms and no speaker model
        return untrained_predictor()
    if request.param == "speech_encoder":
        return predictor_of(kind="speech_encoder", embedding=12)
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
    clips = [torch.from_numpy(predictor._clip_of_segment(segment)) for segment in SEGMENTS]
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


def test_a_silent_segment_is_no_part_of_the_speaker(predictor_of, monkeypatch):
    predictor = predictor_of(kind="encoder_probe")
    silent = Segment(5.0, np.zeros(RATE, np.float32))
    found = streamed(predictor, [SEGMENTS[0], silent, SEGMENTS[1]], monkeypatch)
    assert found[1].prediction.error.startswith("silent") and found[1].adapted_to == 0
    expected = rows(streamed(predictor, SEGMENTS[:2], monkeypatch))
    np.testing.assert_array_equal(rows([found[0], found[2]]), expected)


def test_one_emotion_alone_changes_nothing_in_a_model_without_a_speaker_model(monkeypatch):
    predictor = untrained_predictor()  # is sure of nothing
    plain = rows(streamed(predictor, SEGMENTS, monkeypatch, adapt=False))
    np.testing.assert_allclose(rows(streamed(predictor, SEGMENTS, monkeypatch)), plain, atol=1e-6)


@pytest.mark.usefixtures("trusted")
def test_only_the_last_pieces_count_in_a_model_without_a_speaker_model(monkeypatch):
    predictor = untrained_predictor()
    monkeypatch.setattr("serx.inference.adaptation.MAX_PIECES", 3)
    found = rows(streamed(predictor, SEGMENTS, monkeypatch))
    clips = [torch.from_numpy(predictor._clip_of_segment(segment)) for segment in SEGMENTS]
    with adapted(predictor.recognizer, clips[2:]):  # the third has two pieces
        expected = predictor.recognizer.probabilities(clips[3][None], torch.tensor([len(clips[3])]))[0]
    np.testing.assert_allclose(found[3], expected.numpy(), atol=2e-5)


@pytest.mark.usefixtures("trusted")
def test_only_the_last_embeddings_count_in_a_model_with_a_speaker_model(predictor_of, monkeypatch):
    predictor = predictor_of(kind="encoder_probe")
    monkeypatch.setattr("serx.inference.adaptation.MAX_EMBEDDINGS", 2)
    found = rows(streamed(predictor, SEGMENTS[:2] + SEGMENTS[3:], monkeypatch))
    expected = rows(streamed(predictor, [SEGMENTS[1], SEGMENTS[3]], monkeypatch))
    np.testing.assert_allclose(found[2], expected[1], atol=1e-6)


def sure_of(monkeypatch, labels: list[int]) -> None:
    """Each head of the network is sure that the clips, in their order, are of these emotions."""
    logits = 30 * torch.eye(3)[labels]
    monkeypatch.setattr(EmbeddingHead, "forward", lambda _, embedding: logits[: len(embedding)] + 0 * embedding[:, :3])


def offset_and_share(predictor: Predictor, clips: list[torch.Tensor], **options) -> tuple[torch.Tensor, torch.Tensor]:
    """The offset that the speaker model infers, and what is subtracted from the embedding within the block."""
    [head], model = embedding_heads(predictor.recognizer), predictor.recognizer.speaker_model
    embedding = torch.randn(2, head[0].normalized_shape[0], generator=torch.Generator().manual_seed(1))
    inferred, read = [], []
    infer = model.infer
    object.__setattr__(model, "infer", lambda *arguments: inferred.append(infer(*arguments)) or inferred[-1])
    with adapted(predictor.recognizer, clips, **options):
        head.register_forward_pre_hook(lambda _module, inputs: read.append(inputs[0]))
        head(embedding)
    return inferred[0].offsets[0], embedding[0] - read[0][0]


@pytest.mark.parametrize(
    ("emotions", "options", "share"),
    [
        ([0, 1, 2], {}, 1.0),
        ([0, 0, 0], {}, 0.0),
        ([0, 0, 0], {"balanced": True}, 1.0),
        ([0] * 7 + [1], {}, (0.342949 - TRUST[0]) / (TRUST[1] - TRUST[0])),  # of log(3): the entropy of (1/8, 7/8)
    ],
)
def test_the_offset_of_a_speaker_counts_as_far_as_several_emotions_are_heard(
    predictor_of, monkeypatch, emotions, options, share
):
    predictor = predictor_of(kind="encoder_probe")
    sure_of(monkeypatch, emotions)
    clips = [torch.from_numpy(speechlike(0.3, 120 + 9 * i, i)) for i in range(len(emotions))]
    offset, subtracted = offset_and_share(predictor, clips, **options)
    torch.testing.assert_close(subtracted, share * offset, atol=1e-5, rtol=1e-3)


def test_a_linear_probe_takes_each_clips_own_offset_where_the_speakers_does_not_count():
    head = ClipOffsetHead(4, 2)
    for tensor in (head.means, head.between, *head.parameters()):
        tensor.data = torch.rand(tensor.shape, generator=torch.Generator().manual_seed(tensor.numel()))
    embedding, speakers = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), torch.arange(4.0)
    alone, own = head(embedding), head._own_offset(embedding)
    head.offset = speakers
    for share in (0.0, 0.25, 1.0):
        head.trust = share
        expected = head.classifier(embedding - (share * speakers + (1 - share) * own))
        torch.testing.assert_close(head(embedding), expected)
    head.trust = 0.0
    torch.testing.assert_close(head(embedding), alone, rtol=0, atol=0)


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
    without_norms = predictor_of(kind="linear_probe").recognizer
    without_norms.speaker_model = None
    with pytest.raises(ConfigError, match="has none") as caught:
        RunningAdaptation(without_norms)
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
