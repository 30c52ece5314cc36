"""`check_transform` passes what is right, and says what is wrong."""

from typing import Literal

import pytest
import torch

from serx.augment import (
    BackgroundNoise,
    BandPass,
    Clipping,
    Codec,
    Crop,
    Equalizer,
    FrequencyMask,
    Gain,
    HighPass,
    ImpulseResponse,
    LowPass,
    Noise,
    PitchShift,
    PitchTempo,
    PolarityInversion,
    Reverb,
    Shift,
    SpectrogramTransform,
    Speed,
    Telephone,
    TimeMask,
    TimeStretch,
    WaveformTransform,
    check_transform,
)
from serx.augment.transform import BaseTransform, registered_transforms

ALL = [
    Noise(snr_db=(5.0, 30.0)),
    Noise(p=1.0, color="pink"),
    BackgroundNoise(folder="noises"),
    Gain(),
    PolarityInversion(),
    Clipping(p=0.8),
    Clipping(p=1.0, shape="soft"),
    Crop(seconds=0.3),
    Shift(),
    Speed(p=0.8, ratio=(0.85, 1.2)),
    PitchShift(),
    TimeStretch(),
    PitchTempo(),
    LowPass(p=0.8),
    HighPass(p=0.8),
    BandPass(p=0.8),
    Equalizer(p=0.8),
    Telephone(p=0.8),
    Codec(p=0.8),
    Reverb(p=0.8),
    ImpulseResponse(p=0.8, folder="rooms"),
    TimeMask(count=2, width=6),
    FrequencyMask(p=0.5, count=2, width=4),
]


@pytest.mark.parametrize("transform", ALL, ids=lambda transform: transform.kind)
def test_every_shipped_transform_passes(transform):
    check_transform(transform)


def test_every_shipped_kind_is_checked():
    shipped = {k for k, c in registered_transforms(BaseTransform).items() if c.__module__.startswith("serx.augment.")}
    assert shipped == {transform.kind for transform in ALL}


class Sound(WaveformTransform):
    kind: Literal["sound"] = "sound"
    p: float = 0.5

    def draw(self, lengths, random, rate):
        return random.chance(self.p)


class NormalizesTheBatch(Sound):
    def apply(self, x, lengths, params):
        return torch.where(params[:, None], x / x.abs().max(), x), lengths


class ReadsPadding(Sound):
    def apply(self, x, lengths, params):
        return torch.where(params[:, None], x / (1 + x.abs().mean(1, keepdim=True)), x), lengths


class LeavesAnOffset(Sound):
    def apply(self, x, lengths, params):
        return x + 0.1 * params[:, None], lengths


class IsNeverOff(Sound):
    def apply(self, x, lengths, params):
        return 0.9 * x, lengths


class ChangesItsInput(Sound):
    def apply(self, x, lengths, params):
        return x.mul_(1 - 0.5 * params[:, None]), lengths


class DrawsByItself(Sound):
    def apply(self, x, lengths, params):
        return x * torch.rand(len(x), 1), lengths


class DividesByZero(Sound):
    def apply(self, x, lengths, params):
        return x / x.abs(), lengths


class MixesDevices(Sound):
    def apply(self, x, lengths, params):
        return x * torch.ones(x.shape[1]), lengths


class ReadsAValue(Sound):
    def apply(self, x, lengths, params):
        return x * (0.5 if params.any() and len(x) == 1000 else 1.0), lengths


class IndexesByAMask(Sound):
    def apply(self, x, lengths, params):
        y = x.clone()
        y[params] = -x[params]
        return y, lengths


class GivesTheWidth(Sound):
    def apply(self, x, lengths, params):
        return x, torch.full_like(lengths, x.shape[1])


class ReturnsDouble(Sound):
    def apply(self, x, lengths, params):
        return x.double(), lengths


class GivesFractionalLengths(Sound):
    def apply(self, x, lengths, params):
        return x, lengths / 2


class MasksLoudRows(SpectrogramTransform):
    kind: Literal["loud_rows"] = "loud_rows"

    def draw(self, lengths, random, rate):
        return None

    def apply(self, x, lengths, params):
        return x * (x.mean((0, 2), keepdim=True) > 0), lengths


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        (NormalizesTheBatch, "depends on the other clips"),
        (ReadsPadding, "depends on its padding"),
        (LeavesAnOffset, "not zero beyond its new length"),
        (IsNeverOff, "with p=0 the result is not the input"),
        (ChangesItsInput, "apply changes its input"),
        (DrawsByItself, "a second call differs"),
        (DividesByZero, "not finite"),
        (GivesTheWidth, "compute lengths from lengths and params"),
        (ReturnsDouble, "float32 is expected"),
        (GivesFractionalLengths, "must be .B,. int64"),
        (MasksLoudRows, "depends on the other clips"),
        (MixesDevices, "on a GPU it mixes devices or waits"),
        (ReadsAValue, "on a GPU it mixes devices or waits"),
        (IndexesByAMask, "on a GPU it mixes devices or waits"),
    ],
)
def test_a_faulty_transform_is_found(faulty, message):
    with pytest.raises(AssertionError, match=message):
        check_transform(faulty())
