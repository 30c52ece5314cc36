"""Samples that a user passes as an array or a tensor: of any shape, type and rate that is audio, to mono float32."""

import numbers

import numpy as np
import torch
from torch import Tensor

from serx.data.audio.channels import ChannelMixer
from serx.data.audio.error import AudioError
from serx.data.audio.sound_file import MAX_CHANNELS, MAX_RATE, MIN_RATE
from serx.inference.segmentation import RATE

ARRAY = "array"  # stands for a path in messages about samples

Samples = np.ndarray | Tensor
# NumPy's kind and size in bytes -> the value of silence, and full scale
INTEGER_FORMATS = {("u", 1): (128, 1 << 7), ("i", 2): (0, 1 << 15), ("i", 4): (0, 1 << 31)}


def mono_samples(samples: Samples, mixer: ChannelMixer | None = None) -> np.ndarray:
    """Converts the samples of one clip to mono, `(T,)` float32 with full scale 1.

    Args:
        samples: `(T,)`, `(channels, T)` or `(T, channels)`, where the longer axis is time; floats with full scale 1,
            or int16, int32 or uint8.
        mixer: of the recording that the samples belong to; default: one that mixes them.

    Raises:
        AudioError: another shape or type, no samples, or NaN or infinity among them.

    >>> mono_samples(np.array([[0, 16384, -32768], [0, 16384, 0]], np.int16))
    array([ 0. ,  0.5, -0.5], dtype=float32)
    """
    if isinstance(samples, Tensor):
        if samples.layout != torch.strided or samples.is_quantized or samples.is_meta:
            raise AudioError(ARRAY, "not_audio", "a sparse, quantized or empty tensor; give a dense one")
        samples = samples.detach().cpu()
        samples = (samples.float() if samples.is_floating_point() else samples).numpy()  # NumPy has no bfloat16
    if samples.ndim not in (1, 2):
        raise AudioError(ARRAY, "not_audio", f"shape {samples.shape}; give (T,), (channels, T) or (T, channels)")
    if samples.size == 0:
        raise AudioError(ARRAY, "empty", "no samples")
    if min(samples.shape) > MAX_CHANNELS and samples.ndim == 2:
        raise AudioError(ARRAY, "too_many_channels", f"shape {samples.shape}; give one clip, at most {MAX_CHANNELS}")
    kind = (samples.dtype.kind, samples.dtype.itemsize)
    if kind[0] != "f" and kind not in INTEGER_FORMATS:
        raise AudioError(ARRAY, "not_audio", f"{samples.dtype} samples; give floats, int16, int32 or uint8")
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are reported below
        mono = samples.astype(np.float32)
        if kind in INTEGER_FORMATS:
            zero, full_scale = INTEGER_FORMATS[kind]
            mono = (mono - zero) / np.float32(full_scale)
        mono = mono[:, None] if mono.ndim == 1 else mono if mono.shape[0] > mono.shape[1] else mono.T
        mono = (mixer or ChannelMixer("mix", RATE))(mono)
    if not np.isfinite(mono).all():
        raise AudioError(ARRAY, "nonfinite", "NaN or infinite samples; clean them first")
    return mono


def checked_rate(sample_rate: int | None) -> int:
    """The sample rate of samples, in Hz.

    Raises:
        AudioError: it is missing, no whole number, or out of range.
    """
    if sample_rate is None:
        raise AudioError(ARRAY, "bad_rate", "samples need their sample rate in Hz, as in predictor(samples, 16000)")
    is_number = isinstance(sample_rate, numbers.Real) and not isinstance(sample_rate, bool)
    if not is_number or not MIN_RATE <= sample_rate <= MAX_RATE or sample_rate != int(sample_rate):
        raise AudioError(ARRAY, "bad_rate", f"{sample_rate} Hz, expected a whole number from {MIN_RATE} to {MAX_RATE}")
    return int(sample_rate)
