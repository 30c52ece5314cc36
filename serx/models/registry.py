"""The kinds of model that `model.kind` can name: each is a config class and the module that it builds.

Shipped kinds and kinds of your own register in the same way. A module that is given with `--import my_module` may hold

    class MyConfig(BaseModelConfig):
        kind: Literal["my_net"] = "my_net"
        width: int = Field(32, ge=1)

    @register_model(MyConfig)
    class MyNet(nn.Module):
        def __init__(self, config: MyConfig, bins: int, classes: int) -> None: ...
        def forward(self, features: Tensor, frames: Tensor) -> Tensor: ...   # (B, F, N), (B,) -> (B, C)

and `model: {kind: my_net, width: 64}` then trains it. `serx.testing.check_model` checks that it masks padding.
A checkpoint stores the kind alone. It never names code to import.
"""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

from pydantic import Field, PlainValidator, SerializeAsAny, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from torch import nn

from serx.base_config import BaseConfig
from serx.dsp.resampling import FASTEST, RATIO_STEPS, SLOWEST
from serx.registries import check_is_free, suggestion

M = TypeVar("M", bound=type[nn.Module])
Speed = Annotated[float, Field(ge=SLOWEST / RATIO_STEPS, le=FASTEST / RATIO_STEPS)]


class BaseModelConfig(BaseConfig):
    """The settings that every kind of model has.

    >>> from serx.models import MlpConfig
    >>> MlpConfig(widths=(64,)).ensemble_size
    1
    """

    is_trained: ClassVar[bool] = True  # False for a kind that is built of trained models

    kind: str
    ensemble_size: int = Field(1, ge=1, le=16, description="networks whose probabilities are averaged")
    tta_speeds: tuple[Speed, ...] = Field(
        (1.0,),
        min_length=1,
        max_length=16,
        description="test-time augmentation: playing speeds of a clip whose predictions are averaged",
    )
    tta_shifts: tuple[Annotated[int, Field(ge=0, le=64)], ...] = Field(
        (0,),
        min_length=1,
        max_length=16,
        description="test-time augmentation: frames by which a clip is moved back, and whose predictions are averaged; "
        "a network with strides then depends less on where a recording begins",
    )
    relaxed_freq_norm: float = Field(
        0.0,
        ge=0,
        le=1,
        description="weight of the features with each row of a clip normalized "
        "(relaxed instance frequency-wise normalization)",
    )
    adapt: bool = Field(
        False, description="evaluate with speaker adaptation, which uses a speaker's clips without their labels"
    )

    @property
    def fits(self) -> int | None:
        """The number of fits of a model that is fitted to all clips at once, each of them an epoch; None if it is
        trained by gradient descent."""
        return None

    def resolved(self) -> "BaseModelConfig":
        """The same settings with what a new run reads from outside, such as the architecture of an encoder.

        Raises:
            ConfigError: what the settings name cannot be used.
        """
        return self

    def resumed(self, saved: "BaseModelConfig") -> "BaseModelConfig":
        """The same settings with what the run to resume has read from outside; `saved` are those of its checkpoint."""
        return self


class ModelKind(NamedTuple):
    """A config class and the module class that it builds."""

    config: type[BaseModelConfig]
    module: type[nn.Module]


_KINDS: dict[str, ModelKind] = {}


def register_model(config: type[BaseModelConfig]) -> Callable[[M], M]:
    """Class decorator: `model.kind` may now name the kind of `config`, which builds the decorated module.

    The module is called as `Module(config, bins, classes)`; `classes` is the number of its outputs: emotions, then
    dimensions if it learns some. It may have two class methods that serx's own use:
    `from_pretrained(config, bins, classes)` builds it with published weights at the start of training, and
    `shared_part(config, bins, pretrained)` builds a module `features, frames -> features, frames` that the networks of
    an ensemble share, or returns None.

    Raises:
        ValueError: `config.kind` has no default, or another class has that kind.

    >>> from typing import Literal
    >>> from serx.models import BaseModelConfig, build_model, time_mask
    >>> class LinearConfig(BaseModelConfig):
    ...     kind: Literal["linear"] = "linear"
    >>> @register_model(LinearConfig)
    ... class Linear(nn.Linear):
    ...     def __init__(self, config, bins, classes):
    ...         super().__init__(bins, classes)
    ...     def forward(self, features, frames):
    ...         mean = (features * time_mask(frames, features)).sum(-1) / frames[:, None]
    ...         return super().forward(mean)
    >>> sum(p.numel() for p in build_model(LinearConfig(), bins=40, classes=4).parameters())
    164
    """
    kind = config.model_fields["kind"].default
    if not isinstance(kind, str):
        raise ValueError(f'{config.__name__}.kind has no default; write kind: Literal["name"] = "name"')

    def register(module: M) -> M:
        known = _KINDS.get(kind)
        check_is_free(f"model kind {kind!r}", known and known.config, config, "another kind")
        _KINDS[kind] = ModelKind(config, module)
        return module

    return register


def model_kinds() -> dict[str, ModelKind]:
    """Every registered kind by its name.

    >>> sorted(model_kinds())[:3]
    ['classical', 'cnn1d', 'cnn2d']
    """
    return dict(_KINDS)


def _validate(value: Any) -> BaseModelConfig:
    """The config of the kind that a mapping names. Errors lie at `kind` or at the key of that config."""
    if isinstance(value, BaseModelConfig):
        return value
    if not isinstance(value, dict):
        raise PydanticCustomError("value_error", "model should be keys, such as kind: cnn2d")
    if "kind" not in value:
        raise _error_at_kind("missing", value)
    kind = value["kind"]
    if not isinstance(kind, str) or kind not in _KINDS:
        known = sorted(name for name, entry in _KINDS.items() if entry.config.is_trained)
        message = (
            f"unknown model kind {kind!r}; {suggestion(str(kind), known)}known kinds are {', '.join(known)}; "
            "for a model of your own add --import MODULE, the module that registers it"
        )
        raise _error_at_kind(PydanticCustomError("value_error", "{message}", {"message": message}), kind)
    return _KINDS[kind].config.model_validate(value)


def _error_at_kind(error: str | PydanticCustomError, given: Any) -> ValidationError:
    return ValidationError.from_exception_data("model", [InitErrorDetails(type=error, loc=("kind",), input=given)])


# The `model` section: the config of any registered kind, chosen by `kind` when a configuration is read.
ModelConfig = Annotated[SerializeAsAny[BaseModelConfig], PlainValidator(_validate)]
