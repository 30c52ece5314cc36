"""`SpeechEncoder`: a pretrained encoder reads the waveform, and a small head classifies the emotion.

Input: waveforms as features `(B, 1, T)` and their `lengths (B,)`; output `(B, C)`. The encoder is Whisper's, wav2vec
2.0, XLS-R, HuBERT, WavLM or data2vec-audio (`serx.models.encoders`). Every layer is used, since the middle ones say
most about emotion: their statistics concatenated, or mixed with learned weights (Yang et al. 2021, "SUPERB") and pooled
by attentive statistics. Only a clip's own frames are pooled.
"""

from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from serx.base_config import Channels, Dropout
from serx.errors import ConfigError
from serx.models.encoder_config import EncoderConfig
from serx.models.encoders import Encoder, EncoderOptions, add_lora, build_encoder, load_encoder, resolve_encoder
from serx.models.frame_cache import FrameCache
from serx.models.layers import AttentiveStatistics, Classifier
from serx.models.registry import register_model

MaskSize = Annotated[int, Field(ge=0, le=10_000)]


class SpeechEncoderConfig(EncoderConfig):
    """The encoder, how much of it is trained, and the head.

    >>> SpeechEncoderConfig(source="openai/whisper-base", tune="full", top_layers=4).sample_rate
    16000
    """

    kind: Literal["speech_encoder"] = "speech_encoder"
    tune: Literal["frozen", "lora", "full"] = Field(
        "frozen",
        description="full: train all but the convolutions, which Baevski et al. (2020) froze as well; "
        "lora: train low-rank updates of the query, value and feed-forward layers (Hu et al. 2022) at optim.lr; "
        "frozen: train the head only",
    )
    lora_rank: int = Field(8, ge=1, le=1024, description="tune lora: rank of the updates")
    lora_alpha: float = Field(16.0, gt=0, le=4096, description="tune lora: the updates are scaled by alpha / rank")
    top_layers: int | None = Field(
        None, ge=1, le=100, description="tune full or lora: number of last layers to train; null: all"
    )
    encoder_lr_scale: float = Field(
        0.05, ge=1e-6, le=1, description="tune full: learning rate of the last layer, as a fraction of optim.lr"
    )
    layer_decay: float = Field(
        0.9,
        ge=1e-3,
        le=1,
        description="tune full: learning rate of each layer, as a fraction of that of the layer above",
    )
    encoder_dropout: Dropout = Field(0.0, description="dropout within the layers that are trained")
    mask_time: tuple[MaskSize, MaskSize] = Field(
        (0, 0),
        description="[number, largest width in frames] of the stretches of the encoder's input features that are "
        "masked in training; a frame is 10 ms of Whisper's log-mel, or 20 ms of the others' convolutions",
    )
    mask_feature: tuple[MaskSize, MaskSize] = Field(
        (0, 0), description="[number, largest width] of the ranges of the input's channels that are masked in training"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute layers again in the backward pass, which takes less memory and more time"
    )
    pooling: Literal["attentive", "statistics"] = Field(
        "attentive",
        description="attentive: a learned mixture of the layers, embedded and pooled with attention; "
        "statistics: mean and standard deviation of every layer over time",
    )
    cache_frames: bool = Field(
        False,
        description="tune frozen, pooling attentive: keep the frames of every layer on disk in half precision, beside "
        "the decoded audio, so that later epochs, heads and seeds do not encode again; 0.36 MB a "
        "second of Whisper-base",
    )
    embedding: Channels = Field(256, description="pooling attentive: channels of each frame before the pooling")
    dropout: Dropout = Field(0.3, description="before the output layer")

    @model_validator(mode="before")
    @classmethod
    def _check_old_keys(cls, given: Any) -> Any:
        if isinstance(given, dict) and "weights" in given:
            raise ValueError("speech_encoder has no key weights: name the folder that holds them in model.source")
        return given

    @field_validator("mask_time", "mask_feature")
    @classmethod
    def _check_mask(cls, mask: tuple[int, int]) -> tuple[int, int]:
        if (mask[0] == 0) != (mask[1] == 0):
            raise ValueError("write [number, largest width], such as [2, 10], or [0, 0] for none")
        return mask

    @model_validator(mode="after")
    def _check_settings(self) -> "SpeechEncoderConfig":
        if self.ensemble_size > 1 or self.relaxed_freq_norm > 0:
            raise ValueError(
                "speech_encoder is one network that reads waveforms: leave ensemble_size at 1, relaxed_freq_norm at 0"
            )
        if self.tune == "frozen":
            for name in ("top_layers", "encoder_dropout", "gradient_checkpointing"):
                if getattr(self, name):
                    raise ValueError(f"{name} needs tune: full or lora; no layer of a frozen encoder is trained")
        if self.cache_frames:
            if self.tune != "frozen" or self.pooling != "attentive":
                raise ValueError(
                    "cache_frames needs tune: frozen and pooling: attentive; frames of a trained encoder change, and "
                    "for statistics of frames there is encoder_probe"
                )
            if self.mask_time[0] or self.mask_feature[0]:
                raise ValueError("cache_frames: mask_time and mask_feature mask each clip anew; leave them at [0, 0]")
        for name in ("lora_rank", "lora_alpha"):
            if self.tune != "lora" and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} needs tune: lora")
        for name in ("encoder_lr_scale", "layer_decay"):
            if self.tune == "lora" and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} needs tune: full; the updates of tune: lora are trained at optim.lr")
        return self

    @property
    def options(self) -> EncoderOptions:
        """How the encoder is used."""
        return EncoderOptions(
            dropout=self.encoder_dropout,
            mask_time=self.mask_time,
            mask_feature=self.mask_feature,
            pad_seconds=self.pad_seconds,
            gradient_checkpointing=self.gradient_checkpointing,
        )


@register_model(SpeechEncoderConfig)
class SpeechEncoder(nn.Module):
    """The encoder, and a head over all its layers.

    Raises:
        ConfigError: `config` has no architecture; `config.resolved()` reads it from the source.
    """

    def __init__(self, config: SpeechEncoderConfig, bins: int, classes: int, encoder: Encoder | None = None) -> None:
        """`encoder` has random weights by default; `bins` is 1, since waveforms are the features."""
        super().__init__()
        if encoder is None:
            if config.architecture is None:
                raise ConfigError("model.architecture is missing; training reads it from model.source")
            encoder = build_encoder(config.architecture, config.options)
        self.encoder = encoder.requires_grad_(False)
        states, width = encoder.depth + 1, encoder.width
        self.pooling, self.cache_frames = config.pooling, config.cache_frames
        self.frame_cache: FrameCache | None = None
        if config.pooling == "attentive":
            self.layer_scores = nn.Parameter(torch.zeros(states))
            self.embedding = nn.Linear(width, config.embedding)
            self.pool = AttentiveStatistics(config.embedding)
        embedded = 2 * (config.embedding if config.pooling == "attentive" else states * width)
        self.classifier = Classifier(embedded, classes, config.dropout)
        self._last_scale, self._decay = config.encoder_lr_scale, config.layer_decay
        self._is_lora = config.tune == "lora"
        self._tuned: list[list[nn.Module]] = []
        if config.tune == "full":
            self._tuned = encoder.levels()[: config.top_layers]
            for module in chain.from_iterable(self._tuned):
                module.requires_grad_()
        elif self._is_lora:
            self._tuned = add_lora(encoder, config.lora_rank, config.lora_alpha, config.top_layers)

    @classmethod
    def from_pretrained(cls, config: SpeechEncoderConfig, bins: int, classes: int) -> "SpeechEncoder":
        """With the weights of `config.source`."""
        found = resolve_encoder(config.source, config.revision)
        return cls(config, bins, classes, load_encoder(found, config.options))

    def use_frame_cache(self, folder: Path) -> None:
        """Keeps the encoder's frames of each clip in `folder` if `cache_frames` says so."""
        if self.cache_frames:
            self.frame_cache = FrameCache(self.encoder, folder)

    def rate_scales(self) -> dict[nn.Parameter, float]:
        """The learning rate of each tuned parameter as a share of `optim.lr`; it falls from the last layer down.

        The updates of LoRA have the whole rate.
        """
        if self._is_lora:
            return {}
        return {
            parameter: self._last_scale * self._decay**depth
            for depth, level in enumerate(self._tuned)
            for module in level
            for parameter in module.parameters()
        }

    def train(self, mode: bool = True) -> "SpeechEncoder":
        """Frozen parts stay in evaluation mode, so that they have no dropout; masks of the input are for training."""
        super().train(mode)
        self.encoder.eval()
        self.encoder.input_masks.train(mode)
        for module in chain.from_iterable(self._tuned):
            module.train(mode)
        return self

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        if self.pooling == "statistics":
            return self.classifier(self.encoder.layer_statistics(features[:, 0], frames))
        encode = self.encoder if self.frame_cache is None else self.frame_cache
        states, frames = encode(features[:, 0], frames)
        weights = self.layer_scores.softmax(0)
        mixture = sum(weight * F.layer_norm(h.float(), h.shape[-1:]) for weight, h in zip(weights, states, strict=True))
        return self.classifier(self.pool(self.embedding(mixture).transpose(1, 2), frames))
