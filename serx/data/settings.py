"""The `data` section: which audio, under which protocol, as which labels."""

from typing import Literal

from pydantic import Field

from serx.data.audio import AudioConfig
from serx.data.corpus import Placement
from serx.data.protocols import ProtocolConfig


class DataConfig(AudioConfig, ProtocolConfig):
    """Corpora and labels, beside how files are decoded (`AudioConfig`) and split (`ProtocolConfig`)."""

    root: str | tuple[str, ...]  # a corpus, a folder of several, a manifest.csv, or a list of those
    styles: tuple[str, ...] = Field(("speech",), min_length=1)  # add song for RAVDESS's sung clips
    # the classes, in order; shared: the emotions that every corpus has, others dropped; default: those that are there
    labels: tuple[str, ...] | Literal["shared"] | None = None
    label_map: dict[str, str | None] = Field(default_factory=dict)  # calm: neutral renames, boredom: null drops
    cache: str | None = None  # decoded audio; default $SERX_CACHE or ~/.cache/serx
    placement: Placement = "auto"  # audio whole on the device, streamed from disk, or whichever fits
