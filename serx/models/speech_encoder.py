"""`SpeechEncoder`: wav2vec 2.0, HuBERT or WavLM encodes the waveform, and a small head classifies the emotion.

Input: waveforms as features `(B, 1, T)` and their `lengths (B,)`; output `(B, C)`. A frame covers 20 ms and its
convolutions read 25 ms; through attention it depends on the whole clip. Learned weights mix the layers (Yang et al.
2021, "SUPERB"), since the middle layers say most about emotion. Attentive statistics pool the mixture. WAV2VEC2_BASE
has 94.6 M parameters; with 8 classes the head has 0.24 M of them.

torchaudio's own forward lets padding into a clip: the group norm of the base models takes its statistics over padding,
and WavLM ignores lengths. Here the same modules run in the same order and mask each clip's end.
"""

import difflib
from itertools import chain
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torchaudio.models import Wav2Vec2Model

from serx.dsp.batching import valid_mask
from serx.models.encoders import BUNDLES, empty_encoder, pretrained_encoder
from serx.models.layers import AttentiveStatistics, Classifier
from serx.models.registry import BaseModelConfig, register_model

VARIANCE_FLOOR = 1e-7  # added to the variance of a waveform, as wav2vec 2.0 was trained
CLIPS_AT_A_TIME = 8  # through the convolutions: the first has 512 channels at 3200 frames a second


class SpeechEncoderConfig(BaseModelConfig):
    """The encoder, its weights, and how much of it is trained.

    >>> SpeechEncoderConfig(bundle="WAVLM_BASE_PLUS", tune="full", top_layers=4).sample_rate
    16000
    """

    kind: Literal["speech_encoder"] = "speech_encoder"
    bundle: str = Field("WAV2VEC2_BASE", description="a name in torchaudio.pipelines, such as WAVLM_BASE_PLUS")
    weights: str | None = Field(None, description="a .safetensors file; null: torchaudio's weights, downloaded once")
    tune: Literal["frozen", "full"] = Field(
        "frozen",
        description="full: train all but the convolutions, which Baevski et al. (2020) froze as well; "
        "frozen: train the head only",
    )
    top_layers: int | None = Field(None, ge=1, description="tune full: number of last layers to train; null: all")
    encoder_lr_scale: float = Field(
        0.05, gt=0, le=1, description="learning rate of the last layer, as a fraction of optim.lr"
    )
    layer_decay: float = Field(
        0.9, gt=0, le=1, description="learning rate of each layer, as a fraction of that of the layer above"
    )
    embedding: int = Field(256, ge=1, description="channels of each frame before the pooling")
    dropout: float = Field(0.3, ge=0, lt=1, description="before the output layer")

    @field_validator("bundle")
    @classmethod
    def _check_bundle(cls, name: str) -> str:
        if name not in BUNDLES:
            near = difflib.get_close_matches(name.upper(), BUNDLES, n=3, cutoff=0.5)
            raise ValueError(f"torchaudio has no bundle {name!r}; did you mean {', '.join(near) or 'WAV2VEC2_BASE'}?")
        return name

    @model_validator(mode="after")
    def _check_settings(self) -> "SpeechEncoderConfig":
        if self.ensemble_size > 1 or self.relaxed_freq_norm > 0:
            raise ValueError(
                "speech_encoder is one network that reads waveforms: leave ensemble_size at 1, relaxed_freq_norm at 0"
            )
        if self.top_layers is not None and self.tune == "frozen":
            raise ValueError("top_layers needs tune: full; no layer of a frozen encoder is trained")
        return self

    @property
    def sample_rate(self) -> int:
        """The sampling rate that the encoder was trained at, in Hz."""
        return round(BUNDLES[self.bundle].sample_rate)


@register_model(SpeechEncoderConfig)
class SpeechEncoder(nn.Module):
    """Encoder, weighted mixture of its layers, an embedding of each frame, attentive statistics, classifier."""

    def __init__(
        self, config: SpeechEncoderConfig, bins: int, classes: int, encoder: Wav2Vec2Model | None = None
    ) -> None:
        """`encoder` has random weights by default; `bins` is 1, since waveforms are the features."""
        super().__init__()
        encoder = encoder or empty_encoder(config.bundle)
        self.encoder = encoder.requires_grad_(False)
        layers, width = _layers(encoder), encoder.encoder.feature_projection.projection.out_features
        self.layer_scores = nn.Parameter(torch.zeros(1 + len(layers)))
        self.embedding = nn.Conv1d(width, config.embedding, 1)
        self.pool = AttentiveStatistics(config.embedding)
        self.classifier = Classifier(2 * config.embedding, classes, config.dropout)
        self._last_scale, self._decay = config.encoder_lr_scale, config.layer_decay
        self._tuned = _tunable_levels(encoder)[: config.top_layers] if config.tune == "full" else []
        for module in chain.from_iterable(self._tuned):
            module.requires_grad_()

    @classmethod
    def from_pretrained(cls, config: SpeechEncoderConfig, bins: int, classes: int) -> "SpeechEncoder":
        """With the encoder's published weights, or those of `config.weights`."""
        return cls(config, bins, classes, pretrained_encoder(config.bundle, config.weights))

    def rate_scales(self) -> dict[nn.Parameter, float]:
        """The learning rate of each tuned parameter as a share of `optim.lr`; it falls from the last layer down."""
        return {
            parameter: self._last_scale * self._decay**depth
            for depth, level in enumerate(self._tuned)
            for module in level
            for parameter in module.parameters()
        }

    def train(self, mode: bool = True) -> "SpeechEncoder":
        """Frozen parts stay in evaluation mode, so that they have no dropout."""
        super().train(mode)
        self.encoder.eval()
        for module in chain.from_iterable(self._tuned):
            module.train(mode)
        return self

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        waveform = standardize(features[:, 0], frames)
        chunks = zip(waveform.split(CLIPS_AT_A_TIME), frames.split(CLIPS_AT_A_TIME), strict=True)
        convolved = [self.convolve(*chunk) for chunk in chunks]
        x, frames = (torch.cat(column) for column in zip(*convolved, strict=True))
        weights = self.layer_scores.softmax(0)
        states = self.hidden_states(x, frames)
        mixture = sum(weight * F.layer_norm(h.float(), h.shape[-1:]) for weight, h in zip(weights, states, strict=True))
        return self.classifier(self.pool(F.relu(self.embedding(mixture.transpose(1, 2))), frames))

    def hidden_states(self, x: Tensor, frames: Tensor) -> list[Tensor]:
        """The input of the first layer and the output of each, `(B, N, D)`, from the convolutions' `x (B, N, E)`."""
        transformer = self.encoder.encoder.transformer
        valid = valid_mask(frames, x.shape[1])
        x = self.encoder.encoder.feature_projection(x) * valid[..., None]
        x = x + transformer.pos_conv_embed(x)
        x = transformer.dropout(transformer.layer_norm(x) if transformer.layer_norm_first else x)
        states, options = [x], _attention_options(transformer.layers[0].attention, valid)
        for layer in transformer.layers:  # no layer drop: it would wait for the device
            x, _ = layer(x, **options)
            states.append(x)
        if not transformer.layer_norm_first:
            states[-1] = transformer.layer_norm(x)
        return states

    def convolve(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """`waveform (B, T)` -> `(B, N, E)` and the frames `(B,)` that read no padding, at least one a clip."""
        blocks = self.encoder.feature_extractor.conv_layers
        receptive_field = 1
        for block in reversed(blocks):
            receptive_field = (receptive_field - 1) * block.stride + block.kernel_size
        x = F.pad(waveform, (0, max(0, receptive_field - waveform.shape[1])))[:, None]
        for block in blocks:
            lengths = (torch.div(lengths - block.kernel_size, block.stride, rounding_mode="floor") + 1).clamp(min=1)
            x = F.gelu(_group_norm(block.layer_norm, block.conv(x), lengths))
        return x.transpose(1, 2), lengths


def standardize(waveform: Tensor, lengths: Tensor) -> Tensor:
    """`waveform (B, T)`, zero beyond `lengths (B,)`, with each clip scaled to mean 0 and variance 1."""
    mask = valid_mask(lengths, waveform.shape[1])
    mean = waveform.sum(1, keepdim=True) / lengths[:, None]
    centered = (waveform - mean) * mask
    return centered * (centered.square().sum(1, keepdim=True) / lengths[:, None] + VARIANCE_FLOOR).rsqrt()


def _group_norm(norm: nn.Module | None, x: Tensor, frames: Tensor) -> Tensor:
    """Applies the norm of a convolution to `x (B, E, N)`; group norms take their statistics over valid frames only."""
    if not isinstance(norm, nn.GroupNorm):
        return x if norm is None else norm(x)
    mask, count, x = valid_mask(frames, x.shape[2])[:, None], frames[:, None, None], x.float()
    mean = (x * mask).sum(-1, keepdim=True) / count
    variance = ((x - mean) * mask).square().sum(-1, keepdim=True) / count
    return torch.addcmul(norm.bias[:, None], (x - mean) * (variance + norm.eps).rsqrt(), norm.weight[:, None])


def _attention_options(attention: Any, valid: Tensor) -> dict[str, Tensor]:
    """The arguments that keep attention within the frames of `valid (B, N)`.

    WavLM's layers take a padding mask, and the position biases, which they would otherwise compute on the host.
    """
    if not hasattr(attention, "rel_attn_embed"):
        return {"attention_mask": valid[:, None, None].expand(-1, 1, valid.shape[1], -1)}
    position = torch.arange(valid.shape[1], device=valid.device)
    buckets = attention._relative_positions_bucket(position - position[:, None], bidirectional=True)
    bias = attention.rel_attn_embed(buckets).permute(2, 0, 1)
    padding = torch.zeros_like(valid, dtype=bias.dtype).masked_fill(~valid, float("-inf"))
    return {"key_padding_mask": padding, "position_bias": bias.expand(len(valid), -1, -1, -1)}


def _layers(encoder: Wav2Vec2Model) -> nn.ModuleList:
    return encoder.encoder.transformer.layers


def _tunable_levels(encoder: Wav2Vec2Model) -> list[list[nn.Module]]:
    """What may be tuned, from the last layer down to the projection; each norm goes with the layer next to it."""
    levels: list[list[nn.Module]] = [[layer] for layer in reversed(_layers(encoder))]
    transformer = encoder.encoder.transformer
    levels.append([encoder.encoder.feature_projection, transformer.pos_conv_embed])
    levels[-1 if transformer.layer_norm_first else 0].append(transformer.layer_norm)
    return levels
