"""`Config`: the sections of a configuration, and the list of all their keys.

Each section is a frozen pydantic model next to the code that it configures.
"""

from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import model_validator

from serx.augment.compose import AugmentConfig
from serx.augment.transform import SpectrogramTransform, WaveformTransform, registered_transforms
from serx.base_config import BaseConfig
from serx.config.training import OptimConfig, TrainConfig
from serx.data.dataset import DataConfig
from serx.features.stack import FeaturesConfig
from serx.models.registry import BaseModelConfig, ModelConfig, model_kinds


class Config(BaseConfig):
    """The whole configuration of a run; docs/configuration.md lists every key. It is frozen.

    Attributes:
        data: which clips, how they are decoded, which speakers train and test.
        features: what the model reads.
        augment: transforms of training clips.
        model: the kind of model and its settings.
        optim: optimizer and learning rate.
        train: epochs, batches, device, loss, what is kept.

    Raises:
        pydantic.ValidationError: a key is unknown or missing, or a value is wrong. `serx.load_config` raises a
            `ConfigError` instead, which names the file and the line.

    >>> from serx.models import MlpConfig
    >>> config = Config(data={"root": "/corpora/ravdess"}, model=MlpConfig())
    >>> config.train.epochs, config.features.stack
    (30, ('logmel',))
    """

    data: DataConfig
    features: FeaturesConfig = FeaturesConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="before")
    @classmethod
    def _select_by_ccc(cls, values: Any) -> Any:
        """Without emotions there is no UAR to select by."""
        data, train = (values.get(name) if isinstance(values, Mapping) else None for name in ("data", "train"))
        tasks = data.get("tasks") if isinstance(data, Mapping) else getattr(data, "tasks", None)
        open_choice = train is None or (isinstance(train, Mapping) and "select" not in train)
        if open_choice and isinstance(tasks, list | tuple) and set(map(str, tasks)) == {"dimensions"}:
            return {**values, "train": {"select": "ccc", **(train or {})}}
        return values


def kind_of(section: type[BaseConfig]) -> str:
    """The `kind` of a model or a transform, or an empty string for other sections."""
    return section.model_fields["kind"].default if "kind" in section.model_fields else ""


def sections_of(annotation: Any) -> list[type[BaseConfig]]:
    """The sections that a type holds at any depth; of a model or a transform, those of every registered kind.

    Kinds that are built of trained models are left out: no recipe holds their keys.
    """
    if annotation is BaseModelConfig:
        return [kind.config for kind in model_kinds().values() if kind.config.is_trained]
    if annotation in (WaveformTransform, SpectrogramTransform):
        return list(registered_transforms(annotation).values())
    if isinstance(annotation, type) and issubclass(annotation, BaseConfig):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, UnionType, tuple):
        inner = [part for part in get_args(annotation) if part not in (NoneType, Ellipsis)]
        return [section for part in inner for section in sections_of(part)]
    return []


def dotted_keys(section: type[BaseConfig], prefix: str = "", kinds: Sequence[str] = ()) -> list[str]:
    """Every key of a section and of those within it, such as `optim.lr`.

    Where `kinds` names a kind of model or transform, the keys of other kinds are left out.
    """
    keys: list[str] = []
    for name, field in section.model_fields.items():
        keys.append(f"{prefix}{name}")
        sections = sections_of(field.annotation)
        named = [inner for inner in sections if kind_of(inner) and kind_of(inner) in kinds]
        for inner in named or sections:
            keys += dotted_keys(inner, f"{prefix}{name}.", kinds)
    return list(dict.fromkeys(keys))
