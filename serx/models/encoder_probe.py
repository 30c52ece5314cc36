"""`EncoderProbe`: a small classifier on the layers of a frozen pretrained encoder.

The mean and the standard deviation of every layer over a clip's frames are one vector (for Whisper base 7 layers of 512
channels: 7168 numbers). They never change, so they are computed once per clip and kept on disk (`VectorCache`); heads,
folds, seeds and sweeps then take seconds. With `augment.copies` augmented copies of the training clips are encoded too.

Input: waveforms as features `(B, 1, T)` and their `lengths (B,)`. `FrozenEncoder` is the part that an ensemble shares,
and `ProbeHead` is what is trained: `(B, F, 1)` -> `(B, C)`.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from serx.base_config import Dropout
from serx.errors import ConfigError
from serx.models.encoder_config import MISSING_ARCHITECTURE, EncoderConfig
from serx.models.encoders import Encoder, EncoderOptions, build_encoder, load_encoder, resolve_encoder
from serx.models.layers import EmbeddingHead, OutputLayer
from serx.models.registry import register_model
from serx.models.vector_cache import VectorCache, encoder_digest


class EncoderProbeConfig(EncoderConfig):
    """The encoder, and the head on its layers.

    >>> EncoderProbeConfig(source="openai/whisper-base", hidden=128).kind
    'encoder_probe'
    """

    kind: Literal["encoder_probe"] = "encoder_probe"
    hidden: int = Field(128, ge=0, le=1 << 16, description="units of the hidden layer; 0: a linear classifier")
    dropout: Dropout = Field(0.5, description="of the vector, and of the hidden layer")
    relaxed_freq_norm: float = Field(0.0, ge=0, le=0, description="always 0: a vector has no frames")


class FrozenEncoder(nn.Module):
    """Waveforms `(B, 1, T)`, `lengths (B,)` -> vectors `(B, F, 1)` and ones `(B,)`. It has no gradient.

    Attributes:
        constant: marks a shared part whose result no training step changes.
        cache: where vectors are kept; None: they are computed every time.
    """

    constant = True

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False).eval()
        self.cache: VectorCache | None = None

    def train(self, mode: bool = True) -> "FrozenEncoder":
        """Stays in evaluation mode, so that it has no dropout."""
        return super().train(False)

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        waveform = features[:, 0]
        if self.cache is None:
            vectors = layer_statistics(self.encoder, waveform, frames)
        else:
            vectors = self._cached(waveform, frames)
        return vectors[..., None], torch.ones_like(frames)

    def use_cache(self, folder: Path) -> None:
        """Keeps vectors in `folder`, in a file that is named by the weights of the encoder."""
        size = 2 * (self.encoder.depth + 1) * self.encoder.width
        self.cache = VectorCache(folder / f"{encoder_digest(self.encoder)}.sqlite", size)

    def _cached(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        assert self.cache is not None
        clips = [row[:length] for row, length in zip(waveform.cpu().numpy(), lengths.tolist(), strict=True)]
        vectors = self.cache.get(clips)
        new = [i for i, vector in enumerate(vectors) if vector is None]
        # One at a time on a CPU: padding would cost time, and the bits of a vector must not depend on neighbors.
        size = 1 if waveform.device.type == "cpu" else max(1, len(new))
        for batch in (new[start : start + size] for start in range(0, len(new), size)):
            longest = max(len(clips[i]) for i in batch)
            index = torch.tensor(batch, device=waveform.device)
            computed = layer_statistics(self.encoder, waveform[index, :longest], lengths[index]).cpu().numpy()
            self.cache.put([clips[i] for i in batch], computed)
            for i, vector in zip(batch, computed, strict=True):
                vectors[i] = vector
        return torch.from_numpy(np.stack([vector for vector in vectors if vector is not None])).to(waveform.device)


@torch.no_grad()
def layer_statistics(encoder: Encoder, waveform: Tensor, lengths: Tensor) -> Tensor:
    """`Encoder.layer_statistics`, without gradients: `(B, F)` of waveforms `(B, T)` and lengths `(B,)`."""
    return encoder.layer_statistics(waveform, lengths)


def frozen_encoder(config: EncoderConfig, pretrained: bool) -> FrozenEncoder:
    """The encoder of `config`, with its published weights if `pretrained`.

    Raises:
        ConfigError: the weights cannot be read, or the architecture is not known.
    """
    options = EncoderOptions(pad_seconds=config.pad_seconds)
    if pretrained:
        return FrozenEncoder(load_encoder(resolve_encoder(config.source, config.revision), options))
    if config.architecture is None:
        raise ConfigError(MISSING_ARCHITECTURE)
    return FrozenEncoder(build_encoder(config.architecture, options))


@register_model(EncoderProbeConfig)
class ProbeHead(nn.Module):
    """Standardization by the training clips, then a linear classifier, or one with a hidden layer."""

    def __init__(self, config: EncoderProbeConfig, bins: int, classes: int) -> None:
        """`bins` is 1, since waveforms are the features; the vector has `config.vector_size` entries."""
        super().__init__()
        size = config.vector_size
        standardized = [nn.BatchNorm1d(size, affine=False), nn.Dropout(config.dropout)]
        if config.hidden:
            self.embed = nn.Sequential(*standardized, nn.Linear(size, config.hidden))
            self.head: nn.Module = EmbeddingHead(
                nn.LayerNorm(config.hidden),
                nn.ReLU(),
                nn.Dropout(config.dropout),
                OutputLayer(config.hidden, classes),
            )
        else:
            self.embed = nn.Sequential(*standardized)
            self.head = OutputLayer(size, classes)

    @classmethod
    def shared_part(cls, config: EncoderProbeConfig, bins: int, pretrained: bool) -> FrozenEncoder:
        return frozen_encoder(config, pretrained)

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        return self.head(self.embed(features[..., 0]))
