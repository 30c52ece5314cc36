"""All random numbers of serx: each is a pure function of (seed, purpose, position), and of nothing drawn before.

No random state is kept between steps, so none has to be saved. Epoch 17 of a resumed run draws the same numbers as
epoch 17 of an uninterrupted run, and a clip's augmentation does not depend on the other clips of its batch.
"""

import hashlib

import torch
from torch import Tensor

# The finalizer of splitmix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"). Its
# unsigned constants are written as the signed 64-bit integers that torch multiplies modulo 2**64.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


def derive(seed: int, purpose: str, *position: int) -> int:
    """A 63-bit seed for one purpose at one position, such as `derive(seed, "order", epoch)`.

    >>> derive(0, "order", 3) == derive(0, "order", 3)
    True
    >>> derive(0, "order", 3) == derive(0, "order", 4)
    False
    """
    text = ":".join([str(seed), purpose, *map(str, position)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, purpose: str, *position: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator seeded by `derive`.

    >>> torch.equal(torch.rand(3, generator=generator(0, "x")), torch.rand(3, generator=generator(0, "x")))
    True
    """
    return torch.Generator(device).manual_seed(derive(seed, purpose, *position))


def _signed(number: int) -> int:
    """The signed 64-bit integer that equals `number` modulo 2**64."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _scramble(x: Tensor) -> Tensor:
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _FIRST  # the masks make the arithmetic shifts logical
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _SECOND
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


class ClipRandom:
    """One independent random stream per clip, drawn for the whole batch at once and without waiting for the device.

    The k-th draw of a clip is a hash of (key, clip id, k). It is the same on every device, in every batch and in any
    order of clips.

    >>> key = derive(0, "augment", 5)
    >>> batch, alone = ClipRandom(torch.tensor([7, 3, 12]), key), ClipRandom(torch.tensor([3]), key)
    >>> torch.equal(batch.uniform()[1:2], alone.uniform())
    True
    """

    def __init__(self, clips: Tensor, key: int) -> None:
        """Starts the streams of `clips (B,)`, int64 ids, under a key from `derive`."""
        self._keys = _scramble(clips * _GOLDEN + key)
        self._draws = 0

    def bits(self) -> Tensor:
        """The next `(B,)` int64, 64 random bits each."""
        self._draws += 1
        return _scramble(self._keys + _signed(self._draws * _GOLDEN))

    def uniform(self, low: float | Tensor = 0.0, high: float | Tensor = 1.0) -> Tensor:
        """`(B,)` float32 in [low, high)."""
        unit = ((self.bits() >> 40) & 0xFFFFFF).float() / (1 << 24)
        return low + unit * (high - low)

    def integers(self, count: int | Tensor) -> Tensor:
        """`(B,)` int64 in [0, count), or 0 where count is 0; uniform up to a bias of count / 2**40."""
        wide = (self.bits() >> 24) & 0xFFFFFFFFFF
        return wide % (count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1))

    def chance(self, p: float) -> Tensor:
        """`(B,)` bool, true with probability p: never at 0, always at 1."""
        return self.uniform() < p
