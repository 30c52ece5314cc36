"""Statistics over frames equal numpy's, ignore padding, and are standardized by the normalizer."""

from typing import get_args

import numpy as np
import pytest
import torch

from serx.dsp.statistics import Statistic, summarize
from serx.features import FeaturesConfig, FeatureStack, Normalizer
from tests.conftest import RATE, batched

STATISTICS = get_args(Statistic)
NUMPY = {"mean": np.mean, "std": np.std, "min": np.min, "max": np.max, "range": np.ptp, "median": np.median}


def test_each_statistic_equals_numpy_over_the_valid_frames():
    frames = torch.tensor([9, 20, 1, 24])
    features = torch.randn(4, 24, 5, generator=torch.Generator().manual_seed(0)) - 3  # zeros would be their maximum
    features *= (torch.arange(24) < frames[:, None])[..., None]
    for i, count in enumerate(frames.tolist()):
        for column, name in enumerate(STATISTICS):
            row = summarize(features, frames, STATISTICS)[i, 0, column * 5 : column * 5 + 5].numpy()
            assert np.allclose(row, NUMPY[name](features[i, :count].numpy(), axis=0), atol=1e-6), name


def test_statistics_give_one_frame_that_does_not_depend_on_other_clips(clips):
    config = FeaturesConfig(stack=("mfcc", "rms", "pitch"), deltas=1, statistics=STATISTICS)
    stack = FeatureStack(config, RATE)
    together, frames = stack(*batched(clips, extra=3000))
    assert together.shape == (len(clips), config.bins, 1)
    assert config.bins == (40 + 1 + 1) * 2 * len(STATISTICS)
    assert frames.tolist() == [1] * len(clips)
    for i, wave in enumerate(clips):
        torch.testing.assert_close(stack(*batched([wave]))[0][0], together[i], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("samples", [1, 300])
def test_statistics_of_silence_and_of_tiny_clips_are_finite(samples):
    stack = FeatureStack(FeaturesConfig(stack=("logmel", "pitch"), statistics=STATISTICS), RATE)
    assert stack(torch.zeros(2, samples), torch.tensor([samples, 1]))[0].isfinite().all()


def test_the_normalizer_standardizes_statistics(clips):
    config = FeaturesConfig(stack=("mfcc",), statistics=("mean", "range"))
    features, frames = FeatureStack(config, RATE)(*batched(clips))
    normalizer = Normalizer(config.bins, config.normalize, config.remove_level)
    normalizer.fit([(features, frames)])
    scaled = normalizer(features, frames)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(config.bins, 1), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled.std(0, correction=0), torch.ones(config.bins, 1), atol=1e-3, rtol=0)
