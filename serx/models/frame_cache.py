"""`FrameCache`: the frames of every layer of a frozen encoder, kept on disk, so that later epochs do not encode again.

They are kept in half precision: 2 bytes for each channel of each layer, 50 times a second. Of Whisper-base that is
0.36 MB a second of speech.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from serx.models.encoders import Encoder
from serx.models.vector_cache import VectorCache, encoder_digest

FRAMES_PER_SECOND = 50  # of all families


class FrameCache:
    """Calls a frozen encoder: waveforms `(B, T)` and lengths `(B,)` -> its states and frames, read from disk if known.

    New clips are rounded as known ones are, so that no result depends on which clips are known. Clips whose states are
    beyond half precision are not kept, and not rounded.
    """

    def __init__(self, encoder: Encoder, folder: Path) -> None:
        """The file in `folder` is named by the weights of the encoder."""
        self.encoder = encoder
        self.cache = VectorCache(
            folder / f"{encoder_digest(encoder)}.frames.sqlite", _row_size(encoder), np.float16, rows=True
        )

    def __call__(self, waveform: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        clips = [row[:length] for row, length in zip(waveform.cpu().numpy(), lengths.tolist(), strict=True)]
        kept = self.cache.get(clips)
        new = [i for i, rows in enumerate(kept) if rows is None]
        size = 1 if waveform.device.type == "cpu" else max(1, len(new))  # one at a time needs no padding
        for batch in (new[start : start + size] for start in range(0, len(new), size)):
            longest = max(len(clips[i]) for i in batch)
            index = torch.tensor(batch, device=waveform.device)
            for i, rows in zip(batch, self._encoded(waveform[index, :longest], lengths[index]), strict=True):
                kept[i] = rows
                if rows.dtype == np.float16:
                    self.cache.put([clips[i]], [rows])
        parts = [torch.from_numpy(rows.astype(np.float32)) for rows in kept if rows is not None]
        frames = torch.tensor([len(part) for part in parts], device=lengths.device, dtype=lengths.dtype)
        states = pad_sequence(parts, batch_first=True).unflatten(-1, (self.encoder.depth + 1, self.encoder.width))
        return list(states.to(waveform.device).unbind(2)), frames

    def _encoded(self, waveform: Tensor, lengths: Tensor) -> list[np.ndarray]:
        """The rows `(N, S * D)` of each clip: float16, or float32 if that has no such numbers."""
        with torch.no_grad(), torch.autocast(waveform.device.type, enabled=False):
            states, frames = self.encoder(waveform, lengths)
        rows = torch.stack(states, 2).flatten(2).float().cpu().numpy()
        found = []
        for own, count in zip(rows, frames.tolist(), strict=True):
            with np.errstate(over="ignore"):
                half = own[:count].astype(np.float16)
            found.append(half if np.isfinite(half).all() else own[:count])
        return found


def frame_bytes(encoder: Encoder, lengths: Sequence[int] | np.ndarray) -> int:
    """What the frames of clips of `lengths (n,)` samples take on disk, in bytes.

    >>> from serx.models.encoders import build_encoder
    >>> from serx.models.encoders.architecture import WhisperArchitecture
    >>> sizes = dict(num_mel_bins=80, encoder_attention_heads=2, encoder_ffn_dim=8, max_source_positions=1500)
    >>> encoder = build_encoder(WhisperArchitecture(d_model=16, encoder_layers=3, **sizes))
    >>> frame_bytes(encoder, [16_000]) == 50 * (3 + 1) * 16 * 2
    True
    """
    frames = np.ceil(np.asarray(lengths) * FRAMES_PER_SECOND / encoder.sample_rate)
    return int(frames.sum()) * _row_size(encoder) * np.dtype(np.float16).itemsize


def _row_size(encoder: Encoder) -> int:
    return (encoder.depth + 1) * encoder.width
