"""Models of several kinds that vote: their average, the order of their labels, and what is refused."""

import pytest
import torch

from serx.config.loader import from_tree
from serx.errors import ConfigError
from serx.features.stack import FeaturesConfig
from serx.inference.adaptation import adapted
from serx.models import (
    ClassicalConfig,
    Cnn1dConfig,
    Cnn2dConfig,
    EnsembleConfig,
    VoterConfig,
    WaveformModel,
    build_model,
)
from serx.models.ensemble import Ensemble
from serx.models.layers import output_layers
from serx.recognizer import Recognizer, embeddings_of
from serx.speaker_model import SpeakerModel
from serx.testing import check_model, wake_norms
from tests.conftest import batched

WAVEFORM = FeaturesConfig(stack=("waveform",), normalize="none")
MELS = FeaturesConfig(n_mels=20, n_fft=512)
MFCC = FeaturesConfig(stack=("mfcc", "rms"), n_mfcc=12, statistics=("mean", "std"))
CNN2D = Cnn2dConfig(stem=4, widths=(8,), strides=((2, 2),), embedding=16, ensemble_size=2, tta_speeds=(0.9375, 1.125))
CNN1D = Cnn1dConfig(stem=4, widths=(8,), strides=(2,))
VOTERS = (
    VoterConfig(features=MELS, model=CNN2D, temperature=2.0, weight=3.0),
    VoterConfig(features=MELS, model=CNN1D, temperature=0.5, label_order=(2, 0, 1)),
    VoterConfig(features=MFCC, model=ClassicalConfig()),
)
LABELS = ("calm", "happy", "sad")


@pytest.fixture
def recognizer() -> Recognizer:
    """Three models with random weights and statistics."""
    torch.manual_seed(0)
    built = Recognizer(WAVEFORM, EnsembleConfig(voters=VOTERS), LABELS, 16_000)
    wake_norms(built)
    for name, tensor in built.state_dict().items():
        if name.endswith("normalizer.deviation"):
            tensor.fill_(40.0)
        elif name.endswith(".weight") and len(tensor) == len(LABELS):  # of the last layers, which begin as zeros
            tensor.copy_(0.2 * torch.randn(tensor.shape))
    return built.eval()


def voters_of(recognizer: Recognizer) -> list[WaveformModel]:
    [ensemble] = recognizer.backbone.members
    assert isinstance(ensemble, Ensemble)
    return list(ensemble.voters)


@torch.inference_mode()
def test_probabilities_are_the_weighted_geometric_mean_of_those_of_the_voters(recognizer, clips):
    waveform, lengths = batched(clips)
    product = 1.0
    for voter, config, share in zip(voters_of(recognizer), VOTERS, (0.6, 0.2, 0.2), strict=True):
        probabilities = (voter(waveform, lengths) / config.temperature).softmax(-1)
        product = product * probabilities[:, list(config.label_order or (0, 1, 2))] ** share
    expected = product / product.sum(-1, keepdim=True)
    assert (expected.std(0) > 1e-3).all()
    torch.testing.assert_close(recognizer.probabilities(waveform, lengths), expected, rtol=0, atol=1e-6)


@torch.inference_mode()
def test_each_voter_computes_what_it_computes_alone(recognizer, clips):
    waveform, lengths = batched(clips)
    for voter, config in zip(voters_of(recognizer), VOTERS, strict=True):
        alone = Recognizer(config.features, config.model, LABELS, 16_000).eval()
        alone.load_state_dict(voter.state_dict())
        assert torch.equal(alone(waveform, lengths), voter(waveform, lengths))


def test_an_ensemble_depends_neither_on_padding_nor_on_other_clips(recognizer):
    check_model(recognizer.backbone, bins=1, classes=3, frames=(9000, 5200, 12_000, 3000), tolerance=1e-4)


def test_the_sizes_of_an_ensemble_are_known_without_memory():
    with torch.device("meta"):
        backbone = build_model(EnsembleConfig(voters=VOTERS), bins=1, classes=3)
    assert all(tensor.is_meta for tensor in backbone.state_dict().values())
    shapes = {name: tensor.shape for name, tensor in backbone.state_dict().items()}
    real = build_model(EnsembleConfig(voters=VOTERS), bins=1, classes=3)
    assert shapes == {name: tensor.shape for name, tensor in real.state_dict().items()}
    real(torch.randn(2, 1, 8000), torch.tensor([8000, 7000]))  # no constant was made without memory and kept


@pytest.mark.usefixtures("trusted")
@torch.inference_mode()
def test_each_voter_is_adapted_as_it_would_be_alone(recognizer, clips):
    waveform, lengths = batched(clips)
    waves = [row[:length] for row, length in zip(waveform, lengths, strict=True)]
    plain, product = recognizer.probabilities(waveform, lengths), 1.0
    for voter, config, share in zip(voters_of(recognizer), VOTERS, (0.6, 0.2, 0.2), strict=True):
        voter.speaker_model = SpeakerModel(voter(waveform, lengths)[:3], torch.full((3,), 0.5))
        logits = voter(waveform, lengths)
        read = embeddings_of(recognizer, output_layers(voter), [(waveform, lengths)])
        embeddings = torch.cat([logits[:, :0], *read], 1)
        adjustment = voter.speaker_model.infer(logits, config.temperature, embeddings)
        logits = adjustment.apply(logits, embeddings)
        probabilities = (logits / config.temperature).softmax(-1)
        product = product * probabilities[:, list(config.label_order or (0, 1, 2))] ** share
    with adapted(recognizer, waves):
        found = recognizer.probabilities(waveform, lengths)
    torch.testing.assert_close(found, product / product.sum(-1, keepdim=True), rtol=0, atol=1e-5)
    assert (found - plain).abs().max() > 1e-3


@pytest.mark.parametrize("order", [(0, 1), (0, 1, 1), (0, 1, 3), (1, 2, 3)])
def test_a_label_order_that_is_no_permutation_of_the_labels_is_refused(order):
    voters = (VOTERS[0], VoterConfig(features=MELS, model=CNN1D, label_order=order))
    with pytest.raises(ConfigError, match="label_order does not list each of the 3 labels once"):
        build_model(EnsembleConfig(voters=voters), bins=1, classes=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"voters": VOTERS[:1]}, "at least 2"),
        ({"voters": VOTERS * 6}, "at most 16"),
        ({"tta_speeds": (0.9, 1.0)}, "settings of each voter"),
        ({"ensemble_size": 2}, "settings of each voter"),
        ({"relaxed_freq_norm": 0.5}, "settings of each voter"),
        ({"voters": ({"model": {"kind": "ensemble", "voters": VOTERS}}, VOTERS[0])}, "cannot vote in another one"),
        ({"voters": (VOTERS[0], {"model": CNN1D, "weight": 0.0})}, "greater than 0"),
        ({"voters": (VOTERS[0], {"model": CNN1D, "temperature": 0.0})}, "greater than 0.01"),
        ({"voters": (VOTERS[0], {"model": {"kind": "no such"}})}, "unknown model kind 'no such'; known kinds"),
    ],
)
def test_a_wrong_ensemble_is_refused_with_a_reason(change, message):
    with pytest.raises(ValueError, match=message):
        EnsembleConfig(**{"voters": VOTERS, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": {"stack": ("logmel",)}}, r"model\.kind ensemble reads waveforms"),
        ({"data": {"root": "x", "sample_rate": 8000}}, r"data\.sample_rate is 8000, but model\.sample_rate is 16000"),
        ({"model": {"kind": "ensemble", "voters": ({"model": {"kind": "speech_encoder"}}, VOTERS[0])}},
         r"model\.voters: model\.kind speech_encoder reads waveforms"),
    ],
)  # fmt: skip
def test_settings_that_contradict_an_ensemble_are_named(change, message):
    tree = {
        "data": {"root": "x"},
        "features": WAVEFORM.model_dump(),
        "model": EnsembleConfig(voters=VOTERS).model_dump(),
    }
    assert from_tree(tree, source="test").model.voters == VOTERS
    with pytest.raises(ConfigError, match=message):
        from_tree({**tree, **change}, source="test")
