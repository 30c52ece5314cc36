"""Whisper's encoder (Radford et al. 2022, "Robust speech recognition via large-scale weak supervision").

transformers' own encoder takes thirty seconds and lets padding in: its layers get no mask. This one has the same layers
and weights, takes clips of any length and masks what lies beyond their ends. At the length of the clip it costs a
thirteenth for a clip of three seconds. Padded to thirty seconds it equals transformers'.

A clip longer than the encoder's positions (30 s) is encoded in windows of that length.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serx.dsp.batching import valid_mask
from serx.dsp.mel import MelScale, mel_filters
from serx.dsp.spectrum import real_dft
from serx.models.encoders.architecture import WhisperArchitecture
from serx.models.encoders.layers import (
    PLAIN,
    Encoder,
    EncoderOptions,
    InputMasks,
    SelfAttention,
    attention_mask,
    run_layers,
)

SAMPLE_RATE, N_FFT, HOP_LENGTH = 16_000, 400, 160
AMIN = 1e-10  # smallest mel power
RANGE = 8.0  # of the logarithms below each clip's own maximum, in powers of ten


class WhisperMel(nn.Module):
    """`waveform (B, T)`, `lengths (B,)` -> log-mel `(B, N, F)` and its frames `(B,)`, as `WhisperFeatureExtractor`.

    The first frame is centered on the first sample and reads a reflection to its left, as transformers has it; beyond
    the end of a clip there are zeros. The floor is 80 dB below each clip's own maximum.

    >>> mel, frames = WhisperMel(80)(torch.zeros(2, 4800), torch.tensor([4800, 1600]))
    >>> mel.shape, frames
    (torch.Size([2, 30, 80]), tensor([30, 10]))
    """

    window: Tensor
    filters: Tensor

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        scale = MelScale(SAMPLE_RATE, N_FFT, n_mels, 0.0, SAMPLE_RATE / 2)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)
        self.register_buffer("filters", mel_filters(scale), persistent=False)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(waveform.device.type, enabled=False):
            return self._mel(waveform.float(), lengths)

    def _mel(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        half = N_FFT // 2
        waveform = F.pad(waveform, (0, N_FFT))  # so that even the shortest clip has a reflection and a frame
        waveform = torch.cat([waveform[:, 1 : half + 1].flip(1), waveform], dim=1)
        size = max(1, (waveform.shape[1] - N_FFT - half) // HOP_LENGTH)
        windows = waveform.unfold(1, N_FFT, HOP_LENGTH)[:, :size]
        squares = real_dft(windows * self.window).square().sum(-1)
        levels = (squares @ self.filters).clamp(min=AMIN).log10()
        frames = torch.div(lengths, HOP_LENGTH, rounding_mode="floor").clamp(min=1)
        valid = valid_mask(frames, size)
        loudest = levels.amax(-1).masked_fill(~valid, -math.inf).amax(-1)
        levels = torch.maximum(levels, loudest[:, None, None] - RANGE)
        return (levels + 4) / 4, frames


class WhisperLayer(nn.Module):
    """Self-attention and feed-forward, each after its norm and beside a shortcut: `x (B, N, D)` -> the same shape."""

    def __init__(self, architecture: WhisperArchitecture, dropout: float) -> None:
        super().__init__()
        width = architecture.d_model
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.self_attn = SelfAttention(width, architecture.encoder_attention_heads, dropout, key_bias=False)
        self.final_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, architecture.encoder_ffn_dim)
        self.fc2 = nn.Linear(architecture.encoder_ffn_dim, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.dropout(self.self_attn(self.self_attn_layer_norm(x), mask))
        inner = self.dropout(F.gelu(self.fc1(self.final_layer_norm(x))))
        return x + self.dropout(self.fc2(inner))


class WhisperEncoder(Encoder):
    """Log-mel, two convolutions of which the second halves time, positions, layers, final norm: 50 frames a second.

    The modules have the names that transformers gives them.
    """

    def __init__(self, architecture: WhisperArchitecture, options: EncoderOptions = PLAIN) -> None:
        super().__init__()
        self.width, self.depth = architecture.d_model, architecture.encoder_layers
        self.options, self.positions = options, architecture.max_source_positions
        self.scale = math.sqrt(self.width) if architecture.scale_embedding else 1.0
        self.mel = WhisperMel(architecture.num_mel_bins)
        self.input_masks = InputMasks(options.mask_time, options.mask_feature)
        self.conv1 = nn.Conv1d(architecture.num_mel_bins, self.width, 3, padding=1)
        self.conv2 = nn.Conv1d(self.width, self.width, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(self.positions, self.width)
        self.layers = nn.ModuleList(WhisperLayer(architecture, options.dropout) for _ in range(self.depth))
        self.layer_norm = nn.LayerNorm(self.width)

    def levels(self) -> list[list[nn.Module]]:
        levels: list[list[nn.Module]] = [[layer] for layer in reversed(self.layers)]
        levels[0].append(self.layer_norm)
        return levels

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        own_frames = _halved(torch.div(lengths, HOP_LENGTH, rounding_mode="floor").clamp(min=1))
        if self.options.pad_seconds is not None:
            padded = round(self.options.pad_seconds * SAMPLE_RATE)
            waveform = F.pad(waveform, (0, torch.sym_max(0, padded - waveform.shape[1])))  # type: ignore[arg-type]
            lengths = lengths.clamp(min=padded)
        mel, mel_frames = self.mel(waveform, lengths)
        mel = self.input_masks(mel, mel_frames)
        clips, window = len(mel), 2 * self.positions
        number = (mel.shape[1] + window - 1) // window
        if number > 1:  # the windows of a clip become clips of the batch
            window = torch.sym_min(mel.shape[1], window)  # an exported graph goes this way for shorter clips too
            mel = F.pad(mel, (0, 0, 0, number * window - mel.shape[1])).reshape(clips * number, window, -1)
            start = torch.arange(number, device=mel_frames.device) * window
            mel_frames = (mel_frames[:, None] - start).clamp(1, window).flatten()
        states = self._encode(mel, mel_frames)
        if number > 1:
            states = [state.reshape(clips, number * state.shape[1], -1) for state in states]
        return states, own_frames

    def _encode(self, mel: Tensor, mel_frames: Tensor) -> list[Tensor]:
        """`mel (B, N, F)` with its frames `(B,)`, at most as many as there are positions -> the states."""
        valid = valid_mask(mel_frames, mel.shape[1])[:, None]
        x = F.gelu(self.conv1(mel.transpose(1, 2) * valid)) * valid
        x = F.gelu(self.conv2(x)).transpose(1, 2) * self.scale
        x = x + self.embed_positions.weight[: x.shape[1]]
        mask = attention_mask(_halved(mel_frames), x.shape[1])
        states = run_layers(self.layers, x, mask, recompute=self.options.gradient_checkpointing)
        states[-1] = self.layer_norm(states[-1])
        return states


def _halved(frames: Tensor) -> Tensor:
    """The frames that a centered convolution of stride 2 leaves."""
    return torch.div(frames + 1, 2, rounding_mode="floor")
