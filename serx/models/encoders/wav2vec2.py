"""wav2vec 2.0 (Baevski et al. 2020), XLS-R, HuBERT (Hsu et al. 2021), WavLM (Chen et al. 2022), data2vec (Baevski et
al. 2022): convolutions over the waveform, a convolution for the position, and a transformer.

transformers' own forwards let padding in: the group norm of the base models takes its statistics over padding,
data2vec's convolutions for the position read it, and without an attention mask everything does. These modules have the
same names and weights, treat each clip by itself, and equal transformers' for a clip alone.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from serx.dsp.batching import valid_mask
from serx.models.encoders.architecture import Wav2Vec2Architecture
from serx.models.encoders.layers import (
    PLAIN,
    Encoder,
    EncoderOptions,
    InputMasks,
    SelfAttention,
    attention_mask,
    run_layers,
)

SAMPLE_RATE = 16_000
VARIANCE_FLOOR = 1e-7  # added to the variance of a waveform, as wav2vec 2.0 was trained
CLIPS_AT_A_TIME = 8  # through the convolutions: the first has 512 channels at 3200 frames a second


def standardize(waveform: Tensor, lengths: Tensor) -> Tensor:
    """`waveform (B, T)`, zero beyond `lengths (B,)`, with each clip scaled to mean 0 and variance 1.

    >>> standardize(torch.tensor([[1.0, 3.0]]), torch.tensor([2])).round(decimals=3).tolist()
    [[-1.0, 1.0]]
    """
    mask = valid_mask(lengths, waveform.shape[1])
    mean = waveform.sum(1, keepdim=True) / lengths[:, None]
    centered = (waveform - mean) * mask
    return centered * (centered.square().sum(1, keepdim=True) / lengths[:, None] + VARIANCE_FLOOR).rsqrt()


class ConvLayer(nn.Module):
    """A convolution, perhaps a norm, and GELU: `x (B, E, N)`, frames `(B,)` -> the same with fewer frames."""

    def __init__(self, inputs: int, width: int, kernel: int, stride: int, bias: bool, norm: str | None) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv = nn.Conv1d(inputs, width, kernel, stride, bias=bias)
        if norm == "group":
            self.layer_norm: nn.Module | None = nn.GroupNorm(width, width)
        else:
            self.layer_norm = nn.LayerNorm(width) if norm == "layer" else None

    def forward(self, x: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(x)
        frames = (torch.div(frames - self.kernel, self.stride, rounding_mode="floor") + 1).clamp(min=1)
        if isinstance(self.layer_norm, nn.GroupNorm):
            x = _norm_of_clip(self.layer_norm, x, frames)
        elif self.layer_norm is not None:
            x = self.layer_norm(x.transpose(1, 2)).transpose(1, 2)
        return F.gelu(x), frames


def _norm_of_clip(norm: nn.GroupNorm, x: Tensor, frames: Tensor) -> Tensor:
    """A group norm of one channel a group, with statistics over each clip's own frames."""
    mask, count, x = valid_mask(frames, x.shape[2])[:, None], frames[:, None, None], x.float()
    mean = (x * mask).sum(-1, keepdim=True) / count
    variance = ((x - mean) * mask).square().sum(-1, keepdim=True) / count
    return torch.addcmul(norm.bias[:, None], (x - mean) * (variance + norm.eps).rsqrt(), norm.weight[:, None])


class FeatureEncoder(nn.Module):
    """The convolutions: `waveform (B, T)`, `lengths (B,)` -> `(B, N, E)` and the frames that read no padding."""

    def __init__(self, architecture: Wav2Vec2Architecture) -> None:
        super().__init__()
        widths = architecture.conv_dim
        self.conv_layers = nn.ModuleList()
        for i, (width, kernel, stride) in enumerate(
            zip(widths, architecture.conv_kernel, architecture.conv_stride, strict=True)
        ):
            norm = None if architecture.feat_extract_norm == "group" and i > 0 else architecture.feat_extract_norm
            inputs = widths[i - 1] if i else 1
            self.conv_layers.append(ConvLayer(inputs, width, kernel, stride, architecture.conv_bias, norm))
        self.receptive_field = 1
        for kernel, stride in zip(reversed(architecture.conv_kernel), reversed(architecture.conv_stride), strict=True):
            self.receptive_field = (self.receptive_field - 1) * stride + kernel

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        waveform = F.pad(waveform, (0, torch.sym_max(0, self.receptive_field - waveform.shape[1])))  # type: ignore[arg-type]
        chunks = zip(waveform.split(CLIPS_AT_A_TIME), lengths.split(CLIPS_AT_A_TIME), strict=True)
        x, frames = (torch.cat(part) for part in zip(*(self._convolve(*chunk) for chunk in chunks), strict=True))
        return x.transpose(1, 2), frames

    def _convolve(self, waveform: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        x = waveform[:, None]
        for layer in self.conv_layers:
            x, frames = layer(x, frames)
        return x, frames


class FeatureProjection(nn.Module):
    """Norm and linear layer from the convolutions to the width of the transformer."""

    def __init__(self, architecture: Wav2Vec2Architecture, dropout: float) -> None:
        super().__init__()
        inputs = architecture.conv_dim[-1]
        if architecture.feat_proj_layer_norm:
            self.layer_norm: nn.Module = nn.LayerNorm(inputs, architecture.layer_norm_eps)
        else:
            self.layer_norm = nn.Identity()
        self.projection = nn.Linear(inputs, architecture.hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.projection(self.layer_norm(x)))


class PositionalConv(nn.Module):
    """One wide convolution, whose weight is normalized: `x (B, N, D)`, zero beyond the clips -> the same shape."""

    def __init__(self, architecture: Wav2Vec2Architecture) -> None:
        super().__init__()
        kernel = architecture.num_conv_pos_embeddings
        conv = _positional_conv(architecture, kernel)
        self.conv = weight_norm(conv, dim=2)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        return F.gelu(self.conv(x.transpose(1, 2))[..., : x.shape[1]]).transpose(1, 2)


class PositionalConvLayer(nn.Module):
    """Of data2vec-audio: a convolution, a norm without parameters, and GELU."""

    def __init__(self, architecture: Wav2Vec2Architecture) -> None:
        super().__init__()
        self.conv = _positional_conv(architecture, architecture.conv_pos_kernel_size or 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        return F.gelu(F.layer_norm(x, x.shape[-1:]))


class PositionalConvStack(nn.Module):
    """Of data2vec-audio: several such layers, each of which reads zeros beyond the clips."""

    def __init__(self, architecture: Wav2Vec2Architecture) -> None:
        super().__init__()
        number = architecture.num_conv_pos_embeddings
        self.layers = nn.ModuleList(PositionalConvLayer(architecture) for _ in range(number))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x) * valid
        return x


def _positional_conv(architecture: Wav2Vec2Architecture, kernel: int) -> nn.Conv1d:
    width, groups = architecture.hidden_size, architecture.num_conv_pos_embedding_groups
    return nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=groups)


class FeedForward(nn.Module):
    """Two linear layers with GELU between them: `x (B, N, D)` -> the same shape."""

    def __init__(self, architecture: Wav2Vec2Architecture, dropout: float) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(architecture.hidden_size, architecture.intermediate_size)
        self.output_dense = nn.Linear(architecture.intermediate_size, architecture.hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.output_dense(self.dropout(F.gelu(self.intermediate_dense(x)))))


class GatedAttention(SelfAttention):
    """WavLM's: each head's bias of the relative position is scaled by a gate of the query (Chen et al. 2022)."""

    def __init__(self, width: int, heads: int, dropout: float, buckets: int | None) -> None:
        """`buckets` of relative positions, in the first layer, whose biases all layers use."""
        super().__init__(width, heads, dropout)
        self.gru_rel_pos_const = nn.Parameter(torch.ones(1, heads, 1, 1))
        self.gru_rel_pos_linear = nn.Linear(width // heads, 8)
        if buckets is not None:
            self.rel_attn_embed = nn.Embedding(buckets, heads)

    def forward(self, x: Tensor, mask: Tensor, bias: Tensor | None = None) -> Tensor:
        """`mask (B, 1, N, N)` bool, and `bias (1, heads, N, N)`."""
        by_head = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, D / heads)
        gates = self.gru_rel_pos_linear(by_head).unflatten(-1, (2, 4)).sum(-1).sigmoid()
        gate = gates[..., :1] * (gates[..., 1:] * self.gru_rel_pos_const - 1.0) + 2.0
        return super().forward(x, (gate * bias).masked_fill(~mask, float("-inf")))


class Wav2Vec2Layer(nn.Module):
    """Self-attention and feed-forward with shortcuts: `x (B, N, D)` -> the same shape.

    A stable layer has its norms before attention and feed-forward, another has them after the shortcuts.
    """

    def __init__(self, architecture: Wav2Vec2Architecture, dropout: float, is_first: bool) -> None:
        super().__init__()
        width, heads, eps = architecture.hidden_size, architecture.num_attention_heads, architecture.layer_norm_eps
        self.norm_first = architecture.do_stable_layer_norm
        if architecture.model_type == "wavlm":
            buckets = architecture.num_buckets if is_first else None
            self.attention: SelfAttention = GatedAttention(width, heads, dropout, buckets)
        else:
            self.attention = SelfAttention(width, heads, dropout)
        self.layer_norm = nn.LayerNorm(width, eps)
        self.feed_forward = FeedForward(architecture, dropout)
        self.final_layer_norm = nn.LayerNorm(width, eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        if self.norm_first:
            x = x + self.dropout(self.attention(self.layer_norm(x), *context))
            return x + self.feed_forward(self.final_layer_norm(x))
        x = self.layer_norm(x + self.dropout(self.attention(x, *context)))
        return self.final_layer_norm(x + self.feed_forward(x))


class Transformer(nn.Module):
    """Positions, layers and a norm, which comes before the layers or, if these are stable, after them."""

    def __init__(self, architecture: Wav2Vec2Architecture, dropout: float) -> None:
        super().__init__()
        is_data2vec = architecture.model_type == "data2vec-audio"
        self.pos_conv_embed = (PositionalConvStack if is_data2vec else PositionalConv)(architecture)
        self.layer_norm = nn.LayerNorm(architecture.hidden_size, architecture.layer_norm_eps)
        self.layers = nn.ModuleList(
            Wav2Vec2Layer(architecture, dropout, is_first=i == 0) for i in range(architecture.num_hidden_layers)
        )
        self.dropout = nn.Dropout(dropout)


class Wav2Vec2Encoder(Encoder):
    """wav2vec 2.0, XLS-R, HuBERT, WavLM or data2vec-audio: 50 frames a second.

    A frame's convolutions read 25 ms; a clip's last samples that fill no frame are not read, as in transformers.
    """

    def __init__(self, architecture: Wav2Vec2Architecture, options: EncoderOptions = PLAIN) -> None:
        super().__init__()
        self.width, self.depth = architecture.hidden_size, architecture.num_hidden_layers
        self.architecture, self.options = architecture, options
        self.input_masks = InputMasks(options.mask_time, options.mask_feature)
        self.feature_extractor = FeatureEncoder(architecture)
        self.feature_projection = FeatureProjection(architecture, options.dropout)
        self.masked_spec_embed = nn.Parameter(torch.zeros(self.width))
        self.encoder = Transformer(architecture, options.dropout)

    def levels(self) -> list[list[nn.Module]]:
        levels: list[list[nn.Module]] = [[layer] for layer in reversed(self.encoder.layers)]
        levels.append([self.feature_projection, self.encoder.pos_conv_embed])
        levels[0 if self.architecture.do_stable_layer_norm else -1].append(self.encoder.layer_norm)
        return levels

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        own_lengths, padded = lengths, lengths
        if self.architecture.do_normalize:
            waveform = standardize(waveform, lengths)
        if self.options.pad_seconds is not None:
            size = round(self.options.pad_seconds * SAMPLE_RATE)
            waveform = F.pad(waveform, (0, torch.sym_max(0, size - waveform.shape[1])))  # type: ignore[arg-type]
            padded = lengths.clamp(min=size)
        x, frames = self.feature_extractor(waveform, padded)
        x = self.feature_projection(x)
        x = self.input_masks(x, frames, self.masked_spec_embed)
        return self._encode(x, frames), frames if own_lengths is padded else self._frames(own_lengths)

    def _encode(self, x: Tensor, frames: Tensor) -> list[Tensor]:
        """`x (B, N, D)`, the projected features, with their frames `(B,)` -> the states."""
        valid, body = valid_mask(frames, x.shape[1])[..., None], self.encoder
        x = x * valid
        x = x + body.pos_conv_embed(x, valid)
        if not self.architecture.do_stable_layer_norm:
            x = body.layer_norm(x)
        context = [attention_mask(frames, x.shape[1])]
        if self.architecture.model_type == "wavlm":
            context.append(self._position_bias(x.shape[1], x.device))
        recompute = self.options.gradient_checkpointing
        states = run_layers(body.layers, body.dropout(x), *context, recompute=recompute)
        if self.architecture.do_stable_layer_norm:
            states[-1] = body.layer_norm(states[-1])
        return states

    def _frames(self, lengths: Tensor) -> Tensor:
        """The frames `(B,)` of clips of `lengths (B,)` samples."""
        frames = lengths
        for kernel, stride in zip(self.architecture.conv_kernel, self.architecture.conv_stride, strict=True):
            frames = (torch.div(frames - kernel, stride, rounding_mode="floor") + 1).clamp(min=1)
        return frames

    def _position_bias(self, size: int, device: torch.device) -> Tensor:
        """WavLM's bias `(1, heads, N, N)` of relative positions: exact when near, in logarithmic buckets when far."""
        each_side = (self.architecture.num_buckets or 0) // 2
        exact = each_side // 2
        position = torch.arange(size, device=device)
        relative = position - position[:, None]
        distance = relative.abs()
        farthest = math.log((self.architecture.max_bucket_distance or 0) / exact)
        far = torch.log(distance.clamp(min=1) / exact) / farthest * (each_side - exact)
        far = (exact + far).clamp(max=each_side - 1).long()
        buckets = torch.where(distance < exact, distance, far) + (relative > 0) * each_side
        embedding: Any = self.encoder.layers[0].get_submodule("attention.rel_attn_embed")
        return embedding(buckets).permute(2, 0, 1)[None]
