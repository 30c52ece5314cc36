"""Which moments and frequencies of a clip a prediction rests on: `Explanation`, as numbers, files and a picture.

Models that read features of frames are explained by integrated gradients, other models over time only, by occlusion
(`serx.inference.attribution`).
"""

import difflib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from serx import plots
from serx.dsp.mel import mel_centers
from serx.errors import ConfigError, DiskError
from serx.features.registry import WAVEFORM, get_feature
from serx.features.stack import FeaturesConfig, FeatureStack
from serx.files import StrPath, why_not_written, write_atomically
from serx.inference.attribution import STEPS, integrated_gradients, occlusion
from serx.recognizer import Recognizer
from serx.terminal import printable

if TYPE_CHECKING:
    from serx.inference.prediction import Prediction
    from serx.plots.style import Figure

Method = Literal["integrated_gradients", "occlusion"]

MAX_STEPS = 1024
PART_SECONDS = 0.25  # of a recording, for the list of its strongest parts
MEL_FEATURES = ("mel", "logmel")  # features whose rows are mel bands


@dataclass(frozen=True, eq=False)
class Explanation:
    """What one emotion's log-probability, or the rating on one dimension, rests on; N frames, F mel bands.

    Saliencies of an emotion are in nats, those of a dimension in units of the rating.

    Attributes:
        prediction: of the clip.
        emotion: whose log-probability is explained; None if it is a dimension.
        method: `integrated_gradients`, or `occlusion`, which has no bands.
        seconds: `(N,)`, the middle of each frame from the start of the recording.
        hertz: `(F,)`, the center of each mel band.
        spectrogram: `(F, N)` in dB.
        saliency: `(F, N)`, above zero where the clip raises the value; None with occlusion.
        frame_saliency: `(N,)`: of all features of a frame; with occlusion, how far the value falls when the stretch
            around the frame is silenced.
        feature_saliency: the sum over the clip for each feature of the model's stack; empty with occlusion.
        value: the log-probability of `emotion` for the clip, in nats, or the rating on `dimension`.
        baseline_value: that of the baseline; None with occlusion.
        completeness_error: what the saliency adds up to, minus `value - baseline_value`; None with occlusion.
        dimension: such as arousal, whose rating is explained; None if it is an emotion.

    >>> from serx.config import from_tree
    >>> from serx.inference.predictor import Predictor
    >>> config = from_tree({"data": {"root": "."}, "model": {"kind": "cnn1d"}}, source="example")
    >>> recognizer = Recognizer(config.features, config.model, ("angry", "happy"), config.data.sample_rate)
    >>> explanation = Predictor(recognizer, config).explain(np.sin(np.arange(16_000) / 20), 16_000, emotion="happy")
    >>> explanation.saliency.shape, float(explanation.seconds[-1]), abs(explanation.completeness_error) < 0.01
    ((64, 63), 0.992, True)
    """

    prediction: "Prediction"
    emotion: str | None
    method: Method
    seconds: np.ndarray
    hertz: np.ndarray
    spectrogram: np.ndarray
    saliency: np.ndarray | None
    frame_saliency: np.ndarray
    feature_saliency: dict[str, float]
    value: float
    baseline_value: float | None = None
    completeness_error: float | None = None
    dimension: str | None = None

    @property
    def name(self) -> str:
        """The emotion or the dimension."""
        return self.emotion or self.dimension or ""

    @property
    def unit(self) -> str:
        """Of the saliencies: `nats`, or `rating`."""
        return "nats" if self.dimension is None else "rating"

    @property
    def band_saliency(self) -> np.ndarray | None:
        """`(F,)`: the sum over the frames; None with occlusion, or if no feature has mel bands."""
        return None if self.saliency is None else self.saliency.sum(1)

    def as_dict(self) -> dict[str, Any]:
        """All but the spectrogram, as JSON can hold it: a list of frames and one of bands."""
        bands = self.band_saliency
        if self.dimension is None:
            target = {"emotion": self.emotion}
            values = {"log_probability": self.value, "baseline_log_probability": self.baseline_value}
        else:
            target = {"dimension": self.dimension}
            values = {"value": self.value, "baseline_value": self.baseline_value}
        return {
            "path": None if self.prediction.path is None else str(self.prediction.path),
            **target,
            "method": self.method,
            **values,
            "completeness_error": self.completeness_error,
            "features": self.feature_saliency,
            "frames": _records("seconds", self.seconds, self.frame_saliency),
            "bands": None if bands is None else _records("hertz", self.hertz, bands),
            "prediction": self.prediction.as_dict(),
        }

    def figure(self) -> "Figure":
        """The spectrogram with the saliency over it, and the saliency of each frame."""
        name = printable(self.prediction.path.name) if self.prediction.path else "samples"
        size = f"{100 * math.exp(self.value):.0f} %" if self.dimension is None else f"{self.value:.2f}"
        title = f"{name}: saliency for {self.name} ({size})"
        what = "its log-probability" if self.dimension is None else "the rating"
        if self.completeness_error is None:
            falls = "makes the emotion less probable" if self.dimension is None else "lowers the rating"
            note = f"red: silencing the moment {falls}"
        else:
            error = f"{self.completeness_error:.3f}{' nats' if self.dimension is None else ''}"
            note = f"red raises {what}, blue lowers it; completeness error {error}"
        return plots.saliency_figure(
            self.spectrogram, self.saliency, self.frame_saliency, self.seconds, self.hertz, title, note, self.unit
        )

    def write(self, folder: StrPath) -> list[Path]:
        """Writes saliency.png, saliency.json and saliency.csv into `folder`, which is made if need be.

        Raises:
            DiskError: a file cannot be written.
        """
        contents = {
            "saliency.png": plots.figure_png(self.figure()),
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
        """The start, the end (s) and the saliency of the quarters of a second that raise the value most.

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
    dimension: str | None = None,
) -> Explanation:
    """Explains the prediction of one clip.

    Args:
        recognizer: in evaluation mode.
        clip: `(T,)` float32 at the recognizer's rate.
        prediction: of the clip.
        emotion: one of the recognizer's labels; default: the most probable one.
        start: seconds before the clip in its recording.
        steps: points of the integral.
        dimension: one of the recognizer's dimensions, in place of an emotion; default, of a recognizer without
            emotions: the first.

    Raises:
        ConfigError: the recognizer has no such emotion or dimension, both are given, or `steps` is out of range.
    """
    if not 1 <= steps <= MAX_STEPS:
        raise ConfigError(f"steps {steps}: give a number from 1 to {MAX_STEPS}")
    dimensions = [known.name for known in recognizer.dimensions]
    if emotion is not None and dimension is not None:
        raise ConfigError(f"emotion {emotion} and dimension {dimension}: an explanation is of one of them")
    if emotion is None and (dimension is not None or not recognizer.labels):
        target = len(recognizer.labels) + (0 if dimension is None else _index_of(dimensions, dimension, "dimension"))
        dimension = dimensions[target - len(recognizer.labels)]
    else:
        emotion = emotion or max(recognizer.labels, key=lambda label: prediction.probabilities[label])
        target = _index_of(recognizer.labels, emotion, "emotion")
    device = _device(recognizer)
    waveform, lengths = torch.from_numpy(clip)[None].to(device), torch.tensor([len(clip)], device=device)
    picture = _picture_features(recognizer)
    with torch.no_grad():
        spectrogram = picture(waveform, lengths)[0][0].cpu().numpy()
    seconds = np.arange(spectrogram.shape[1]) * picture.config.hop_length / recognizer.sample_rate
    known = {
        "prediction": prediction,
        "emotion": emotion,
        "dimension": dimension,
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
            value=value,
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
        value=float(result.value),
        baseline_value=float(result.baseline_value),
        completeness_error=float(of_rows.sum() - (result.value - result.baseline_value)),
        **known,
    )


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


def _index_of(names: Sequence[str], name: str, what: str) -> int:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        known = f"knows {', '.join(names)}" if names else f"predicts no {what}s"
        raise ConfigError(f"{what} {name!r}: {hint}this model {known}")
    return names.index(name)
