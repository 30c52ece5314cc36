"""Which moments and frequencies of a clip a prediction rests on.

Where the model reads features of frames, by *integrated gradients* (Sundararajan et al. 2017, "Axiomatic attribution
for deep networks"). The network's input goes on a straight line from a baseline to the clip. The gradient of the
emotion's log-probability, averaged over the line and multiplied by the difference to the baseline, is the saliency of
each mel band in each frame, in nats. All of it adds up to the log-probability of the clip minus that of the baseline
(completeness), except for the error of the numerical integral, which is reported. The baseline is zero at the input of
the network, behind the normalizer: with `features.normalize: training` the mean spectrum of the training speakers, with
`clip` that of the clip.

Other models (of waveforms, of statistics, ensembles of checkpoints, models without a gradient) are explained over time
only, by *occlusion* (Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks"): how far the
log-probability falls when the 0.2 s around a moment are silenced.
"""

import difflib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from serx.data.audio import StrPath
from serx.dsp.mel import mel_centers
from serx.dsp.resampling import RATIO_STEPS
from serx.errors import ConfigError, DiskError
from serx.features.registry import WAVEFORM, get_feature
from serx.features.stack import FeaturesConfig, FeatureStack
from serx.files import why_not_written, write_atomically
from serx.recognizer import Recognizer
from serx.terminal import printable

if TYPE_CHECKING:
    from serx.inference.predictor import Prediction
    from serx.plots.style import Figure

Method = Literal["integrated_gradients", "occlusion"]

STEPS = 128  # points of the integral
MAX_STEPS = 1024
POWER = 3  # of the substitution that moves these points toward the baseline
MAX_ROWS = 8  # clips per batch; more of them leave a CPU's cache
OCCLUSION_STEP_SECONDS = 0.1  # from one silenced stretch, which is twice as long, to the next
MAX_OCCLUSIONS = 100  # of a clip of more than 10 s there are fewer and longer ones
FADE_SECONDS = 0.01  # at both ends of what is silenced, so that it makes no click
PART_SECONDS = 0.25  # of a recording, for the list of its strongest parts
MEL_FEATURES = ("mel", "logmel")  # features whose rows are mel bands


@dataclass(frozen=True, eq=False)
class Explanation:
    """What one emotion's log-probability rests on; N frames, F mel bands.

    Attributes:
        prediction: of the clip.
        emotion: whose log-probability is explained.
        method: `integrated_gradients`, or `occlusion`, which has no bands.
        seconds: `(N,)`, the middle of each frame from the start of the recording.
        hertz: `(F,)`, the center of each mel band.
        spectrogram: `(F, N)` in dB.
        saliency: `(F, N)` in nats, above zero where the clip raises the log-probability; None with occlusion.
        frame_saliency: `(N,)` in nats: of all features of a frame; with occlusion, how far the log-probability falls
            when the stretch around the frame is silenced.
        feature_saliency: the sum over the clip for each feature of the model's stack; empty with occlusion.
        log_probability: of `emotion` for the clip, in nats.
        baseline_log_probability: of `emotion` for the baseline; None with occlusion.
        completeness_error: what the saliency adds up to, minus `log_probability - baseline_log_probability`, in nats;
            None with occlusion.

    >>> from serx.config import from_tree
    >>> from serx.inference.predictor import Predictor
    >>> config = from_tree({"data": {"root": "."}, "model": {"kind": "cnn1d"}}, source="example")
    >>> recognizer = Recognizer(config.features, config.model, ("angry", "happy"), config.data.sample_rate)
    >>> explanation = Predictor(recognizer, config).explain(np.sin(np.arange(16_000) / 20), 16_000, emotion="happy")
    >>> explanation.saliency.shape, float(explanation.seconds[-1]), abs(explanation.completeness_error) < 0.01
    ((64, 63), 0.992, True)
    """

    prediction: "Prediction"
    emotion: str
    method: Method
    seconds: np.ndarray
    hertz: np.ndarray
    spectrogram: np.ndarray
    saliency: np.ndarray | None
    frame_saliency: np.ndarray
    feature_saliency: dict[str, float]
    log_probability: float
    baseline_log_probability: float | None = None
    completeness_error: float | None = None

    @property
    def band_saliency(self) -> np.ndarray | None:
        """`(F,)` in nats: the sum over the frames; None with occlusion, or if no feature has mel bands."""
        return None if self.saliency is None else self.saliency.sum(1)

    def as_dict(self) -> dict[str, Any]:
        """All but the spectrogram, as JSON can hold it: a list of frames and one of bands."""
        bands = self.band_saliency
        return {
            "path": None if self.prediction.path is None else str(self.prediction.path),
            "emotion": self.emotion,
            "method": self.method,
            "log_probability": self.log_probability,
            "baseline_log_probability": self.baseline_log_probability,
            "completeness_error": self.completeness_error,
            "features": self.feature_saliency,
            "frames": _records("seconds", self.seconds, self.frame_saliency),
            "bands": None if bands is None else _records("hertz", self.hertz, bands),
            "prediction": self.prediction.as_dict(),
        }

    def figure(self) -> "Figure":
        """The spectrogram with the saliency over it, and the saliency of each frame."""
        from serx.plots.explanation import saliency_figure  # noqa: PLC0415 - matplotlib, which no prediction needs

        name = printable(self.prediction.path.name) if self.prediction.path else "samples"
        title = f"{name}: saliency for {self.emotion} ({100 * math.exp(self.log_probability):.0f} %)"
        if self.completeness_error is None:
            note = "red: silencing the moment makes the emotion less probable"
        else:
            note = (
                f"red raises its log-probability, blue lowers it; completeness error {self.completeness_error:.3f} nats"
            )
        return saliency_figure(
            self.spectrogram, self.saliency, self.frame_saliency, self.seconds, self.hertz, title, note
        )

    def write(self, folder: StrPath) -> list[Path]:
        """Writes saliency.png, saliency.json and saliency.csv into `folder`, which is made if need be.

        Raises:
            DiskError: a file cannot be written.
        """
        from serx.plots.style import figure_png  # noqa: PLC0415 - matplotlib, which no prediction needs

        contents = {
            "saliency.png": figure_png(self.figure()),
            "saliency.json": f"{json.dumps(self.as_dict(), indent=1)}\n".encode(),
            "saliency.csv": self.csv().encode(),
        }
        out = Path(folder)
        try:
            out.mkdir(parents=True, exist_ok=True)
            for name, content in contents.items():
                write_atomically(out / name, content)
        except OSError as error:
            reason = f"{why_not_written(error, out)}, or choose another folder"
            raise DiskError(f"cannot write the explanation into {out}: {reason}") from error
        return [out / name for name in contents]

    def strongest_parts(self) -> list[tuple[float, float, float]]:
        """The start, the end (s) and the saliency (nats) of the quarters of a second that speak most for the emotion.

        At most three, the strongest first, and only such with a positive saliency.
        """
        if len(self.seconds) < 2:
            return []
        hop = float(self.seconds[1] - self.seconds[0])
        size = max(1, round(PART_SECONDS / hop))
        combine = np.add if self.method == "integrated_gradients" else np.maximum
        values = combine.reduceat(self.frame_saliency, np.arange(0, len(self.seconds), size))
        first = float(self.seconds[0])
        ranked = [int(i) for i in np.argsort(-values, kind="stable")[:3] if values[i] > 0]
        last = float(self.seconds[-1])
        return [(first + i * size * hop, min(first + (i + 1) * size * hop, last), float(values[i])) for i in ranked]

    def csv(self) -> str:
        """A row a frame: its seconds, its saliency, and that of each band, whose column is its center in hertz."""
        columns = [self.seconds, self.frame_saliency, *([] if self.saliency is None else self.saliency)]
        header = ["seconds", "saliency", *([] if self.saliency is None else (f"{hertz:.1f}" for hertz in self.hertz))]
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return "".join(f"{','.join(row)}\n" for row in [header, *([f"{cell:.6g}" for cell in row] for row in rows)])


def _records(name: str, places: np.ndarray, values: np.ndarray) -> list[dict[str, float]]:
    return [
        {name: round(place, 4), "saliency": value}
        for place, value in zip(places.tolist(), values.tolist(), strict=True)
    ]


def explain_clip(
    recognizer: Recognizer,
    clip: np.ndarray,
    prediction: "Prediction",
    emotion: str | None = None,
    start: float = 0.0,
    steps: int = STEPS,
) -> Explanation:
    """Explains the prediction of one clip.

    Args:
        recognizer: in evaluation mode.
        clip: `(T,)` float32 at the recognizer's rate.
        prediction: of the clip.
        emotion: one of the recognizer's labels; default: the most probable one.
        start: seconds before the clip in its recording.
        steps: points of the integral.

    Raises:
        ConfigError: the recognizer has no such emotion, or `steps` is out of range.
    """
    if not 1 <= steps <= MAX_STEPS:
        raise ConfigError(f"steps {steps}: give a number from 1 to {MAX_STEPS}")
    if recognizer.dimensions:
        raise ConfigError("an explanation is of the probability of an emotion, and this model predicts dimensions")
    target = _index_of(recognizer.labels, prediction, emotion)
    device = _device(recognizer)
    waveform, lengths = torch.from_numpy(clip)[None].to(device), torch.tensor([len(clip)], device=device)
    picture = _picture_features(recognizer)
    with torch.no_grad():
        spectrogram = picture(waveform, lengths)[0][0].cpu().numpy()
    seconds = np.arange(spectrogram.shape[1]) * picture.config.hop_length / recognizer.sample_rate
    known = {
        "prediction": prediction,
        "emotion": recognizer.labels[target],
        "seconds": start + seconds,
        "hertz": mel_centers(picture.scale).numpy(),
        "spectrogram": spectrogram,
    }
    config, targets = recognizer.features.config, torch.tensor([target], device=device)
    result = None
    if config.stack != (WAVEFORM,) and not config.statistics:
        result = integrated_gradients(recognizer, waveform, lengths, targets, steps)
    if result is None:
        drops, value = occlusion(recognizer, waveform, targets, seconds)
        return Explanation(
            method="occlusion",
            saliency=None,
            frame_saliency=drops,
            feature_saliency={},
            log_probability=value,
            **known,
        )
    of_rows = result.saliency[0].double().cpu().numpy()
    names = _feature_of_each_row(config)
    bands = sum(of_rows[rows] for name, rows in names if name in MEL_FEATURES)
    features = dict.fromkeys(config.stack, 0.0)
    for name, rows in names:
        features[name] += float(of_rows[rows].sum())
    return Explanation(
        method="integrated_gradients",
        saliency=bands if isinstance(bands, np.ndarray) else None,
        frame_saliency=of_rows.sum(0),
        feature_saliency=features,
        log_probability=float(result.value),
        baseline_log_probability=float(result.baseline_value),
        completeness_error=float(of_rows.sum() - (result.value - result.baseline_value)),
        **known,
    )


class IntegratedGradients(NamedTuple):
    """Attributions of B clips.

    Attributes:
        saliency: `(B, F, N)`, of each row of the network's input, zero beyond the clip.
        value: `(B,)`, the log-probability of the clip.
        baseline_value: `(B,)`, that of the baseline.
    """

    saliency: Tensor
    value: Tensor
    baseline_value: Tensor


def integrated_gradients(
    recognizer: Recognizer, waveform: Tensor, lengths: Tensor, targets: Tensor, steps: int = STEPS
) -> IntegratedGradients | None:
    """Attributes the log-probability of the class `targets (B,)` to the features that the network reads.

    At several test-time speeds the saliencies of all of them are added, each frame where it lies in the clip. Whatever
    adjusts the logits (temperature, speaker adaptation) is part of the function that is explained.

    Args:
        recognizer: in evaluation mode; its features must have frames.
        waveform: `(B, T)`, zero beyond `lengths (B,)` samples.
        lengths: of the clips.
        targets: class indices.
        steps: points of the Gauss-Legendre quadrature.

    Returns:
        None if the network has no gradient.

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
            value = _log_probability(recognizer, waveform, lengths, targets)
        with _network_input(recognizer, torch.zeros_like):
            baseline_value = _log_probability(recognizer, waveform, lengths, targets)
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
            values = _log_probability(recognizer, waveform, lengths, targets.repeat(len(scales)))
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
    """How far the log-probability of a class falls when a stretch of the clip is silenced.

    Args:
        recognizer: in evaluation mode.
        waveform: `(1, T)`.
        targets: `(1,)`, the class.
        seconds: `(N,)`, the moments to report.

    Returns:
        The falls `(N,)` in nats, interpolated between stretches; and the log-probability of the clip.
    """
    size = waveform.shape[1]
    count = max(1, min(MAX_OCCLUSIONS, round(size / recognizer.sample_rate / OCCLUSION_STEP_SECONDS)))
    step = size / count
    centers = (torch.arange(count, device=waveform.device) + 0.5) * step
    samples = torch.arange(size, device=waveform.device)
    fade = max(1.0, FADE_SECONDS * recognizer.sample_rate)
    values = []
    with torch.no_grad():
        value = float(_log_probability(recognizer, waveform, _whole(waveform), targets))
        for part in centers.split(MAX_ROWS):
            gate = ((samples - part[:, None]).abs().sub(step).div(fade)).clamp(0, 1)
            silenced = waveform * gate
            values.append(_log_probability(recognizer, silenced, _whole(silenced), targets.repeat(len(part))))
    falls = (value - torch.cat(values)).double().cpu().numpy()
    return np.interp(seconds, centers.cpu().numpy() / recognizer.sample_rate, falls), value


def _whole(waveform: Tensor) -> Tensor:
    """`(B,)` lengths of clips that have all samples of `waveform (B, T)`."""
    return torch.full((len(waveform),), waveform.shape[1], device=waveform.device)


def _log_probability(recognizer: Recognizer, waveform: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
    """`(B,)` in nats."""
    logits = recognizer(waveform, lengths) / recognizer.temperature
    return logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]


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


def _feature_of_each_row(config: FeaturesConfig) -> list[tuple[str, slice]]:
    """The features of the stack and of its time derivatives with their rows."""
    result, first = [], 0
    for name in config.stack * (1 + config.deltas):
        last = first + get_feature(name).row_count(config)
        result.append((name, slice(first, last)))
        first = last
    return result


def _picture_features(recognizer: Recognizer) -> FeatureStack:
    """The log-mel spectrogram with the settings of the model's own, or with the defaults if it reads waveforms."""
    config = recognizer.features.config
    shared = (
        {}
        if config.stack == (WAVEFORM,)
        else {name: getattr(config, name) for name in ("n_fft", "win_length", "hop_length", "n_mels", "f_min", "f_max")}
    )
    return FeatureStack(FeaturesConfig(**shared), recognizer.sample_rate).to(_device(recognizer))


def _device(recognizer: Recognizer) -> torch.device:
    return next((tensor.device for tensor in recognizer.state_dict().values()), torch.device("cpu"))


def _index_of(labels: Sequence[str], prediction: "Prediction", emotion: str | None) -> int:
    if emotion is None:
        return max(range(len(labels)), key=lambda index: prediction.probabilities[labels[index]])
    if emotion not in labels:
        near = difflib.get_close_matches(emotion, labels, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"emotion {emotion!r}: {hint}this model knows {', '.join(labels)}")
    return labels.index(emotion)
