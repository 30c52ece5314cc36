"""`ProtocolConfig`: the settings of a split, and the places where they were written, for messages."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr

from serx.base_config import BaseConfig, Name, Seed
from serx.errors import ConfigError, DataError


def _as_names(value: Any) -> Any:
    """Lists become tuples, and numbers words: YAML reads 7 as a number."""
    is_list = isinstance(value, list | tuple)
    return tuple(str(name) if type(name) is int else name for name in value) if is_list else value


Names = Annotated[tuple[Name, ...], Field(max_length=10_000), BeforeValidator(_as_names)]


class Places(dict[str, str]):
    """Where each key was written, such as `data.labels` -> `mine.yaml:7`; no part of the setting itself.

    >>> Places({"data.labels": "mine.yaml:7"}) == Places()
    True
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Places)

    __hash__ = None


class ProtocolConfig(BaseConfig):
    """Which clips train, validate and test. `luna5` and `emobox6` split RAVDESS, `iemocap5` IEMOCAP; clips of other
    corpora then train.

    >>> ProtocolConfig(protocol="speakers", test_speakers=[7, "ravdess/08"]).test_speakers
    ('7', 'ravdess/08')
    """

    protocol: Literal[
        "luna5",
        "emobox6",
        "iemocap5",
        "speakers",
        "holdout",
        "kfold",
        "loso",
        "loco",
        "cross_corpus",
        "manifest",
        "random",
    ] = Field("holdout", description="how clips are split into train, valid and test (docs/protocols.md)")
    fold: int = Field(0, ge=0, lt=10_000, description="which fold is tested")
    folds: int = Field(5, ge=2, le=10_000, description="number of folds of kfold")
    test_speakers: Names = Field(
        (), description='protocol speakers: who is tested, such as 7 or "07", or ravdess/07 if corpora share a name'
    )
    valid_speakers: Names = Field((), description="protocol speakers: who validates; empty: chosen by valid_fraction")
    test_corpora: Names = Field(
        (), description="protocol cross_corpus: which corpora are tested; empty: fold i tests the i-th corpus by name"
    )
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="fraction of the speakers (random: of the clips) that are tested"
    )
    valid_fraction: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="fraction of the other speakers (random: clips) that validate; 0: no validation, and all of them "
        "train, in published folds too",
    )
    split_seed: Seed = Field(0, description="for random choices of speakers or clips; independent of train.seed")
    _places: Places = PrivateAttr(default_factory=Places)

    @property
    def places(self) -> Places:
        """Where the keys of this section were written, for messages; empty if that is not known."""
        return self._places

    def place_of(self, key: str) -> str:
        """Where a key, or the nearest key above it, was written; empty if that is not known.

        >>> config = ProtocolConfig()
        >>> config.places["data.test_speakers"] = "mine.yaml:7"
        >>> config.place_of("data.test_speakers.1"), config.place_of("data.folds")
        ('mine.yaml:7', '')
        """
        while "." in key:
            if key in self.places:
                return self.places[key]
            key = key.rpartition(".")[0]
        return ""


@contextmanager
def naming_places(config: ProtocolConfig) -> Iterator[None]:
    """Puts file and line before the lines of an error that begin with a key of the configuration.

    >>> config = ProtocolConfig()
    >>> config.places["data.labels"] = "mine.yaml:7"
    >>> try:
    ...     with naming_places(config):
    ...         raise DataError("data.labels.2: no emotion is called 'hapy'")
    ... except DataError as error:
    ...     print(error)
    mine.yaml:7: data.labels.2: no emotion is called 'hapy'
    """
    try:
        yield
    except (ConfigError, DataError) as error:
        lines = str(error).split("\n")
        keys = [re.match(r"data(\.[\w-]+)+", line) for line in lines]
        places = [config.place_of(key[0]) if key else "" for key in keys]
        if not any(places):
            raise
        named = [f"{place}: {line}" if place else line for place, line in zip(places, lines, strict=True)]
        raise type(error)("\n".join(named)) from error
