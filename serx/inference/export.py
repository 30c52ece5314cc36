"""Export a checkpoint to one ONNX file, waveform -> probabilities, for programs without PyTorch.

The graph holds everything that `Predictor` does after decoding: the window of the clip, trimming of its ends, features,
normalizer, networks, temperature. It also refuses what `Predictor` refuses: a graph cannot raise an error, so that all
probabilities of a clip that is too short, too long, silent, not finite or far too loud are NaN. A file is written only
after a comparison: ONNX Runtime must give the probabilities of the checkpoint.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import serx
from serx.data.audio.clip import cut_window, prepare_clip
from serx.data.audio.config import AudioConfig
from serx.data.audio.levels import MAX_LEVEL, MAX_OFFSET, SILENT_DB
from serx.data.audio.trimming import FRAME_SECONDS, STEP_SECONDS, trim_thresholds
from serx.dsp.batching import valid_mask
from serx.errors import ConfigError, DiskError, explaining_out_of_memory
from serx.files import why_not_written, write_atomically
from serx.inference.predictor import Predictor
from serx.models.backbone import split_outputs
from serx.recognizer import Recognizer
from serx.seeding import derive

OPSET = 20  # the first with a DFT of any length
TOLERANCE = 1e-4  # of a probability; rounding differs by less
TEST_SECONDS = (0.4, 1.0, 2.2, 3.7, 9.1)  # of the synthetic clips that the file is compared on
MAX_BYTES = (1 << 31) - (1 << 24)  # of the weights: a file of ONNX holds two gigabytes
LONGEST_SECONDS = 60.0  # of the longest one, unless `data.max_seconds` is less


@dataclass(frozen=True)
class ExportResult:
    """What was written and how it compared.

    Attributes:
        max_difference: the largest difference of a probability, or of a dimension as a share of its range, between
            checkpoint and file.
        n_clips: the clips that were compared.
        n_bytes: the size of the file.

    >>> ExportResult(max_difference=2e-7, n_clips=6, n_bytes=1_800_000).n_clips
    6
    """

    max_difference: float
    n_clips: int
    n_bytes: int


@explaining_out_of_memory("close other programs: an export holds the model several times")
def export_onnx(predictor: Predictor, path: Path, clips: Sequence[np.ndarray] = ()) -> ExportResult:
    """Writes `predictor` as ONNX and compares the file with it, on synthetic clips and on `clips`.

    The file's input is `waveform (1, T)` float32 at the sample rate of its metadata, its output `probabilities (1, C)`;
    they are NaN for a clip that cannot be used, such as one with fewer than `min_samples` of the metadata. A model of
    dimensions has the output `dimensions (1, D)`, in units of the ratings; without emotions it has no other.
    Within `predictor.adapted_to(...)` the file holds the adapted model.

    Args:
        predictor: on a CPU.
        path: of the file.
        clips: more clips `(T,)` to compare on, as recorded, at the model's sample rate.

    Raises:
        ConfigError: a package is missing; the model is too large; torch cannot export a part of this recipe; or the
            file's probabilities differ from the checkpoint's, and then it is not written.
        DiskError: the file cannot be written.

    >>> export_onnx(predictor, Path("best.onnx")).max_difference < 1e-4  # doctest: +SKIP
    True
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        _import_extra(package)
    size = sum(tensor.nbytes for tensor in predictor.recognizer.state_dict().values())
    if size > MAX_BYTES:
        raise ConfigError(
            f"{path}: not written: a file of ONNX holds 2 GB, and this model has {size / 1e9:.1f} GB of weights; "
            "use serx.Predictor, or train on a smaller encoder"
        )
    classifier = WaveformClassifier(predictor.recognizer, predictor.config.data).eval()
    program = _onnx_program(classifier, path)
    program.model.metadata_props.update(_metadata(predictor, classifier))
    content = _without_notes(program.model_proto).SerializeToString()
    compared = [*_synthetic_clips(classifier), *clips]
    max_difference = float(np.max([*_differences(predictor, content, compared)]))
    if not max_difference <= TOLERANCE:  # true for NaN
        raise ConfigError(
            f"{path}: not written: ONNX Runtime's probabilities differ by up to {max_difference:.1g} from the "
            "checkpoint's; use serx.Predictor or scripts/predict.py"
        )
    try:
        write_atomically(path, content)
    except OSError as error:
        raise DiskError(f"{path}: cannot write {len(content)} bytes: {why_not_written(error, path)}") from error
    return ExportResult(max_difference, len(compared), len(content))


class WaveformClassifier(nn.Module):
    """`waveform (1, T)` as recorded -> `probabilities (1, C)`: the graph that is exported.

    With dimensions it returns `(probabilities, dimensions (1, D))`, or the latter alone if there are no emotions. All
    are NaN for a clip that cannot be used: too short, too long, silent, not finite, far too loud.

    Attributes:
        min_samples, max_samples: the bounds of T for a clip that can be used; T may be anything.
    """

    def __init__(self, recognizer: Recognizer, audio: AudioConfig) -> None:
        super().__init__()
        self.recognizer, self.audio = recognizer, audio
        rate = audio.sample_rate
        self.start = round(audio.offset_seconds * rate)
        min_seconds = max(audio.min_seconds, 2 * FRAME_SECONDS)
        self.min_samples, self.max_samples = self.start + round(min_seconds * rate), round(audio.max_seconds * rate)

    @property
    def outputs(self) -> list[str]:
        """The names of the results."""
        names = {"probabilities": self.recognizer.labels, "dimensions": self.recognizer.dimensions}
        return [name for name, parts in names.items() if parts]

    def forward(self, waveform: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        audio = self.audio
        samples = torch.full_like(waveform[:, 0], waveform.shape[1], dtype=torch.int64)
        # Zeros behind the clip change no result; without them the shortest clips would have too few frames for a layer.
        waveform = F.pad(waveform, (0, self.min_samples))[:, self.start :]
        lengths = (samples - self.start).clamp(min=self.min_samples - self.start)
        if audio.duration_seconds is not None:
            lengths = lengths.clamp(max=round(audio.duration_seconds * audio.sample_rate))
        waveform = without_offset(waveform, lengths)
        if audio.trim_db is not None:
            waveform, lengths = trimmed(
                waveform, lengths, audio.sample_rate, audio.trim_db, audio.trim_keep_seconds, audio.trim_spread_db
            )
        waveform = waveform * valid_mask(lengths, waveform.shape[1])
        usable = (samples >= self.min_samples) & (samples <= self.max_samples) & self._is_audible(waveform, lengths)
        outputs, dimensions = self.recognizer(waveform, lengths), self.recognizer.dimensions
        if not dimensions:
            probabilities = (outputs / self.recognizer.temperature).softmax(-1)
            return torch.where(usable[:, None], probabilities, torch.nan)
        logits, values = split_outputs(outputs, len(dimensions))
        low, high = (torch.tensor([getattr(d, end) for d in dimensions]) for end in ("low", "high"))
        values = torch.where(usable[:, None], low + (high - low) * values, torch.nan)
        if not self.recognizer.labels:
            return values
        probabilities = (logits / self.recognizer.temperature).softmax(-1)
        return torch.where(usable[:, None], probabilities, torch.nan), values

    def _is_audible(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """`(B,)` whether a clip of `waveform (B, T)`, `lengths (B,)` is neither silent nor too loud; False for NaN."""
        size = round(FRAME_SECONDS * self.audio.sample_rate)
        mask = valid_mask(lengths, waveform.shape[1])
        centered = (
            waveform - waveform.sum(1, keepdim=True) / lengths[:, None]
        ) * mask  # float32 squares of an offset round
        power = F.avg_pool1d(centered.square(), size, size) - F.avg_pool1d(centered, size, size).square()
        whole = torch.arange(1, power.shape[1] + 1, device=power.device) * size <= lengths[:, None]
        loudest = torch.where(whole, power, 0.0).amax(1)
        return (loudest >= 10 ** (SILENT_DB / 10)) & (waveform.abs().amax(1) <= MAX_LEVEL)


def without_offset(waveform: Tensor, lengths: Tensor) -> Tensor:
    """`remove_offset` in operations that can be exported: `waveform (B, T)`, `lengths (B,)` -> `(B, T)`."""
    mask = valid_mask(lengths, waveform.shape[1])
    mean = ((waveform * mask).sum(1) / lengths)[:, None]
    deviation = (((waveform - mean) * mask).square().sum(1) / lengths).sqrt()[:, None]
    return torch.where(mean.abs() <= MAX_OFFSET * deviation, waveform, waveform - mean)


def trimmed(
    waveform: Tensor, lengths: Tensor, sample_rate: int, trim_db: float, keep_seconds: float, spread_db: float = 0.0
) -> tuple[Tensor, Tensor]:
    """`trim_silence` in operations that can be exported.

    `waveform (B, T)`, `lengths (B,)` -> the kept part of each clip, moved to the beginning, and its length. Samples
    beyond that length are arbitrary.
    """
    size, step = round(FRAME_SECONDS * sample_rate), round(STEP_SECONDS * sample_rate)
    power = F.avg_pool1d(waveform.square(), size, step)
    starts = torch.arange(power.shape[1], device=power.device) * step
    power = power * (starts + size <= lengths[:, None])
    least = torch.from_numpy(10 ** (-trim_thresholds(trim_db, spread_db) / 10)).float()[:, None, None]
    loud = power >= power.amax(1, keepdim=True) * least  # (thresholds, B, frames)
    keep, thresholds = round(keep_seconds * sample_rate), len(least)
    first = torch.where(loud, starts, waveform.shape[1]).amin(2).sum(0).div(thresholds, rounding_mode="floor")
    last = torch.where(loud, starts, 0).amax(2).sum(0).div(thresholds, rounding_mode="floor")
    first, end = (first - keep).clamp(min=0), torch.minimum(last + size + keep, lengths)
    source = torch.arange(waveform.shape[1], device=waveform.device) + first[:, None]
    return waveform.gather(1, source.clamp(max=waveform.shape[1] - 1)), end - first


class OnnxGru(nn.Module):
    """A GRU of one layer and one direction as ONNX's own operator: `x (B, N, C)` -> `(B, N, units)`, for export only.

    torch would export a GRU as its steps, as many as the example has, and no clip of another length would fit.
    """

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.hidden_size = gru.hidden_size
        self.weight_ih, self.weight_hh, bias_ih, bias_hh = (
            _onnx_gate_order(getattr(gru, f"{name}_l0")) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        self.bias = torch.cat([bias_ih, bias_hh])

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        output = torch.onnx.ops.symbolic(
            "::GRU",
            (x.transpose(0, 1), self.weight_ih[None], self.weight_hh[None], self.bias[None]),
            {"hidden_size": self.hidden_size, "linear_before_reset": 1},
            dtype=x.dtype,
            shape=(x.shape[1], 1, x.shape[0], self.hidden_size),
        )  # (N, 1, B, units)
        return output[:, 0].transpose(0, 1), None


def _onnx_gate_order(weights: Tensor) -> nn.Parameter:
    """Rows of a GRU's weights: torch has reset, update, new; ONNX has update, reset, new."""
    reset, update, new = weights.detach().chunk(3)
    return nn.Parameter(torch.cat([update, reset, new]), requires_grad=False)


def with_onnx_grus(model: nn.Module) -> nn.Module:
    """A copy of `model` whose GRUs are `OnnxGru`; `model` itself if it has none."""
    names = [name for name, layer in model.named_modules() if isinstance(layer, nn.GRU)]
    if not names:
        return model
    copy = deepcopy(model)
    for name in names:
        gru = copy.get_submodule(name)
        assert isinstance(gru, nn.GRU)
        copy.set_submodule(name, OnnxGru(gru))
    return copy


def _onnx_program(classifier: WaveformClassifier, path: Path) -> Any:
    """torch's ONNX program of the module."""
    samples = torch.export.Dim("samples", min=2, max=classifier.max_samples)
    # The longest clip, since torch follows the example where it meets a condition: long clips are encoded in windows.
    example = torch.from_numpy(_noise(_longest(classifier)))[None]
    with torch.no_grad():
        classifier(example)  # makes cached constants now: made during export they would be the exporter's fake tensors
    try:
        with _silenced():
            return torch.onnx.export(
                with_onnx_grus(classifier),
                (example,),
                dynamo=True,
                dynamic_shapes={"waveform": {1: samples}},
                input_names=["waveform"],
                output_names=classifier.outputs,
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:  # torch's exporter passes on whatever the failing operation raises
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        config = classifier.recognizer.features.config
        raise ConfigError(
            f"{path}: torch cannot export this model (features {', '.join(config.stack)}): {reason}"
        ) from error


def _import_extra(package: str) -> ModuleType:
    """A package of the extra `export`."""
    try:
        return import_module(package)
    except ImportError as error:
        raise ConfigError(f"exporting needs {package}: pip install -e '.[export]'") from error


def _without_notes(model: Any) -> Any:
    """The ONNX model without the exporter's notes, which name the source files of this machine."""
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model


def _metadata(predictor: Predictor, classifier: WaveformClassifier) -> dict[str, str]:
    """What ONNX Runtime returns as `get_modelmeta().custom_metadata_map`."""
    return {
        "labels": json.dumps(predictor.labels),
        **({"dimensions": json.dumps([d._asdict() for d in predictor.dimensions])} if predictor.dimensions else {}),
        "sample_rate": str(classifier.audio.sample_rate),
        "min_samples": str(classifier.min_samples),
        "max_samples": str(classifier.max_samples),
        "protocol": str(predictor.metadata.get("protocol", "")),
        "adapted": "to a speaker" if predictor.recognizer.adapted else "",
        "min_confidence": f"{predictor.min_confidence:g}",
        "serx": serx.__version__,
    }


def _differences(predictor: Predictor, content: bytes, clips: Sequence[np.ndarray]) -> Iterator[float]:
    """The largest difference of a probability, or of a dimension as a share of its range, on each of `clips (T,)`."""
    audio = predictor.config.data
    ranges = np.array([1.0] * len(predictor.labels) + [d.high - d.low for d in predictor.dimensions])
    session = _import_extra("onnxruntime").InferenceSession(content)
    for clip in clips:
        window = cut_window(clip, audio.sample_rate, audio.offset_seconds, audio.duration_seconds)
        [prediction] = predictor.predict_clips([prepare_clip(window, audio.sample_rate, audio)])
        expected = np.array([*prediction.probabilities.values(), *prediction.dimensions.values()])
        try:
            results = session.run(None, {"waveform": clip[None]})
        except Exception as error:  # ONNX Runtime raises a class for each fault
            reason = str(error).partition("\n")[0]
            raise ConfigError(f"not written: ONNX Runtime cannot run it on {len(clip)} samples: {reason}") from error
        yield float((np.abs(np.concatenate([result[0] for result in results]) - expected) / ranges).max())


def _synthetic_clips(classifier: WaveformClassifier) -> list[np.ndarray]:
    rate = classifier.audio.sample_rate
    longest = _longest(classifier)
    counts = [classifier.min_samples, *(classifier.start + round(seconds * rate) for seconds in TEST_SECONDS), longest]
    clips = [_noise(n) for n in sorted(set(counts)) if classifier.min_samples <= n <= longest]
    with_gap = _noise(min(classifier.start + rate, classifier.max_samples))
    with_gap[len(with_gap) // 2 : len(with_gap) * 3 // 5] = 0  # digital silence, whose features divide by small numbers
    return [*clips, with_gap]


def _longest(classifier: WaveformClassifier) -> int:
    """The samples of the longest clip to compare."""
    longest = max(classifier.min_samples, round(LONGEST_SECONDS * classifier.audio.sample_rate))
    return min(classifier.max_samples, longest)


def _noise(samples: int) -> np.ndarray:
    """`(samples,)` float32 noise that swells and fades; its ends are quiet enough to be trimmed, but not silent."""
    random = np.random.default_rng(derive(0, "export", samples))
    swell = np.sin(np.pi * np.arange(samples) / samples) ** 8 * (1.2 + np.sin(np.arange(samples) / 900)) + 1e-3
    return (0.2 * random.standard_normal(samples) * swell).astype(np.float32)


@contextmanager
def _silenced() -> Iterator[None]:
    """Without the exporter's log and warnings: a user can do nothing about them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
