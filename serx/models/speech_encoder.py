"""`SpeechEncoder`: wav2vec 2.0, HuBERT or WavLM hears the waveform, a small head tells the emotion.

Input: waveforms as features `(B, 1, T)` and their `lengths (B,)`; output `(B, C)`. One frame is 20 ms and hears 25 ms,
and through attention the whole clip. The layers are mixed by learned weights (Yang et al. 2021, "SUPERB"), since emotion
is told by the middle ones; the mixture goes through attentive statistics. WAV2VEC2_BASE has 94.6 M parameters; with 8
classes 0.24 M are the head's.

torchaudio's own forward lets padding into a clip (the group norm of the base models takes its statistics over it, and
WavLM takes no lengths): here the same modules run in the same order with every clip's end kept.
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
from serx.models.encoders import BUNDLES
from serx.models.ensemble import BaseModelConfig
from serx.models.layers import AttentiveStatistics, Classifier

SILENT = 1e-7  # variance added to a waveform's, as wav2vec 2.0 was trained with
CLIPS = 8  # at a time through the convolutions, whose first has 512 channels at 3200 frames a second


class SpeechEncoderConfig(BaseModelConfig):
    """Which encoder, whose weights, and how much of it learns."""

    kind: Literal["speech_encoder"] = "speech_encoder"
    bundle: str = "WAV2VEC2_BASE"  # a name in torchaudio.pipelines
    weights: str | None = None  # a .safetensors file; default: what torchaudio publishes, fetched once
    tune: Literal["frozen", "full"] = "frozen"  # full: all but the convolutions, which Baevski et al. 2020 froze too
    top_layers: int | None = Field(None, ge=1)  # with tune: full, train so many of the last layers only
    encoder_lr_scale: float = Field(0.05, gt=0, le=1)  # the last layer's learning rate, as a share of optim.lr
    layer_decay: float = Field(0.9, gt=0, le=1)  # each layer below learns at so much of the rate above it
    embedding: int = Field(256, ge=1)
    dropout: float = Field(0.3, ge=0, lt=1)

    @field_validator("bundle")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in BUNDLES:
            near = difflib.get_close_matches(name.upper(), BUNDLES, n=3, cutoff=0.5)
            raise ValueError(f"torchaudio has no bundle {name!r}; did you mean {', '.join(near) or 'WAV2VEC2_BASE'}?")
        return name

    @model_validator(mode="after")
    def _consistent(self) -> "SpeechEncoderConfig":
        if self.ensemble_size > 1 or self.relaxed_freq_norm > 0:
            raise ValueError(
                "one encoder hears the waveform as it is: leave ensemble_size at 1 and relaxed_freq_norm at 0"
            )
        if self.top_layers is not None and self.tune == "frozen":
            raise ValueError("top_layers is for tune: full; a frozen encoder learns in no layer")
        return self

    @property
    def sample_rate(self) -> int:
        """What the encoder was trained on, in Hz."""
        return round(BUNDLES[self.bundle].sample_rate)


class SpeechEncoder(nn.Module):
    """See the module's first lines."""

    def __init__(self, config: SpeechEncoderConfig, encoder: Wav2Vec2Model, classes: int) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        layers, width = _layers(encoder), encoder.encoder.feature_projection.projection.out_features
        self.layer_scores = nn.Parameter(torch.zeros(1 + len(layers)))
        self.embed = nn.Conv1d(width, config.embedding, 1)
        self.pool = AttentiveStatistics(config.embedding)
        self.classify = Classifier(2 * config.embedding, classes, config.dropout)
        self._rate, self._decay = config.encoder_lr_scale, config.layer_decay
        self._tuned = _levels(encoder)[: config.top_layers] if config.tune == "full" else []
        for module in chain.from_iterable(self._tuned):
            module.requires_grad_()

    def rate_scales(self) -> dict[nn.Parameter, float]:
        """Each tuned parameter's learning rate as a share of `optim.lr`, less with each layer below the last."""
        return {
            parameter: self._rate * self._decay**depth
            for depth, level in enumerate(self._tuned)
            for module in level
            for parameter in module.parameters()
        }

    def train(self, mode: bool = True) -> "SpeechEncoder":
        """As any module's, but what is frozen stays in evaluation: without dropout."""
        super().train(mode)
        self.encoder.eval()
        for module in chain.from_iterable(self._tuned):
            module.train(mode)
        return self

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        waveform = standardize(features[:, 0], frames)
        parts = [self._convolve(*part) for part in zip(waveform.split(CLIPS), frames.split(CLIPS), strict=True)]
        x, frames = (torch.cat(column) for column in zip(*parts, strict=True))
        weights = self.layer_scores.softmax(0)
        hidden = self.hidden(x, frames)
        mixture = sum(weight * F.layer_norm(h.float(), h.shape[-1:]) for weight, h in zip(weights, hidden, strict=True))
        return self.classify(self.pool(F.relu(self.embed(mixture.transpose(1, 2))), frames))

    def hidden(self, x: Tensor, frames: Tensor) -> list[Tensor]:
        """What goes into the first layer and comes out of each, `(B, N, D)`, of the convolutions' `x (B, N, E)`."""
        transformer = self.encoder.encoder.transformer
        valid = valid_mask(frames, x.shape[1])
        x = self.encoder.encoder.feature_projection(x) * valid[..., None]
        x = x + transformer.pos_conv_embed(x)
        x = transformer.dropout(transformer.layer_norm(x) if transformer.layer_norm_first else x)
        states, options = [x], _attention_options(transformer.layers[0].attention, valid)
        for layer in transformer.layers:  # all of them: leaving one out at random would wait for the device
            x, _ = layer(x, **options)
            states.append(x)
        if not transformer.layer_norm_first:
            states[-1] = transformer.layer_norm(x)
        return states

    def _convolve(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """`waveform (B, T)` -> `(B, N, E)` and frames `(B,)`: those that hear the clip alone, and at least one."""
        blocks = self.encoder.feature_extractor.conv_layers
        reach = 1
        for block in reversed(blocks):
            reach = (reach - 1) * block.stride + block.kernel_size
        x = F.pad(waveform, (0, max(0, reach - waveform.shape[1])))[:, None]
        for block in blocks:
            lengths = (torch.div(lengths - block.kernel_size, block.stride, rounding_mode="floor") + 1).clamp(min=1)
            x = F.gelu(_group_norm(block.layer_norm, block.conv(x), lengths))
        return x.transpose(1, 2), lengths


def standardize(waveform: Tensor, lengths: Tensor) -> Tensor:
    """`waveform (B, T)`, zero beyond `lengths (B,)`, to mean 0 and variance 1 a clip: its level is not heard."""
    mask = valid_mask(lengths, waveform.shape[1])
    mean = waveform.sum(1, keepdim=True) / lengths[:, None]
    centered = (waveform - mean) * mask
    return centered * (centered.square().sum(1, keepdim=True) / lengths[:, None] + SILENT).rsqrt()


def _group_norm(norm: nn.Module | None, x: Tensor, frames: Tensor) -> Tensor:
    """A convolution's `(B, E, N)` through its norm; a group norm's statistics are over each clip's own frames."""
    if not isinstance(norm, nn.GroupNorm):
        return x if norm is None else norm(x)
    mask, count, x = valid_mask(frames, x.shape[2])[:, None], frames[:, None, None], x.float()
    mean = (x * mask).sum(-1, keepdim=True) / count
    variance = ((x - mean) * mask).square().sum(-1, keepdim=True) / count
    return torch.addcmul(norm.bias[:, None], (x - mean) * (variance + norm.eps).rsqrt(), norm.weight[:, None])


def _attention_options(attention: Any, valid: Tensor) -> dict[str, Tensor]:
    """How the layers are told which frames of `valid (B, N)` may be attended to.

    WavLM's take a padding mask, and how far apart frames are, which they would work out on the host.
    """
    if not hasattr(attention, "rel_attn_embed"):
        return {"attention_mask": valid[:, None, None].expand(-1, 1, valid.shape[1], -1)}
    place = torch.arange(valid.shape[1], device=valid.device)
    buckets = attention._relative_positions_bucket(place - place[:, None], bidirectional=True)
    bias = attention.rel_attn_embed(buckets).permute(2, 0, 1)
    padding = torch.zeros_like(valid, dtype=bias.dtype).masked_fill(~valid, float("-inf"))
    return {"key_padding_mask": padding, "position_bias": bias.expand(len(valid), -1, -1, -1)}


def _layers(encoder: Wav2Vec2Model) -> nn.ModuleList:
    return encoder.encoder.transformer.layers


def _levels(encoder: Wav2Vec2Model) -> list[list[nn.Module]]:
    """What may be tuned, from the last layer down to the projection; a norm is with the layers it stands beside."""
    levels: list[list[nn.Module]] = [[layer] for layer in reversed(_layers(encoder))]
    transformer = encoder.encoder.transformer
    levels.append([encoder.encoder.feature_projection, transformer.pos_conv_embed])
    levels[-1 if transformer.layer_norm_first else 0].append(transformer.layer_norm)
    return levels
