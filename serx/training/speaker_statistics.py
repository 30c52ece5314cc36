"""What speaker adaptation needs of a finished run: the `SpeakerModel` of its training clips."""

from pathlib import Path

import numpy as np
import torch

from serx import checkpoint
from serx.checkpoint.tensors import fill
from serx.data.batches import BatchSource
from serx.data.dataset import Dataset
from serx.data.read_ahead import reading_ahead
from serx.inference.adaptation import own_offsets
from serx.inference.classify import length_batches
from serx.recognizer import Recognizer
from serx.speaker_model import SpeakerModel
from serx.training.state import TrainingState

MAX_CLIPS = 20_000  # more of them take minutes and say nothing new


def fit_speaker_model(
    state: TrainingState, clips: np.ndarray, dataset: Dataset, source: BatchSource, kept: Path
) -> SpeakerModel | None:
    """The speaker model of a finished run; None if there are too few speakers.

    Args:
        state: of the run.
        clips: the training clips `(n,)`, indices into `dataset`.
        dataset: their labels and speakers.
        source: makes their waveforms.
        kept: the checkpoint of the kept epoch.
    """
    config = state.config
    recognizer = Recognizer(config.features, config.model, state.recognizer.labels, config.data.sample_rate)
    saved = checkpoint.load(kept)
    fill(recognizer, saved.group("ema") or saved.group("model"), "model")
    clips = clips[dataset.has_class[clips]]
    clips = clips[np.linspace(0, len(clips) - 1, min(len(clips), MAX_CLIPS)).round().astype(int)]
    folder = dataset.audio_cache.folder.parent / "encoders"
    recognizer.to(state.device).eval().use_cache(folder)
    recognizer.use_frame_cache(folder)
    batches = length_batches(source, dataset.audio_cache.lengths[clips])
    announced = [clips[batch] for batch in batches]
    with torch.inference_mode(), own_offsets([recognizer], 0.0), reading_ahead(source, announced) as ahead:
        logits = torch.cat([recognizer(*ahead.batch(batch)).cpu() for batch in announced])
    order = clips[np.concatenate(batches)]
    utterances = [dataset.utterances[i] for i in order]
    speaker_ids, corpora = [clip.speaker_id for clip in utterances], [clip.corpus for clip in utterances]
    return SpeakerModel.fit(logits, dataset.targets[order], speaker_ids, corpora)
