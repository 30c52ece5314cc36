"""All random numbers of serx: each is a pure function of (seed, purpose, position), and of nothing drawn before.

No random state is kept between steps, so none has to be saved. Epoch 17 of a resumed run draws the same numbers as
epoch 17 of an uninterrupted run, and a clip's augmentation does not depend on the other clips of its batch.
"""

import hashlib

import numpy as np
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


def is_plain_on_cpu(x: Tensor) -> bool:
    """Whether NumPy can read the tensor's memory: not on another device, not fake, not traced, without a gradient."""
    return type(x) is Tensor and x.device.type == "cpu" and not x.requires_grad and not torch.compiler.is_compiling()


def _signed(number: int) -> int:
    """The signed 64-bit integer that equals `number` modulo 2**64."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _scramble(x: Tensor) -> Tensor:
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _FIRST  # the masks make the arithmetic shifts logical
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _SECOND
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _scramble_unsigned(x: np.ndarray) -> np.ndarray:
    """`_scramble` of uint64."""
    x = (x ^ (x >> 30)) * np.uint64(_FIRST + (1 << 64))
    x = (x ^ (x >> 27)) * np.uint64(_SECOND + (1 << 64))
    return x ^ (x >> 31)


def _tensor(x: np.ndarray) -> Tensor:
    return torch.from_numpy(x.view(np.int64) if x.dtype == np.uint64 else x)


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
        self._draws = 0
        # The same numbers by NumPy, whose operations on few numbers take a fraction of torch's time.
        self._by_numpy = is_plain_on_cpu(clips)
        if self._by_numpy:
            products = clips.numpy().astype(np.uint64) * np.uint64(_GOLDEN + (1 << 64))
            self._unsigned_keys = _scramble_unsigned(products + np.uint64(key % (1 << 64)))
        else:
            self._keys = _scramble(clips * _GOLDEN + key)

    def bits(self) -> Tensor:
        """The next `(B,)` int64, 64 random bits each."""
        if self._by_numpy:
            return _tensor(self._unsigned_bits())
        self._draws += 1
        return _scramble(self._keys + _signed(self._draws * _GOLDEN))

    def _unsigned_bits(self) -> np.ndarray:
        self._draws += 1
        return _scramble_unsigned(self._unsigned_keys + np.uint64(self._draws * _GOLDEN % (1 << 64)))

    def _unit(self) -> np.ndarray:
        """`(B,)` float32 in [0, 1)."""
        return (self._unsigned_bits() >> 40).astype(np.float32) * np.float32(2**-24)

    def uniform(self, low: float | Tensor = 0.0, high: float | Tensor = 1.0) -> Tensor:
        """`(B,)` float32 in [low, high)."""
        if self._by_numpy and not isinstance(low, Tensor) and not isinstance(high, Tensor):
            return _tensor(np.float32(low) + self._unit() * np.float32(high - low))
        unit = _tensor(self._unit()) if self._by_numpy else ((self.bits() >> 40) & 0xFFFFFF).float() / (1 << 24)
        return low + unit * (high - low)

    def integers(self, count: int | Tensor) -> Tensor:
        """`(B,)` int64 in [0, count), or 0 where count is 0; uniform up to a bias of count / 2**40."""
        wide = (self.bits() >> 24) & 0xFFFFFFFFFF
        return wide % (count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1))

    def chance(self, p: float) -> Tensor:
        """`(B,)` bool, true with probability p: never at 0, always at 1."""
        return _tensor(self._unit() < np.float32(p)) if self._by_numpy else self.uniform() < p
