"""`Sequential` beside plain torch layers in a row, over time and end to end."""

import pytest
import torch
from torch import nn

from serx.config.loader import load
from serx.models.registry import build
from serx.models.sequential import Sequential, SequentialConfig, largest
from tests.test_published import PUBLISHED


def test_a_vector_passes_through_the_layers_as_published():
    """The mean of 40 MFCCs as a sequence of 40: convolution, ReLU, pooling, flattening, dense; written down by hand."""
    config = SequentialConfig(frames=1, widths=(6, 4), pools=((8, 8), (1, 1)), batch_norm=False, dense=(5,))
    model = Sequential(config, 40, 3).eval()
    first, second = (stage.conv for stage in model.stages)
    by_hand = nn.Sequential(
        first, nn.ReLU(), nn.MaxPool1d(8), second, nn.ReLU(), nn.Flatten(), model.classify[0], nn.ReLU(),
        model.classify[3],
    )  # fmt: skip
    vectors = torch.randn(7, 40, 1, generator=torch.Generator().manual_seed(0))
    expected = by_hand(vectors.transpose(1, 2))
    torch.testing.assert_close(model(vectors, torch.ones(7, dtype=torch.long)), expected)
    assert model.classify[0].in_features == 4 * 5


def test_frames_are_laid_end_to_end_row_by_row_cut_and_filled():
    model = Sequential(SequentialConfig(frames=4, widths=(2,)), 3, 2).eval()
    features = torch.arange(1.0, 19.0).view(1, 3, 6)  # rows 1-6, 7-12, 13-18
    line, places = model.read(features, torch.tensor([6]))
    assert line[0, 0].tolist() == [1, 2, 3, 4, 7, 8, 9, 10, 13, 14, 15, 16]
    assert places.tolist() == [12]
    line, _ = model.read(features[..., :3], torch.tensor([3]))
    assert line[0, 0].tolist() == [1, 2, 3, 0, 7, 8, 9, 0, 13, 14, 15, 0]


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (5, 2), (3, 2), (8, 8), (4, 3), (2, 5)])
def test_the_largest_of_every_few_places(size, stride):
    x = torch.rand(2, 3, 23, generator=torch.Generator().manual_seed(0))
    expected = [x[..., start : start + size].amax(-1) for start in range(0, 23, stride)]
    torch.testing.assert_close(largest(x, size, stride), torch.stack(expected, dim=-1))


@pytest.mark.parametrize(
    "changes",
    [{"kernels": (5, 3)}, {"kernels": (4,)}, {"pools": ((5, 2), (5, 2))}, {"dropouts": (0.1, 0.1)}, {"widths": ()}],
    ids=str,
)
def test_stages_that_do_not_fit_together_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        SequentialConfig(**{"widths": (8, 8, 8), **changes})


def test_the_large_published_net_has_its_size():
    path = next(path for path in PUBLISHED if path.stem == "three_corpora_cnn1d")
    config = load(path)
    size = sum(p.numel() for p in build(config.model, config.features.bins, 7).parameters())
    assert size / 1e6 == pytest.approx(7.2, abs=0.05)
