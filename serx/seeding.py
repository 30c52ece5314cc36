"""All of serx's randomness: streams that are a pure function of (seed, purpose, position), never of history.

Nothing keeps a random state between steps, so there is none to save: epoch 17 of a resumed run draws what epoch 17 of
an uninterrupted run draws, and a clip's augmentation does not depend on which clips share its batch.
"""

import hashlib

import torch
from torch import Tensor

# The finalizer of splitmix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"), whose
# unsigned constants are written as the signed 64-bit integers that torch multiplies modulo 2**64.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


def derive(seed: int, purpose: str, *position: int) -> int:
    """A 63-bit seed for one purpose at one position, such as `derive(0, "order", epoch)`."""
    text = ":".join([str(seed), purpose, *map(str, position)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, purpose: str, *position: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator seeded by `derive`."""
    return torch.Generator(device).manual_seed(derive(seed, purpose, *position))


def _signed(number: int) -> int:
    """The signed 64-bit integer that `number` is modulo 2**64."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _scramble(x: Tensor) -> Tensor:
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _FIRST  # the masks make the arithmetic shifts logical
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _SECOND
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


class ClipRandom:
    """One independent random stream a clip, drawn for the whole batch at once and without waiting for the device.

    The k-th draw of a clip is a hash of (key, clip id, k): the same on every device, in every batch, in any order.
    """

    def __init__(self, clips: Tensor, key: int) -> None:
        """Starts the streams of `clips (B,)` int64 under a `derive`d key."""
        self._keys = _scramble(clips * _GOLDEN + key)
        self._draws = 0

    def bits(self) -> Tensor:
        """The next `(B,)` int64 of all 64 bits."""
        self._draws += 1
        return _scramble(self._keys + _signed(self._draws * _GOLDEN))

    def uniform(self, low: float | Tensor = 0.0, high: float | Tensor = 1.0) -> Tensor:
        """`(B,)` float32 in [low, high)."""
        unit = ((self.bits() >> 40) & 0xFFFFFF).float() / (1 << 24)
        return low + unit * (high - low)

    def integers(self, count: int | Tensor) -> Tensor:
        """`(B,)` int64 in [0, count); 0 where count is 0. Exact up to a bias of count / 2**40."""
        wide = (self.bits() >> 24) & 0xFFFFFFFFFF
        return wide % (count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1))

    def chance(self, p: float) -> Tensor:
        """`(B,)` bool, true with probability p (never at 0, always at 1)."""
        return self.uniform() < p
