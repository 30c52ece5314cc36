"""The features that `features.stack` can name: each has a number of rows and a function that computes them.

Shipped features and features of your own register in the same way. A module that is given with `--import my_module`
may hold

    @register_feature("spectral_peak", rows=1)
    def spectral_peak(views: Views) -> Tensor:
        return views.magnitude.argmax(-1, keepdim=True) * (views.sample_rate / views.config.n_fft)

and `features: {stack: [logmel, spectral_peak]}` then uses it. `serx.testing.check_feature` checks that a clip's values
depend neither on its padding nor on the other clips of its batch. A checkpoint stores the name alone. It never names
code to import.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor

from serx.dsp.chroma import CLASSES, chroma_cqt, tonnetz
from serx.dsp.descriptors import (
    rms,
    spectral_bandwidth,
    spectral_contrast,
    spectral_flatness,
    spectral_rolloff,
    zero_crossing_rate,
)
from serx.errors import ConfigError
from serx.features.front_ends import CQT_BINS
from serx.features.views import Views
from serx.registries import check_is_free, full_name, suggestion

if TYPE_CHECKING:
    from serx.features.stack import FeaturesConfig

Rows = int | Callable[["FeaturesConfig"], int]
Compute = Callable[[Views], Tensor]
C = TypeVar("C", bound=Compute)

WAVEFORM = "waveform"  # the stack without features: samples for a model that reads them


class Feature(NamedTuple):
    """The number of rows of a feature, and the function from `Views` to `(B, N, rows)`."""

    rows: Rows
    compute: Compute

    def row_count(self, config: "FeaturesConfig") -> int:
        return self.rows if isinstance(self.rows, int) else self.rows(config)


_FEATURES: dict[str, Feature] = {}


def register_feature(name: str, rows: Rows) -> Callable[[C], C]:
    """Function decorator: `features.stack` may now name the feature that the function computes.

    The function takes `Views` and returns float32 `(B, N, rows)`. It must treat each clip by itself: no statistic over
    the batch, and over time only where `views.valid` is true. It need not mask the frames beyond the clip.

    Args:
        name: what the configuration says.
        rows: the number of rows, or a function from the `FeaturesConfig` to it.

    Raises:
        ValueError: the name is not an identifier, `rows` is less than 1, or another function has that name.

    >>> @register_feature("power_peak", rows=1)
    ... def power_peak(views):
    ...     return views.power.amax(-1, keepdim=True)
    >>> from serx.features import FeaturesConfig, FeatureStack
    >>> stack = FeatureStack(FeaturesConfig(stack=("rms", "power_peak")), sample_rate=16000)
    >>> features, frames = stack(torch.zeros(2, 16000))
    >>> features.shape
    torch.Size([2, 2, 63])
    """
    if not name.isidentifier() or name == WAVEFORM:
        raise ValueError(f"feature name {name!r} is not usable; use letters, digits and _, and not {WAVEFORM!r}")
    if isinstance(rows, int) and rows < 1:
        raise ValueError(f"feature {name!r}: rows is {rows}; give 1 or more")

    def register(compute: C) -> C:
        known = _FEATURES.get(name)
        check_is_free(f"feature {name!r}", known and known.compute, compute, "another name")
        _FEATURES[name] = Feature(rows, compute)
        return compute

    return register


def feature_names() -> tuple[str, ...]:
    """The names of all registered features.

    >>> feature_names()[:3]
    ('mel', 'logmel', 'mfcc')
    """
    return tuple(_FEATURES)


def get_feature(name: str) -> Feature:
    """The registered feature of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in _FEATURES:
        raise ConfigError(f"features.stack: {unknown_feature(name)}")
    return _FEATURES[name]


def unknown_feature(name: str) -> str:
    """The message about a name that is not registered."""
    return (
        f"unknown feature {name!r}; {suggestion(name, _FEATURES)}"
        f"known features are {', '.join((*_FEATURES, WAVEFORM))}; "
        "for a feature of your own add --import MODULE, the module that registers it"
    )


def compute_feature(name: str, views: Views) -> Tensor:
    """The feature's rows `(B, N, rows)`.

    Raises:
        ConfigError: the feature is not registered, or its function returns another shape.
    """
    feature = get_feature(name)
    values = feature.compute(views)
    expected = (*views.valid.shape, feature.row_count(views.config))
    if not torch.compiler.is_exporting() and values.shape != expected:  # exported shapes are symbols
        raise ConfigError(
            f"feature {name!r}: {full_name(feature.compute)} returns shape {tuple(values.shape)}; "
            f"(B, N, rows) = {expected} is expected"
        )
    return values.float()


def _n_mels(config: "FeaturesConfig") -> int:
    return config.n_mels


@register_feature("mel", rows=_n_mels)
def _mel(views: Views) -> Tensor:
    return views.mel


@register_feature("logmel", rows=_n_mels)
def _logmel(views: Views) -> Tensor:
    return views.decibels


@register_feature("mfcc", rows=lambda config: config.n_mfcc)
def _mfcc(views: Views) -> Tensor:
    return views.decibels @ views.stack.dct


@register_feature("zcr", rows=1)
def _zcr(views: Views) -> Tensor:
    return zero_crossing_rate(views.waveform, views.lengths, views.config.n_fft, views.config.hop_length)


@register_feature("rms", rows=1)
def _rms(views: Views) -> Tensor:
    return rms(views.waveform, views.config.n_fft, views.config.hop_length)


@register_feature("chroma", rows=CLASSES)
def _chroma(views: Views) -> Tensor:
    return views.chroma


@register_feature("chroma_cqt", rows=CLASSES)
def _chroma_cqt(views: Views) -> Tensor:
    return chroma_cqt(views.stack.constant_q(views.waveform), CQT_BINS)


@register_feature("contrast", rows=lambda config: config.contrast_bands + 1)
def _contrast(views: Views) -> Tensor:
    return spectral_contrast(views.magnitude, views.valid, views.sample_rate, views.config.contrast_bands)


@register_feature("tonnetz", rows=6)
def _tonnetz(views: Views) -> Tensor:
    return tonnetz(views.chroma)


@register_feature("centroid", rows=1)
def _centroid(views: Views) -> Tensor:
    return views.centroid


@register_feature("bandwidth", rows=1)
def _bandwidth(views: Views) -> Tensor:
    return spectral_bandwidth(views.magnitude, views.sample_rate, views.centroid)


@register_feature("rolloff", rows=1)
def _rolloff(views: Views) -> Tensor:
    return spectral_rolloff(views.magnitude, views.sample_rate)


@register_feature("flatness", rows=1)
def _flatness(views: Views) -> Tensor:
    return spectral_flatness(views.power)


@register_feature("pitch", rows=1)
def _pitch(views: Views) -> Tensor:
    return views.pitch.semitones


@register_feature("voicing", rows=1)
def _voicing(views: Views) -> Tensor:
    return views.pitch.voicing
