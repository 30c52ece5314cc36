"""All random numbers of serx: each is a pure function of (seed, purpose, position), and of nothing drawn before.

No random state is kept between steps, so none has to be saved. Epoch 17 of a resumed run draws the same numbers as
epoch 17 of an uninterrupted run, and a clip's augmentation does not depend on the other clips of its batch.
"""

import hashlib
from ctypes import c_float
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

# The finalizer of splitmix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"). Its
# unsigned constants are written as the signed 64-bit integers that torch multiplies modulo 2**64.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)
_MODULO = (1 << 64) - 1
_FIRST_UNSIGNED, _SECOND_UNSIGNED = _FIRST & _MODULO, _SECOND & _MODULO
_DENOMINATOR = np.float32(1 << 24)
FEW_CLIPS = 6  # up to so many, Python's integers are faster than NumPy's arrays


@lru_cache(maxsize=1024)  # a transform asks for the same one at every step of an epoch
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


def is_plain_on_cpu(x: Tensor) -> bool:
    """Whether NumPy can read the tensor's memory: not on another device, not fake, not traced, without a gradient."""
    return type(x) is Tensor and x.is_cpu and not x.requires_grad and not torch.compiler.is_compiling()


def _signed(number: int) -> int:
    """The signed 64-bit integer that equals `number` modulo 2**64."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _scramble(x: Tensor) -> Tensor:
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _FIRST  # the masks make the arithmetic shifts logical
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _SECOND
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _scramble_unsigned(x: np.ndarray) -> np.ndarray:
    """`_scramble` of uint64, which is written into `x`."""
    x ^= x >> 30
    x *= np.uint64(_FIRST_UNSIGNED)
    x ^= x >> 27
    x *= np.uint64(_SECOND_UNSIGNED)
    x ^= x >> 31
    return x


def _scramble_numbers(numbers: list[int]) -> list[int]:
    """`_scramble` of a few numbers, which are taken modulo 2**64."""
    scrambled = []
    for number in numbers:
        x = number & _MODULO
        x = (x ^ (x >> 30)) * _FIRST_UNSIGNED & _MODULO
        x = (x ^ (x >> 27)) * _SECOND_UNSIGNED & _MODULO
        scrambled.append(x ^ (x >> 31))
    return scrambled


@lru_cache(maxsize=256)
def _step_and_first(low: float, high: float) -> tuple[float, float]:
    """What `uniform` multiplies its whole numbers by, and adds: both float32."""
    return c_float(high - low).value / (1 << 24), c_float(low).value


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
        """Starts the streams of `clips (B,)`, int64 ids, under a key from `derive`; draws have the shape of `clips`."""
        self._clips, self._key, self._draws = clips, key, 0
        # The same numbers by NumPy or by Python, whose operations on few numbers take a fraction of torch's time.
        self._on_host = is_plain_on_cpu(clips)
        self._are_few = self._on_host and clips.dim() == 1 and clips.numel() <= FEW_CLIPS
        self._keys: Any = None  # made at the first draw

    def bits(self) -> Tensor:
        """The next `(B,)` int64, 64 random bits each."""
        if self._on_host:
            return torch.from_numpy(self._unsigned_bits().view(np.int64))
        if self._keys is None:
            self._keys = _scramble(self._clips * _GOLDEN + self._key)
        self._draws += 1
        return _scramble(self._keys + _signed(self._draws * _GOLDEN))

    def _unsigned_bits(self) -> np.ndarray:
        """`bits` as `(B,)` uint64 on the host."""
        if self._are_few:
            return np.array(self._numbers(), np.uint64)
        if self._keys is None:
            products = self._clips.numpy().astype(np.uint64) * np.uint64(_GOLDEN & _MODULO)
            self._keys = _scramble_unsigned(products + np.uint64(self._key & _MODULO))
        self._draws += 1
        return _scramble_unsigned(self._keys + np.uint64(self._draws * _GOLDEN & _MODULO))

    def _numerators(self) -> np.ndarray:
        """`(B,)` float32 on the host: whole numbers below `_DENOMINATOR`, by which a draw from [0, 1) is divided."""
        if self._are_few:
            return np.array([number >> 40 for number in self._numbers()], np.float32)
        return (self._unsigned_bits() >> 40).astype(np.float32)

    def _numbers(self) -> list[int]:
        """`bits` of few clips, without a sign."""
        if self._keys is None:
            key = self._key
            self._keys = _scramble_numbers([clip * _GOLDEN + key for clip in self._clips.tolist()])
        self._draws += 1
        step = self._draws * _GOLDEN
        return _scramble_numbers([key + step for key in self._keys])

    def uniform(self, low: float | Tensor = 0.0, high: float | Tensor = 1.0) -> Tensor:
        """`(B,)` float32 in [low, high)."""
        if self._on_host and not isinstance(low, Tensor) and not isinstance(high, Tensor):
            drawn = self._numerators()
            drawn *= np.float32(high - low) / _DENOMINATOR
            drawn += np.float32(low)
            return torch.from_numpy(drawn)
        unit = ((self.bits() >> 40) & 0xFFFFFF).float() / (1 << 24)
        return low + unit * (high - low)

    def integers(self, count: int | Tensor) -> Tensor:
        """`(B,)` int64 in [0, count), or 0 where count is 0; uniform up to a bias of count / 2**40."""
        if self._on_host and (not isinstance(count, Tensor) or is_plain_on_cpu(count)):
            drawn = (self._unsigned_bits() >> 24).view(np.int64)
            drawn %= np.maximum(count.numpy() if isinstance(count, Tensor) else count, 1)
            return torch.from_numpy(drawn)
        wide = (self.bits() >> 24) & 0xFFFFFFFFFF
        return wide % (count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1))

    def chance(self, p: float) -> Tensor:
        """`(B,)` bool, true with probability p: never at 0, always at 1."""
        if p <= 0 or p >= 1:
            self._draws += 1
            return self._clips.new_full(self._clips.shape, p >= 1, dtype=torch.bool)
        if self._on_host:
            return torch.from_numpy(self._numerators() < np.float32(p) * _DENOMINATOR)
        return self.uniform() < p

    def uniforms(self, low: float, high: float) -> list[float]:
        """`uniform` of clips `(B,)` as Python numbers, without a tensor if there are few on a CPU.

        >>> drawn = ClipRandom(torch.tensor([3]), key=0).uniform(2, 5)
        >>> torch.equal(torch.tensor(ClipRandom(torch.tensor([3]), key=0).uniforms(2, 5)), drawn)
        True
        """
        if not self._are_few:
            return cast(list[float], self.uniform(low, high).tolist())
        step, first = _step_and_first(low, high)
        # An operation of float64, rounded to float32, has the bits of float32's own.
        return [c_float(c_float((number >> 40) * step).value + first).value for number in self._numbers()]

    def chances(self, p: float) -> list[bool]:
        """`chance` of clips `(B,)` as Python values, without a tensor if there are few on a CPU, or if p is 0 or 1."""
        if p <= 0 or p >= 1:
            self._draws += 1
            return [p >= 1] * self._clips.numel()
        if not self._are_few:
            return cast(list[bool], self.chance(p).tolist())
        bound = c_float(p).value * (1 << 24)
        return [number >> 40 < bound for number in self._numbers()]
