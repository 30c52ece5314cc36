"""`enrolled`: a recognizer that has heard a voice before, without being told what it felt.

A batch norm holds the mean and variance of each channel over the training voices. In a voice, room or language of
another kind they lie elsewhere, and what is common there is taken for an emotion. For as long as a voice is enrolled,
its own clips say what is common: adaptive batch normalisation (Li et al. 2018, "Adaptive batch normalization for
practical domain adaptation"), the training voices keeping the weight of a few clips (Schneider et al. 2020, "Improving
robustness against common corruptions by covariate shift adaptation"), so that two clips do no harm. Then the clips say
what each emotion sounds like in this voice (prototypes.py).

A clip's result depends on the voice's other clips then, which nowhere else it does; hence a number made so says so.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from serx.errors import DataError
from serx.inference.prototypes import drawn_to_prototypes
from serx.models.registry import batch_norms
from serx.recognizer import Recognizer

PRIOR = 8  # stretches of speech that the training voices' statistics are worth beside the voice's own
STRETCH_SECONDS = 4.0  # long recordings are cut: beside them short clips would be mostly padding
PADDING = 0.3  # share of zeros, at least: in training, batch norms count those behind short clips too
BATCH = 64
EVALUATED = 16  # where no statistics are wanted: more clips at once leave a CPU's cache


@contextmanager
def enrolled(recognizer: Recognizer, clips: Sequence[Tensor]) -> Iterator[None]:
    """Within the block `recognizer` knows the voice of `clips`, waveforms `(T,)`; behind it, it is as it was.

    Raises:
        DataError: less than two stretches of speech, which have no variance.
        ConfigError: the model has no batch norms.
    """
    stretches = [part for clip in clips for part in _stretches(clip, recognizer.sample_rate)]
    if len(stretches) < 2:
        raise DataError(f"{len(stretches)} clips of a voice are too few to enrol it by; give two or more, better ten")
    norms = batch_norms(recognizer.backbone)
    kept = [{name: tensor.clone() for name, tensor in norm.named_buffers()} for norm in norms]
    momenta = [norm.momentum for norm in norms]
    try:
        recognizer.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over batches
            norm.train()
        with torch.inference_mode():
            for batch in _batches(stretches, BATCH):
                recognizer(*_padded(batch))
            for norm, before in zip(norms, kept, strict=True):
                for name in ("running_mean", "running_var"):
                    norm.get_buffer(name).lerp_(before[name], PRIOR / (len(stretches) + PRIOR))
        recognizer.eval()
        with drawn_to_prototypes(recognizer, [_padded(batch) for batch in _batches(stretches, EVALUATED)]):
            yield
    finally:
        for norm, before, momentum in zip(norms, kept, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
            for name, tensor in before.items():
                norm.get_buffer(name).copy_(tensor)


def _stretches(clip: Tensor, sample_rate: int) -> Sequence[Tensor]:
    """The clip in equal parts, as few as are no longer than `STRETCH_SECONDS`."""
    return clip.tensor_split(max(1, -(-len(clip) // round(STRETCH_SECONDS * sample_rate))))


def _padded(batch: list[Tensor]) -> tuple[Tensor, Tensor]:
    """`(B, T)` and lengths `(B,)`; T is that of the longest, or more, so that `PADDING` of all samples are zeros."""
    lengths = torch.tensor([len(part) for part in batch], device=batch[0].device)
    waveform = pad_sequence(batch, batch_first=True)
    width = round(sum(map(len, batch)) / len(batch) / (1 - PADDING))
    return F.pad(waveform, (0, max(0, width - waveform.shape[1]))), lengths


def _batches(stretches: Sequence[Tensor], size: int) -> list[list[Tensor]]:
    """Every n-th stretch together: moods that follow each other in a folder are spread over the batches."""
    count = -(-len(stretches) // size)
    return [list(stretches[start::count]) for start in range(count)]
