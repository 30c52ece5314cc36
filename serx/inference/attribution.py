"""How much each part of a clip raises the log-probability of an emotion, in nats, or the rating on a dimension.

Where the model reads features of frames, by *integrated gradients* (Sundararajan et al. 2017, "Axiomatic attribution
for deep networks"). The network's input goes on a straight line from a baseline to the clip. The gradient of the
emotion's log-probability, averaged over the line and multiplied by the difference to the baseline, is the saliency of
each mel band in each frame, in nats. All of it adds up to the log-probability of the clip minus that of the baseline
(completeness), except for the error of the numerical integral, which is reported. The predicted rating on a dimension
such as arousal is explained in the same way, in units of the rating. The baseline is zero at the input of the network,
behind the normalizer: with `features.normalize: training` the mean spectrum of the training speakers, with
`clip` that of the clip.

Other models (of waveforms, of statistics, ensembles of checkpoints, models without a gradient) are explained over time
only, by *occlusion* (Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks"): how far the
log-probability falls when the 0.2 s around a moment are silenced.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from serx.dsp.resampling import RATIO_STEPS
from serx.models.backbone import split_outputs
from serx.recognizer import Recognizer

STEPS = 128  # points of the integral
POWER = 3  # of the substitution that moves these points toward the baseline
MAX_ROWS = 8  # clips per batch; more of them leave a CPU's cache
OCCLUSION_STEP_SECONDS = 0.1  # from one silenced stretch, which is twice as long, to the next
MAX_OCCLUSIONS = 100  # of a clip of more than 10 s there are fewer and longer ones
FADE_SECONDS = 0.01  # at both ends of what is silenced, so that it makes no click


class IntegratedGradients(NamedTuple):
    """Attributions of B clips.

    Attributes:
        saliency: `(B, F, N)`, of each row of the network's input, zero beyond the clip.
        value: `(B,)`, the log-probability, or the rating, of the clip.
        baseline_value: `(B,)`, that of the baseline.
    """

    saliency: Tensor
    value: Tensor
    baseline_value: Tensor


def integrated_gradients(
    recognizer: Recognizer, waveform: Tensor, lengths: Tensor, targets: Tensor, steps: int = STEPS
) -> IntegratedGradients | None:
    """Attributes a log-probability or a rating, that of `targets (B,)`, to the features that the network reads.

    At several test-time speeds the saliencies of all of them are added, each frame where it lies in the clip. Whatever
    adjusts the logits (temperature, speaker adaptation) is part of the function that is explained.

    Args:
        recognizer: in evaluation mode; its features must have frames.
        waveform: `(B, T)`, zero beyond `lengths (B,)` samples.
        lengths: of the clips.
        targets: indices of classes; from C on, of dimensions.
        steps: points of the Gauss-Legendre quadrature.

    Returns:
        None if the network has no gradient.

    >>> from serx.features.stack import FeaturesConfig
    >>> from serx.models import Cnn1dConfig
    >>> recognizer = Recognizer(FeaturesConfig(), Cnn1dConfig(), ("angry", "happy"), 16_000).eval()
    >>> result = integrated_gradients(recognizer, torch.randn(1, 8000), torch.tensor([8000]), torch.tensor([1]))
    >>> bool(torch.allclose(result.saliency.sum((1, 2)), result.value - result.baseline_value, atol=1e-3))
    True
    """
    inputs: list[Tensor] = []

    def keep(read: Tensor) -> Tensor:
        inputs.append(read)
        return read

    with torch.no_grad():
        with _network_input(recognizer, keep):
            value = _output(recognizer, waveform, lengths, targets)
        with _network_input(recognizer, torch.zeros_like):
            baseline_value = _output(recognizer, waveform, lengths, targets)
    totals = [torch.zeros_like(read) for read in inputs]
    size = max(1, MAX_ROWS // len(waveform))
    for scales, share in zip(*(numbers.to(waveform).split(size) for numbers in _quadrature(steps)), strict=True):
        points = [(scales[:, None, None, None] * read).flatten(0, 1).requires_grad_() for read in inputs]
        with_gradient = partial(_next_copy, iter(points))
        with (
            torch.enable_grad(),
            torch.backends.cudnn.flags(enabled=False),  # cuDNN's recurrent layers have no gradient in evaluation mode
            _network_input(recognizer, with_gradient),
        ):
            values = _output(recognizer, waveform, lengths, targets.repeat(len(scales)))
        if not values.requires_grad:
            return None
        gradients = torch.autograd.grad(values, points, share.repeat_interleave(len(waveform)), materialize_grads=True)
        for total, gradient in zip(totals, gradients, strict=True):
            total.add_(gradient.unflatten(0, (len(scales), -1)).sum(0))
    frames = 1 + waveform.shape[1] // recognizer.features.config.hop_length
    saliencies = [
        _at_recorded_speed(total * read, speed / RATIO_STEPS, frames)
        for total, read, speed in zip(totals, inputs, recognizer.tta_speeds, strict=True)
    ]
    return IntegratedGradients(torch.stack(saliencies).sum(0), value, baseline_value)


def _quadrature(steps: int) -> tuple[Tensor, Tensor]:
    """Points in (0, 1) and weights `(steps,)` of an integral over [0, 1], dense near 0.

    Where features are divided by their deviation over the clip, the network changes most close to the baseline. With
    x = u^3 the Gauss-Legendre points in u lie there; dx = 3 u^2 du.
    """
    places, weights = np.polynomial.legendre.leggauss(steps)
    u = torch.from_numpy(places + 1) / 2
    return u**POWER, POWER * u ** (POWER - 1) * torch.from_numpy(weights) / 2


def occlusion(
    recognizer: Recognizer, waveform: Tensor, targets: Tensor, seconds: np.ndarray
) -> tuple[np.ndarray, float]:
    """How far the log-probability of a class, or a rating, falls when a stretch of the clip is silenced.

    Args:
        recognizer: in evaluation mode.
        waveform: `(1, T)`.
        targets: `(1,)`, the class; from C on, a dimension.
        seconds: `(N,)`, the moments to report.

    Returns:
        The falls `(N,)`, interpolated between stretches; and the log-probability, or the rating, of the clip.
    """
    size = waveform.shape[1]
    count = max(1, min(MAX_OCCLUSIONS, round(size / recognizer.sample_rate / OCCLUSION_STEP_SECONDS)))
    step = size / count
    centers = (torch.arange(count, device=waveform.device) + 0.5) * step
    samples = torch.arange(size, device=waveform.device)
    fade = max(1.0, FADE_SECONDS * recognizer.sample_rate)
    values = []
    with torch.no_grad():
        value = float(_output(recognizer, waveform, _whole(waveform), targets))
        for part in centers.split(MAX_ROWS):
            gate = ((samples - part[:, None]).abs().sub(step).div(fade)).clamp(0, 1)
            silenced = waveform * gate
            values.append(_output(recognizer, silenced, _whole(silenced), targets.repeat(len(part))))
    falls = (value - torch.cat(values)).double().cpu().numpy()
    return np.interp(seconds, centers.cpu().numpy() / recognizer.sample_rate, falls), value


def _whole(waveform: Tensor) -> Tensor:
    """`(B,)` lengths of clips that have all samples of `waveform (B, T)`."""
    return torch.full((len(waveform),), waveform.shape[1], device=waveform.device)


def _output(recognizer: Recognizer, waveform: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
    """`(B,)`: log-probabilities in nats, or ratings."""
    logits, values = split_outputs(recognizer(waveform, lengths), len(recognizer.dimensions))
    outputs = (logits / recognizer.temperature).log_softmax(-1)
    if recognizer.dimensions:
        outputs = torch.cat([outputs, recognizer.ratings(values)], -1)
    return outputs.gather(1, targets[:, None])[:, 0]


@contextmanager
def _network_input(recognizer: Recognizer, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within the block the network reads `change(features)`, `(K * B, F, N)` for the features `(B, F, N)`.

    It is called once per test-time speed. The recognizer is called as ever, so that its own hooks take part.
    """

    def hook(_module: nn.Module, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        features, frames = inputs
        changed = change(features)
        return changed, frames.repeat(len(changed) // len(features))

    handle = recognizer.backbone.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _next_copy(points: Iterator[Tensor], _features: Tensor) -> Tensor:
    """The next of `points`, copied, since a network may change its input in place."""
    return next(points).clone()


def _at_recorded_speed(saliency: Tensor, speed: float, frames: int) -> Tensor:
    """`(B, F, N')` of a clip played at `speed` as `(B, F, frames)`: each frame is shared by its two neighbors."""
    places = (torch.arange(saliency.shape[-1], device=saliency.device) * speed).clamp(max=frames - 1)
    below = places.floor().long()
    share = places - below
    result = saliency.new_zeros(*saliency.shape[:-1], frames)
    result.index_add_(-1, below, saliency * (1 - share))
    return result.index_add_(-1, (below + 1).clamp(max=frames - 1), saliency * share)
