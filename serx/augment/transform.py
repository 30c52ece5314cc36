"""What every augmentation is: frozen settings that draw each clip's parameters, and a pure function that applies them.

`draw` takes all randomness from a `ClipRandom`, one stream a clip; `apply` has none. No loop over clips, nothing waits
for the device, and p = 0 gives the input back bit for bit. `lengths (B,)` are samples of waveforms `(B, T)` or frames
of spectrograms `(B, F, N)`, which are zero beyond them before and after.
"""

import math
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, Field
from torch import Tensor

from serx.seeding import ClipRandom


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{list(bounds)} begins above its end; write [low, high]")
    return bounds


def _above_zero(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] <= 0:
        raise ValueError(f"{list(bounds)} begins at or below 0")
    return bounds


Probability = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
PositiveRange = Annotated[Range, AfterValidator(_above_zero)]


def log_uniform(random: ClipRandom, bounds: tuple[float, float]) -> Tensor:
    """`(B,)` float32, each octave within `bounds` as likely as the next."""
    return random.uniform(math.log2(bounds[0]), math.log2(bounds[1])).double().exp2().float()


class Transform(Protocol):
    """What every transform can do; `rate` is samples or frames a second."""

    @property
    def kind(self) -> str: ...
    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> Any: ...
    def apply(self, x: Tensor, lengths: Tensor, params: Any) -> tuple[Tensor, Tensor]: ...
