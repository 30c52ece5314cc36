"""`EncoderConfig`: which pretrained encoder a model is built on, for every kind of model that has one."""

import re

from pydantic import Field, field_validator
from typing_extensions import Self

from serx.base_config import FilePath
from serx.errors import ConfigError
from serx.models.encoders import Architecture, Encoder, resolve_encoder
from serx.models.encoders.architecture import WhisperArchitecture
from serx.models.registry import BaseModelConfig

MISSING_ARCHITECTURE = "model.architecture is missing; training reads it from model.source"
# The encoders that torchaudio named, by their ids on the hub.
_OF_TORCHAUDIO = {
    "WAV2VEC2_BASE": "facebook/wav2vec2-base",
    "WAV2VEC2_LARGE": "facebook/wav2vec2-large",
    "WAV2VEC2_LARGE_LV60K": "facebook/wav2vec2-large-lv60",
    "WAV2VEC2_XLSR53": "facebook/wav2vec2-large-xlsr-53",
    "WAV2VEC2_XLSR_300M": "facebook/wav2vec2-xls-r-300m",
    "HUBERT_BASE": "facebook/hubert-base-ls960",
    "HUBERT_LARGE": "facebook/hubert-large-ll60k",
    "WAVLM_BASE": "microsoft/wavlm-base",
    "WAVLM_BASE_PLUS": "microsoft/wavlm-base-plus",
    "WAVLM_LARGE": "microsoft/wavlm-large",
}


class EncoderConfig(BaseModelConfig):
    """The settings of every model on a pretrained encoder, which reads waveforms.

    >>> from serx.models import EncoderProbeConfig
    >>> isinstance(EncoderProbeConfig(), EncoderConfig), EncoderProbeConfig().sample_rate
    (True, 16000)
    """

    source: FilePath = Field(
        "openai/whisper-base",
        description="the encoder: an id on the Hugging Face hub, or a folder with config.json and model.safetensors",
    )
    revision: str | None = Field(
        None,
        min_length=1,
        max_length=255,
        description="a commit, tag or branch on the hub, or sha256:... of a folder's weights; "
        "training writes the commit here",
    )
    architecture: Architecture | None = Field(
        None, description="what the encoder is built of; training reads it from the source and writes it here"
    )
    pad_seconds: float | None = Field(
        None,
        ge=0.01,
        le=30,
        description="append silence to shorter clips up to this length, which costs time; null: each clip's own length",
    )

    @field_validator("source")
    @classmethod
    def _check_source(cls, name: str) -> str:
        if name in _OF_TORCHAUDIO or re.fullmatch("[A-Z0-9_]+", name):
            known = _OF_TORCHAUDIO.get(name, "facebook/wav2vec2-base")
            raise ValueError(f"{name} is a name of torchaudio; give an id on the hub, such as {known}, or a folder")
        return name

    @property
    def vector_size(self) -> int:
        """The mean and the deviation of the input of the first layer and of each layer's output: that many numbers.

        Raises:
            ConfigError: the architecture is not known yet; `resolved` reads it.
        """
        if self.architecture is None:
            raise ConfigError(MISSING_ARCHITECTURE)
        if isinstance(self.architecture, WhisperArchitecture):
            return 2 * self.architecture.d_model * (self.architecture.encoder_layers + 1)
        return 2 * self.architecture.hidden_size * (self.architecture.num_hidden_layers + 1)

    @property
    def sample_rate(self) -> int:
        """The sampling rate that encoders read, in Hz."""
        return Encoder.sample_rate

    def resolved(self) -> Self:
        found = resolve_encoder(self.source, self.revision)
        return self.model_copy(update={"revision": found.revision, "architecture": found.architecture})

    def resumed(self, saved: BaseModelConfig) -> Self:
        if not isinstance(saved, type(self)) or saved.source != self.source:
            return self
        revision = saved.revision if self.revision is None else self.revision
        return self.model_copy(update={"revision": revision, "architecture": saved.architecture})
