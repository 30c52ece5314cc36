"""What a model's embedding tells of the corpus of a clip: `serx.metrics.corpus_probe` on the clips of an evaluation."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from serx.data.batches import BatchSource
from serx.data.dataset import Dataset
from serx.data.read_ahead import reading_ahead
from serx.data.utterance import is_unknown
from serx.evaluation.tables import percent
from serx.inference.classify import length_batches
from serx.metrics.corpus_probe import corpus_probe
from serx.models.layers import embedding_heads
from serx.recognizer import Recognizer, embeddings_of

MAX_CLIPS = 300  # of each corpus, spread evenly over its list


def probe_corpora(
    recognizer: Recognizer, dataset: Dataset, clips: np.ndarray, source: BatchSource
) -> dict[str, Any] | None:
    """The result of `corpus_probe` on what the last layers read; None without several corpora or such a layer.

    Args:
        recognizer: is put into evaluation mode, and not adapted.
        dataset: of the clips.
        clips: `(n,)` indices of the part that is evaluated. Where they are of one corpus, all clips of the dataset are
            probed, those of training among them, and `with_training_clips` is true.
        source: of their waveforms.
    """
    known = np.array([not is_unknown(utterance.speaker_id) for utterance in dataset.utterances])
    corpora = np.array([utterance.corpus for utterance in dataset.utterances])
    heads = embedding_heads(recognizer)
    with_training_clips = len(np.unique(corpora[clips])) < 2
    clips = np.flatnonzero(known) if with_training_clips else clips[known[clips]]
    if not heads or len(np.unique(corpora[clips])) < 2:
        return None
    clips = np.concatenate([_evenly(clips[corpora[clips] == name]) for name in np.unique(corpora[clips])])
    batches = length_batches(source, dataset.audio_cache.lengths[clips])
    recognizer.eval()
    announced = [clips[batch] for batch in batches]
    with torch.inference_mode(), reading_ahead(source, announced) as ahead:
        parts = embeddings_of(recognizer, heads, map(ahead.batch, announced))
    order = np.concatenate(batches)
    embeddings = torch.cat(parts, dim=1).double().cpu().numpy()
    result = corpus_probe(embeddings, corpora[clips][order], [dataset.utterances[i].speaker_id for i in clips[order]])
    return result and {**result, "with_training_clips": with_training_clips}


def probe_line(probe: Mapping[str, Any]) -> str:
    """The result as a sentence."""
    whose = "training and other" if probe["with_training_clips"] else "these"
    return (
        f"a linear probe tells the corpus of {whose} clips from the embedding in "
        f"{percent(probe['balanced_accuracy']).strip()} % (chance {percent(probe['chance']).strip()} %)"
    )


def _evenly(clips: np.ndarray) -> np.ndarray:
    return clips[np.linspace(0, len(clips) - 1, min(MAX_CLIPS, len(clips))).round().astype(int)]
