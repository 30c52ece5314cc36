"""`Sequential` against plain torch layers, over time and on flattened frames."""

import pytest
import torch
from torch import nn

from serx.config.loader import load_config
from serx.models.backbone import build_model
from serx.models.sequential import Sequential, SequentialConfig, max_pool
from tests.test_published import PUBLISHED


def test_a_vector_passes_through_the_published_layers():
    """The mean of 40 MFCCs as a sequence of 40 values: convolution, ReLU, pooling, flattening, dense layers."""
    config = SequentialConfig(frames=1, widths=(6, 4), pools=((8, 8), (1, 1)), batch_norm=False, dense=(5,))
    model = Sequential(config, 40, 3).eval()
    first, second = (stage.conv for stage in model.stages)
    published = nn.Sequential(
        first, nn.ReLU(), nn.MaxPool1d(8), second, nn.ReLU(), nn.Flatten(), model.classifier[0], nn.ReLU(),
        model.classifier[3],
    )  # fmt: skip
    vectors = torch.randn(7, 40, 1, generator=torch.Generator().manual_seed(0))
    expected = published(vectors.transpose(1, 2))
    torch.testing.assert_close(model(vectors, torch.ones(7, dtype=torch.long)), expected)
    assert model.classifier[0].in_features == 4 * 5


def test_frames_are_flattened_row_after_row_and_cut_or_filled_to_a_fixed_number():
    model = Sequential(SequentialConfig(frames=4, widths=(2,)), 3, 2).eval()
    features = torch.arange(1.0, 19.0).view(1, 3, 6)  # rows 1-6, 7-12, 13-18
    sequence, lengths = model.layout(features, torch.tensor([6]))
    assert sequence[0, 0].tolist() == [1, 2, 3, 4, 7, 8, 9, 10, 13, 14, 15, 16]
    assert lengths.tolist() == [12]
    sequence, _ = model.layout(features[..., :3], torch.tensor([3]))
    assert sequence[0, 0].tolist() == [1, 2, 3, 0, 7, 8, 9, 0, 13, 14, 15, 0]


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (5, 2), (3, 2), (8, 8), (4, 3), (2, 5)])
def test_max_pooling_takes_the_maximum_of_each_window_with_a_partial_last_one(size, stride):
    x = torch.rand(2, 3, 23, generator=torch.Generator().manual_seed(0))
    expected = [x[..., start : start + size].amax(-1) for start in range(0, 23, stride)]
    torch.testing.assert_close(max_pool(x, size, stride), torch.stack(expected, dim=-1))


@pytest.mark.parametrize(
    "changes",
    [{"kernels": (5, 3)}, {"kernels": (4,)}, {"pools": ((5, 2), (5, 2))}, {"dropouts": (0.1, 0.1)}, {"widths": ()}],
    ids=str,
)
def test_lists_that_do_not_fit_the_number_of_stages_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        SequentialConfig(**{"widths": (8, 8, 8), **changes})


def test_the_published_network_of_three_corpora_has_7_million_parameters():
    path = next(path for path in PUBLISHED if path.stem == "three_corpora_cnn1d")
    config = load_config(path)
    size = sum(p.numel() for p in build_model(config.model, config.features.bins, 7).parameters())
    assert size / 1e6 == pytest.approx(7.2, abs=0.05)
