"""What speaker adaptation needs of a finished run: the `SpeakerModel` of its training clips.

Models on a pretrained encoder get one. In the embeddings of networks that were trained from nothing, what a speaker's
clips of one emotion share is not told apart from the voice so well, and they are adapted otherwise
(`serx.inference.adaptation`).
"""

from pathlib import Path

import numpy as np
import torch

from serx import checkpoint
from serx.checkpoint.tensors import fill
from serx.data.batches import BatchSource
from serx.data.dataset import Dataset
from serx.data.read_ahead import reading_ahead
from serx.inference.classify import length_batches
from serx.models.encoder_config import EncoderConfig
from serx.models.layers import embedding_heads
from serx.models.linear_probe import ClipOffsetHead, LinearProbeConfig
from serx.recognizer import Recognizer, embeddings_of
from serx.speaker_model import SpeakerModel
from serx.training.state import TrainingState


def fit_speaker_model(
    state: TrainingState, clips: np.ndarray, dataset: Dataset, source: BatchSource, kept: Path
) -> SpeakerModel | None:
    """The speaker model of a finished run; None if there are too few speakers, or the model has no encoder.

    Args:
        state: of the run.
        clips: the training clips `(n,)`, indices into `dataset`.
        dataset: their labels and speakers.
        source: makes their waveforms.
        kept: the checkpoint of the kept epoch.
    """
    config = state.config
    if not isinstance(config.model, EncoderConfig):
        return None
    if isinstance(config.model, LinearProbeConfig):
        [head] = embedding_heads(state.recognizer)
        assert isinstance(head, ClipOffsetHead)
        return head.speaker_model()
    recognizer = Recognizer(config.features, config.model, state.recognizer.labels, config.data.sample_rate)
    saved = checkpoint.load(kept)
    fill(recognizer, saved.group("ema") or saved.group("model"), "model")
    clips = clips[dataset.has_class[clips]]
    folder = dataset.audio_cache.folder.parent / "encoders"
    recognizer.to(state.device).eval().use_cache(folder)
    recognizer.use_frame_cache(folder)
    batches = length_batches(source, dataset.audio_cache.lengths[clips])
    announced = [clips[batch] for batch in batches]
    with torch.inference_mode(), reading_ahead(source, announced) as ahead:
        embeddings = embeddings_of(recognizer, embedding_heads(recognizer), map(ahead.batch, announced))
    order = clips[np.concatenate(batches)]
    return SpeakerModel.fit(embeddings, dataset.targets[order], dataset.utterances.speaker_ids_of(order))
