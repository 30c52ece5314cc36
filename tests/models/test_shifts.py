"""Predictions at several shifts: their mean, and what it is for."""

import pytest
import torch
import torch.nn.functional as F

from serx.models import Cnn1dConfig, Cnn2dConfig, MlpConfig, build_model

CNN2D = {"stem": 4, "widths": (8,), "strides": ((2, 2),), "embedding": 16}


def clips(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    frames = torch.tensor([23, 31, 40])
    features = torch.randn(3, 40, 40, generator=torch.Generator().manual_seed(seed))
    return features * (torch.arange(40) < frames[:, None])[:, None], frames


@pytest.mark.parametrize("model", [Cnn2dConfig(**CNN2D, ensemble_size=2, shared_stages=1), Cnn1dConfig(), MlpConfig()])
def test_the_log_probabilities_of_shifted_clips_are_averaged(model):
    torch.manual_seed(0)
    network = build_model(model, bins=40, classes=4).eval()
    features, frames = clips()
    expected = []
    for shift in (0, 1, 3):
        moved = torch.cat([features[..., :1].expand(-1, -1, shift), features], -1)
        expected.append(network(moved, frames + shift).log_softmax(-1))
    network.tta_shifts = (0, 1, 3)
    torch.testing.assert_close(network(features, frames), torch.stack(expected).mean(0))


def test_values_of_dimensions_are_averaged_as_they_are():
    torch.manual_seed(0)
    network = build_model(MlpConfig(), bins=40, classes=2, dimensions=1).eval()
    features, frames = clips()
    plain = torch.stack([network(F.pad(features, (n, 0), mode="replicate"), frames + n)[:, 2] for n in (0, 2)])
    network.tta_shifts = (0, 2)
    torch.testing.assert_close(network(features, frames)[:, 2], plain.mean(0))


def test_a_shift_over_all_positions_of_a_stride_changes_less():
    torch.manual_seed(0)
    network = build_model(Cnn2dConfig(**CNN2D), bins=40, classes=4).eval()
    features, frames = clips()
    later = F.pad(features, (1, 0), mode="replicate"), frames + 1

    @torch.inference_mode()
    def change() -> float:
        return float((network(features, frames).softmax(-1) - network(*later).softmax(-1)).abs().max())

    before = change()
    network.tta_shifts = (0, 1, 2, 3)  # the strides of stem and stage are two frames each
    assert change() < before / 2


def test_training_sees_no_shift():
    torch.manual_seed(0)
    network = build_model(MlpConfig(tta_shifts=(0, 2)), bins=40, classes=4).eval()
    features, frames = clips()
    plain = network.member_logits(features, frames)[:, 0]
    network.tta_shifts = (0,)
    torch.testing.assert_close(network(features, frames), plain, rtol=0, atol=0)
