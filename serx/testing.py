"""Checks for parts of your own: does a clip's result depend on its padding, or on the other clips of its batch?

    check_model        a network, or the config of a registered kind
    check_feature      a feature by name, a config of several, or a module
    check_transform    an augmentation, which must also be the identity at `p=0` and repeat its random draws

A model or feature that averages over padding works in training and fails quietly in use, where batches look different.
Call these in your own tests; each raises an AssertionError that says what depends on what, and by how much.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from serx.augment.checks import check_transform
from serx.features.stack import FeaturesConfig, FeatureStack
from serx.models.backbone import build_model
from serx.models.registry import BaseModelConfig

__all__ = ["check_feature", "check_model", "check_transform", "wake_norms"]

TOLERANCE = 1e-5  # of differences, relative to values above 1
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def check_model(
    model: nn.Module | BaseModelConfig,
    bins: int = 64,
    classes: int = 4,
    frames: Sequence[int] = (61, 17, 1, 100, 96),
    tolerance: float = TOLERANCE,
) -> None:
    """Checks that the logits of a clip depend neither on its padding nor on the other clips of its batch.

    The check runs a copy in evaluation mode, with random biases and running statistics in its norm layers, as a
    trained network has: with the zeros of a new network a leak of padding stays hidden.

    Args:
        model: a module `features (B, F, N), frames (B,) -> logits (B, C)`, or the config of a registered kind.
        bins: the number F of feature rows; 1 for a model that reads waveforms.
        classes: the number C of classes.
        frames: the lengths of the clips to try.
        tolerance: the largest difference allowed, relative to logits above 1.

    Raises:
        AssertionError: the logits depend on padding, on other clips, or not on the features at all; or have another
            shape than `(B, C)`.

    >>> from serx.models import Cnn1dConfig
    >>> check_model(Cnn1dConfig(stem=4, widths=(8,), strides=(2,)))
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build_model(model, bins, classes) if isinstance(model, BaseModelConfig) else deepcopy(model)
        wake_norms(module)
        counts = torch.tensor(frames)
        features = torch.randn(len(frames), bins, max(frames) + 30)
    features = features * (torch.arange(features.shape[-1]) < counts[:, None])[:, None]
    name = type(model).__name__
    module.eval()
    with torch.inference_mode():
        together = module(features, counts)
        assert together.shape == (len(frames), classes), (
            f"{name}: the logits have shape {tuple(together.shape)}; {(len(frames), classes)} is expected"
        )
        scale = max(1.0, float(together.abs().max()))
        assert together.std(0).max() > 10 * tolerance * scale, (
            f"{name}: the logits are the same for every clip, so nothing can be checked; "
            "give the last layer weights that are not zero"
        )
        for i, count in enumerate(frames):
            clip, length = features[i : i + 1], counts[i : i + 1]
            alone, padded = module(clip[..., :count], length), module(clip, length)
            _assert_close(alone, padded, tolerance, name, f"a clip of {count} frames", _by_padding(clip, count))
            _assert_close(padded, together[i : i + 1], tolerance, name, f"a clip of {count} frames", _BY_NEIGHBORS)


def check_feature(
    feature: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | FeaturesConfig | str,
    lengths: Sequence[int] = (9600, 16_000, 5920, 400, 20_960),
    tolerance: float = TOLERANCE,
    sample_rate: int = 16_000,
) -> None:
    """Checks that the features of a clip depend neither on its padding nor on other clips, and end with it.

    Args:
        feature: the name of a registered feature, a config of several, or any callable
            `waveform (B, T), lengths (B,) -> features (B, F, N), frames (B,)`.
        lengths: of the clips to try, in samples.
        tolerance: the largest difference allowed, relative to the largest magnitude above 1.
        sample_rate: for names and configs, in Hz.

    Raises:
        AssertionError: the features or their frames depend on padding or on other clips, or are not zero beyond the
            clip's frames.

    >>> check_feature("zcr")
    >>> check_feature(FeaturesConfig(stack=("zcr", "rms"), deltas=1))
    """
    if isinstance(feature, str):
        return check_feature(FeaturesConfig(stack=(feature,)), lengths, tolerance, sample_rate)
    if isinstance(feature, FeaturesConfig):
        name = " + ".join(feature.stack)
        feature = FeatureStack(feature, sample_rate)
    else:
        name = type(feature).__name__
    counts = torch.tensor(lengths)
    waveform = 0.1 * torch.randn(len(lengths), max(lengths) + 4000, generator=torch.Generator().manual_seed(0))
    waveform = waveform * torch.logspace(-2, 0, len(lengths))[:, None]  # one clip is far louder than the others
    waveform = waveform * (torch.arange(waveform.shape[1]) < counts[:, None])
    with torch.inference_mode():
        together, frames = feature(waveform, counts)
        for i, length in enumerate(lengths):
            subject = f"a clip of {length} samples"
            clip, count, n = waveform[i : i + 1], counts[i : i + 1], int(frames[i])
            alone, frames_alone = feature(clip[:, :length], count)
            padded, frames_padded = feature(clip, count)
            assert int(frames_alone[0]) == int(frames_padded[0]) == n, (
                f"{name}: {subject} has {int(frames_alone[0])} frames alone, {int(frames_padded[0])} with padding and "
                f"{n} in a batch; compute frames from lengths"
            )
            assert not together[i, :, n:].any(), f"{name}: {subject} is not zero beyond its {n} frames; mask the result"
            kept = padded[..., :n]
            _assert_close(alone[..., :n], kept, tolerance, name, subject, _by_padding(clip, length), "features")
            _assert_close(kept, together[i : i + 1, :, :n], tolerance, name, subject, _BY_NEIGHBORS, "features")


def wake_norms(module: nn.Module) -> None:
    """In place: gives norm layers random biases and running means, as training does.

    >>> norm = nn.BatchNorm1d(3)
    >>> wake_norms(norm)
    >>> bool(norm.bias.min() > 0)
    True
    """
    for layer in module.modules():
        if isinstance(layer, NORMS) and layer.bias is not None:
            nn.init.uniform_(layer.bias, 0.2, 1.0)
        if isinstance(layer, nn.modules.batchnorm._NormBase) and layer.running_mean is not None:
            nn.init.uniform_(layer.running_mean, -1.0, 1.0)


_BY_NEIGHBORS = (
    "other clips were in the batch: it depends on its neighbors; take no statistic and no maximum over the batch"
)


def _by_padding(clip: Tensor, length: int) -> str:
    zeros = clip.shape[-1] - length
    return f"{zeros} zeros were appended: it depends on its padding; mask each layer's input by its length (time_mask)"


def _assert_close(
    before: Tensor, after: Tensor, tolerance: float, name: str, subject: str, cause: str, what: str = "logits"
) -> None:
    difference = float((before - after).abs().max()) if before.numel() else 0.0
    allowed = tolerance * max(1.0, float(before.abs().max())) if before.numel() else tolerance
    assert difference <= allowed, f"{name}: the {what} of {subject} changed by {difference:.2g} when {cause}"
