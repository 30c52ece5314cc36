"""`AudioConfig`: how a file becomes a waveform."""

from typing import Literal

from pydantic import Field

from serx.base_config import BaseConfig

Channel = Literal["mix", "left", "right"]


class AudioConfig(BaseConfig):
    """How a file becomes a waveform; part of the `data` section and of every checkpoint.

    >>> AudioConfig(sample_rate=8000).trim_db is None
    True
    """

    sample_rate: int = Field(16_000, ge=4_000, le=192_000, description="of the decoded audio; files are resampled")
    channel: Channel = Field(
        "mix", description="mix: the mean of all channels; left or right: one speaker of a call that is in stereo"
    )
    trim_db: float | None = Field(
        None, ge=1, le=200, description="trim the ends that stay this far below the loudest frame; null: no trimming"
    )
    trim_keep_seconds: float = Field(0.05, ge=0, le=60, description="of the trimmed ends, keep this much")
    trim_spread_db: float = Field(
        0.0,
        ge=0,
        le=60,
        description="trim at the mean of the cuts at thresholds up to this much above and below, so that a lossy copy "
        "is cut like its original; 0: one threshold",
    )
    offset_seconds: float = Field(0.0, ge=0, le=86_400, description="skip this much of the beginning")
    duration_seconds: float | None = Field(
        None, ge=0.001, le=86_400, description="then keep this much; shorter clips are kept whole; null: everything"
    )
    min_seconds: float = Field(0.1, ge=0, le=3600, description="shorter clips are skipped")
    max_seconds: float = Field(60.0, ge=0.001, le=86_400, description="longer clips are skipped")
