"""What a transform is: frozen settings, `draw` for the random parameters of each clip, and a pure `apply`.

    draw(lengths, random, rate) -> params       all randomness, from a `ClipRandom` with one stream for each clip
    apply(x, lengths, params) -> x, lengths     no randomness, x (B, T) or (B, F, N), zero beyond lengths (B,)

Neither loops over clips, indexes with a boolean mask or calls `.item()`, so a GPU is never waited for. With `p=0` the
result is the input bit for bit. A clip's result depends neither on its padding nor on the other clips of its batch:
`check_transform` tests all of this.

Shipped transforms and transforms of your own register in the same way. A module that is given with `--import my_module`
may hold

    @register_transform
    class Tremolo(WaveformTransform):
        kind: Literal["tremolo"] = "tremolo"
        p: Probability = 0.5
        rate_hz: PositiveRange = (2.0, 8.0)
        def draw(self, lengths, random, rate): ...
        def apply(self, x, lengths, params): ...

and `augment: {waveform: [{kind: tremolo, p: 0.3}]}` then uses it. A checkpoint stores the kind alone. It never names
code to import.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Protocol, TypeVar

import torch
from pydantic import AfterValidator, Field, PlainValidator, SerializeAsAny, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from torch import Tensor

from serx.base_config import BaseConfig
from serx.registries import check_is_free, suggestion
from serx.seeding import ClipRandom

T = TypeVar("T", bound="BaseTransform")


def ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    """A range that begins at or below its end: the validator of every range.

    Raises:
        ValueError: it begins above its end.
    """
    if bounds[0] > bounds[1]:
        raise ValueError(f"{list(bounds)} begins above its end; write [low, high]")
    return bounds


def _above_zero(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] <= 0:
        raise ValueError(f"{list(bounds)} begins at or below 0; give positive numbers")
    return bounds


Probability = Annotated[float, Field(ge=0, le=1)]
Decibels = Annotated[float, Field(ge=-100, le=100)]
DecibelRange = Annotated[tuple[Decibels, Decibels], AfterValidator(ordered)]
Number = Annotated[float, Field(ge=-1e6, le=1e6)]
Range = Annotated[tuple[Number, Number], AfterValidator(ordered)]
PositiveRange = Annotated[Range, AfterValidator(_above_zero)]


def log_uniform(random: ClipRandom, bounds: tuple[float, float], count: int | None = None) -> Tensor:
    """Float32 within `bounds`, uniform in the logarithm, so that each octave has the same probability.

    Args:
        count: of numbers for each clip. The result is `(B, count)`, or `(B,)` if None.
    """
    logarithms = math.log2(bounds[0]), math.log2(bounds[1])
    if count is None:
        drawn = random.uniform(*logarithms)
    else:
        drawn = torch.stack([random.uniform(*logarithms) for _ in range(count)], 1)
    return drawn.double().exp2().float()


class Transform(Protocol):
    """What `augment` applies: a `BaseTransform`, or one together with its recordings."""

    @property
    def kind(self) -> str: ...
    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> Any: ...
    def apply(self, x: Tensor, lengths: Tensor, params: Any) -> tuple[Tensor, Tensor]: ...


class BaseTransform(BaseConfig):
    """The settings of a transform. Derive from `WaveformTransform` or `SpectrogramTransform`."""

    kind: str
    # Whether `apply` reads and writes each sample once on a CPU. Alone, such a transform gains nothing from chunks.
    is_one_pass: ClassVar[bool] = False
    # Whether `apply` takes `in_place=True` from a caller who does not need `x` any more, and may then overwrite it.
    works_in_place: ClassVar[bool] = False
    changes_rows: ClassVar[bool] = False  # whether it is a `RowTransform`

    def why_not_at(self, sample_rate: float) -> str | None:
        """Why the transform is of no use for audio at this sample rate, and how to mend it; None if it is."""
        return None

    @abstractmethod
    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> Any:
        """The parameters of every clip, tensors `(B,)` on the device of `lengths`.

        Args:
            lengths: `(B,)` int64, samples or frames.
            random: `uniform`, `integers` and `chance` give one number for each clip.
            rate: samples or frames per second.
        """

    @abstractmethod
    def apply(self, x: Tensor, lengths: Tensor, params: Any) -> tuple[Tensor, Tensor]:
        """The transformed clips and their new lengths. `x` is left unchanged.

        Args:
            x: `(B, T)` or `(B, F, N)` float32, zero beyond `lengths (B,)`. So must the result be.
            params: what `draw` returned.
        """


class WaveformTransform(BaseTransform):
    """A transform of waveforms `(B, T)`, for the list `augment.waveform`.

    >>> from typing import Literal
    >>> from serx.augment import check_transform
    >>> class Mute(WaveformTransform):
    ...     kind: Literal["mute"] = "mute"
    ...     p: float = 0.5
    ...     def draw(self, lengths, random, rate):
    ...         return random.chance(self.p)
    ...     def apply(self, x, lengths, params):
    ...         return torch.where(params[:, None], 0.0, x), lengths
    >>> import torch
    >>> check_transform(Mute())
    """


class RowTransform(WaveformTransform):
    """A waveform transform that a CPU applies in place by `change`, one clip after the other.

    A dozen operations on tensors `(B,)` take longer than the samples of a clip. `change` draws Python numbers instead,
    the same as `draw`.
    """

    is_one_pass: ClassVar[bool] = True
    changes_rows: ClassVar[bool] = True

    @abstractmethod
    def change(self, x: Tensor, lengths: Tensor, random: ClipRandom, rate: float) -> None:
        """Writes into `x (B, T)`, which is on a CPU, what `apply` returns for the parameters that `draw` returns."""


class SpectrogramTransform(BaseTransform):
    """A transform of normalized features `(B, F, N)`, for the list `augment.spectrogram`.

    >>> from serx.augment import FrequencyMask
    >>> isinstance(FrequencyMask(), SpectrogramTransform)
    True
    """


_KINDS: dict[str, type[BaseTransform]] = {}


def register_transform(cls: type[T]) -> type[T]:
    """Class decorator: the lists of transforms may now name `cls.kind`.

    Raises:
        ValueError: the class derives neither from `WaveformTransform` nor from `SpectrogramTransform`, its `kind` has
            no default, or another class has that kind.

    >>> from typing import Literal
    >>> @register_transform
    ... class Halve(WaveformTransform):
    ...     kind: Literal["halve"] = "halve"
    ...     p: float = 0.5
    ...     def draw(self, lengths, random, rate):
    ...         return 1 - 0.5 * random.chance(self.p).float()
    ...     def apply(self, x, lengths, params):
    ...         return x * params[:, None], lengths
    >>> from serx.augment import AugmentConfig
    >>> AugmentConfig(waveform=[{"kind": "halve", "p": 0.3}]).waveform[0].p
    0.3
    """
    if not issubclass(cls, WaveformTransform | SpectrogramTransform):
        raise ValueError(f"{cls.__name__} must derive from WaveformTransform or SpectrogramTransform")
    kind = cls.model_fields["kind"].default
    if not isinstance(kind, str):
        raise ValueError(f'{cls.__name__}.kind has no default; write kind: Literal["name"] = "name"')
    check_is_free(f"transform kind {kind!r}", _KINDS.get(kind), cls, "another kind")
    _KINDS[kind] = cls
    return cls


def registered_transforms(base: type[T]) -> dict[str, type[T]]:
    """The registered classes that derive from `base`, by kind."""
    return {kind: cls for kind, cls in _KINDS.items() if issubclass(cls, base)}


def _validator(base: type[T], list_name: str) -> Callable[[Any], T]:
    """A function that makes a transform of a mapping by its `kind`. Errors lie at `kind` or at the transform's key."""

    def validate(value: Any) -> T:
        if isinstance(value, base):
            return value
        if not isinstance(value, dict):
            raise PydanticCustomError("value_error", "a transform should be keys, such as {example}", _EXAMPLE)
        if "kind" not in value:
            raise _error_at_kind("missing", value)
        kind, kinds = value["kind"], registered_transforms(base)
        if isinstance(kind, str) and kind in kinds:
            return kinds[kind].model_validate(value)
        raise _error_at_kind(PydanticCustomError("value_error", "{message}", {"message": message(kind)}), kind)

    def message(kind: Any) -> str:
        if isinstance(kind, str) and kind in _KINDS:
            other = "spectrogram" if list_name == "waveform" else "waveform"
            return f"{kind!r} is a {other} transform; move it to augment.{other}"
        kinds = registered_transforms(base)
        return (
            f"unknown {list_name} transform {kind!r}; {suggestion(str(kind), kinds)}"
            f"known kinds are {', '.join(sorted(kinds))}; "
            "for a transform of your own add --import MODULE, the module that registers it"
        )

    return validate


_EXAMPLE = {"example": "{kind: noise, p: 0.5}"}


def _error_at_kind(error: str | PydanticCustomError, given: Any) -> ValidationError:
    return ValidationError.from_exception_data("transform", [InitErrorDetails(type=error, loc=("kind",), input=given)])


# An item of `augment.waveform` or `augment.spectrogram`: any registered kind, chosen when a configuration is read.
AnyWaveformTransform = Annotated[
    SerializeAsAny[WaveformTransform], PlainValidator(_validator(WaveformTransform, "waveform"))
]
AnySpectrogramTransform = Annotated[
    SerializeAsAny[SpectrogramTransform], PlainValidator(_validator(SpectrogramTransform, "spectrogram"))
]
