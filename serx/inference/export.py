"""`export`: a checkpoint as one ONNX file, from a waveform to probabilities, for programs without PyTorch.

The graph holds the whole line that `Predictor` takes behind decoding: the part of the clip that the recipe hears, its
ends trimmed, features, normalizer, networks, temperature. A file that came out is a file that was compared: ONNX
Runtime must give the probabilities of the checkpoint it was made from.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import serx
from serx.data.audio import FRAME_SECONDS, STEP_SECONDS, AudioConfig, cut_window, prepare_clip
from serx.dsp.batching import valid_mask
from serx.errors import ConfigError, DiskError
from serx.files import free_space, write_atomically
from serx.inference.predictor import Predictor
from serx.recognizer import Recognizer
from serx.seeding import derive

OPSET = 20  # the first with a DFT whose length may be any


PARITY = 1e-4  # of a probability: more than rounding


TRIED_SECONDS = (0.4, 1.0, 2.2, 3.7, 9.1)


@dataclass(frozen=True)
class Exported:
    """What came of an export: the largest difference of a probability, over so many clips, and the file's size."""

    difference: float
    clips: int
    bytes: int


def export(predictor: Predictor, path: Path, clips: Sequence[np.ndarray] = ()) -> Exported:
    """Writes `predictor`, on a CPU, to `path` as ONNX and compares the two on made-up clips, and on `clips (T,)` too.

    The file's input is `waveform (1, T)` float32 at the sample rate of its metadata, its output `probabilities (1, C)`.

    Raises:
        ConfigError: a package is missing, or torch cannot export a network or feature of this recipe.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        _wanted(package)
    whole = Utterance(predictor.recognizer, predictor.config.data).eval()
    program = _translated(whole, path)
    program.model.metadata_props.update(_metadata(predictor, whole))
    content = _bare(program.model_proto).SerializeToString()
    tried = [*_made_up(whole), *clips]
    difference = float(np.max([*_differences(predictor, content, tried)]))
    if not difference <= PARITY:  # NaN is not either
        raise ConfigError(
            f"{path}: not written: ONNX Runtime's probabilities are up to {difference:.1g} from the checkpoint's; "
            "use scripts/predict.py, or serx.inference.predictor"
        )
    try:
        write_atomically(path, content)
    except OSError as error:
        raise DiskError(f"{path}: cannot write {len(content)} bytes: {error.strerror} ({free_space(path)})") from error
    return Exported(difference, len(tried), len(content))


class Utterance(nn.Module):
    """`waveform (1, T)` as it was recorded -> `probabilities (1, C)`.

    Attributes:
        shortest, longest: samples that T may be.
    """

    def __init__(self, recognizer: Recognizer, audio: AudioConfig) -> None:
        super().__init__()
        self.recognizer, self.audio = recognizer, audio
        rate = audio.sample_rate
        self.start = round(audio.offset_seconds * rate)
        least = max(audio.min_seconds, 2 * FRAME_SECONDS)
        self.shortest, self.longest = self.start + round(least * rate), round(audio.max_seconds * rate)

    def forward(self, waveform: Tensor) -> Tensor:
        audio, waveform = self.audio, waveform[:, self.start :]
        lengths = torch.full_like(waveform[:, 0], waveform.shape[1], dtype=torch.int64)
        if audio.duration_seconds is not None:
            lengths = lengths.clamp(max=round(audio.duration_seconds * audio.sample_rate))
        if audio.trim_db is not None:
            waveform, lengths = trimmed(waveform, lengths, audio.sample_rate, audio.trim_db, audio.trim_keep_seconds)
        waveform = waveform * valid_mask(lengths, waveform.shape[1])
        return (self.recognizer(waveform, lengths) / self.recognizer.temperature).softmax(-1)


def trimmed(
    waveform: Tensor, lengths: Tensor, sample_rate: int, trim_db: float, keep_seconds: float
) -> tuple[Tensor, Tensor]:
    """`data.audio.trim_silence` of `waveform (B, T)`, moved to the beginning, and `lengths (B,)` of what is left.

    What stands beyond those lengths is not cleared.
    """
    size, step = round(FRAME_SECONDS * sample_rate), round(STEP_SECONDS * sample_rate)
    power = F.avg_pool1d(waveform.square(), size, step)
    starts = torch.arange(power.shape[1], device=power.device) * step
    power = power * (starts + size <= lengths[:, None])
    loud = power >= power.amax(1, keepdim=True) * 10 ** (-trim_db / 10)
    keep = round(keep_seconds * sample_rate)
    fit_normalizer = (torch.where(loud, starts, waveform.shape[1]).amin(1) - keep).clamp(min=0)
    end = torch.minimum(torch.where(loud, starts, 0).amax(1) + size + keep, lengths)
    source = torch.arange(waveform.shape[1], device=waveform.device) + fit_normalizer[:, None]
    return waveform.gather(1, source.clamp(max=waveform.shape[1] - 1)), end - fit_normalizer


def _translated(whole: Utterance, path: Path) -> Any:
    """torch's ONNX program of the module."""
    samples = torch.export.Dim("samples", min=whole.shortest, max=whole.longest)
    example = torch.from_numpy(_noise(whole, (whole.shortest + whole.longest) // 7))[None]
    with torch.no_grad():
        whole(example)  # so that no constant is first made, and kept, while the exporter's stand-ins run
    try:
        with _quiet(), as_onnx(whole):
            return torch.onnx.export(
                whole,
                (example,),
                dynamo=True,
                dynamic_shapes={"waveform": {1: samples}},
                input_names=["waveform"],
                output_names=["probabilities"],
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:  # torch's exporter raises whatever the operation it fails at does
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        config = whole.recognizer.features.config
        raise ConfigError(
            f"{path}: torch cannot export this model (features {', '.join(config.stack)}): {reason}"
        ) from error


def _wanted(package: str) -> ModuleType:
    """A package of the extra `export`."""
    try:
        return import_module(package)
    except ImportError as error:
        raise ConfigError(f"exporting needs {package}: pip install -e '.[export]'") from error


def _bare(model: Any) -> Any:
    """An ONNX model without the exporter's notes on where in whose folders each of its nodes came from."""
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model


def _metadata(predictor: Predictor, whole: Utterance) -> dict[str, str]:
    """What the file says of itself, as ONNX Runtime's `get_modelmeta().custom_metadata_map` gives it."""
    return {
        "labels": json.dumps(predictor.labels),
        "sample_rate": str(whole.audio.sample_rate),
        "shortest_samples": str(whole.shortest),
        "longest_samples": str(whole.longest),
        "protocol": str(predictor.metadata.get("protocol", "")),
        "serx": serx.__version__,
    }


def _differences(predictor: Predictor, content: bytes, clips: Sequence[np.ndarray]) -> Iterator[float]:
    audio = predictor.config.data
    session = _wanted("onnxruntime").InferenceSession(content)
    for clip in clips:
        part = cut_window(clip, audio.sample_rate, audio.offset_seconds, audio.duration_seconds)
        heard = prepare_clip(part, audio.sample_rate, audio)
        expected = np.array([*predictor.probabilities([heard])[0].values()])
        [found] = session.run(None, {"waveform": clip[None]})
        yield float(np.abs(found[0] - expected).max())


def _made_up(whole: Utterance) -> list[np.ndarray]:
    counts = [whole.shortest, *(whole.start + round(seconds * whole.audio.sample_rate) for seconds in TRIED_SECONDS)]
    return [_noise(whole, count) for count in counts if whole.shortest <= count <= whole.longest]


def _noise(whole: Utterance, samples: int) -> np.ndarray:
    """`(samples,)` float32 noise that swells and fades, the ends quiet enough to be trimmed."""
    random = np.random.default_rng(derive(0, "export", samples))
    swell = np.sin(np.pi * np.arange(samples) / samples) ** 8 * (1.2 + np.sin(np.arange(samples) / 900))
    return (0.2 * random.standard_normal(samples) * swell).astype(np.float32)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's own account of its steps, which has nothing to mend."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def as_onnx(model: nn.Module) -> Iterator[None]:
    """Within, every `nn.GRU(batch_first=True)` of one layer and one direction is exported as an ONNX GRU."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.GRU)]
    for layer in layers:
        layer.forward = partial(_symbol, layer)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # back to the class's own


def _symbol(layer: nn.GRU, x: Tensor) -> tuple[Tensor, None]:
    """`x (B, N, C)` -> `(B, N, units)`."""
    inputs, hidden, bias_in, bias_hidden = (
        _gates_of_onnx(getattr(layer, f"{name}_l0")) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    directions = torch.onnx.ops.symbolic(
        "::GRU",
        (x.transpose(0, 1), inputs[None], hidden[None], torch.cat([bias_in, bias_hidden])[None]),
        {"hidden_size": layer.hidden_size, "linear_before_reset": 1},
        dtype=x.dtype,
        shape=(x.shape[1], 1, x.shape[0], layer.hidden_size),
    )  # (N, 1, B, units)
    return directions[:, 0].transpose(0, 1), None


def _gates_of_onnx(weights: Tensor) -> Tensor:
    """torch has reset, update, new one behind the other; ONNX update, reset, new."""
    reset, update, new = weights.chunk(3)
    return torch.cat([update, reset, new])
