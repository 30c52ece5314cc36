"""Which clips were in the training of a checkpoint.

Training speakers are recognized by name, by the audio of their clips (a digest, so that moved or renamed files do not
slip through), and by likeness: a copy that was made louder or encoded again is found too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serx.data.copies.search import find_common
from serx.data.dataset import DataConfig, Dataset, load_dataset
from serx.data.names import same_speaker
from serx.errors import DataError
from serx.terminal import printable


def find_overlap(
    dataset: Dataset, metadata: Mapping[str, Any], clips: np.ndarray, trained_on: DataConfig, progress: bool = True
) -> tuple[list[str], tuple[str, ...]]:
    """What among `clips (n,)` was in the training of a checkpoint.

    Under a random split speakers are shared by design, so only clips count.

    Args:
        metadata: of the checkpoint.
        trained_on: the data of the training, whose clips are compared with those that are new to the checkpoint.

    Returns:
        Names of training speakers; without any, names of training clips; without any, names of copies of training
        clips. Then notes about training clips that are no longer there to compare with.
    """
    chosen, trained = [dataset.utterances[i] for i in clips], set(metadata["digests"]["train"])
    if metadata["speaker_independent"]:
        by_speaker = {clip.speaker_id: clip for clip in chosen}
        names = metadata["speakers"]["train"]
        speakers = [s for s, clip in by_speaker.items() if any(same_speaker(clip, name, trained_on) for name in names)]
        if speakers:
            return sorted(map(printable, speakers)), ()
    same_audio = sorted(
        printable(clip.segment) for clip, i in zip(chosen, clips, strict=True) if dataset.digests[i] in trained
    )
    if same_audio:
        return same_audio, ()
    # Clips that the checkpoint records were compared with the training clips before the training.
    recorded = {digest for part in metadata["digests"].values() for digest in part}
    new = [int(i) for i in clips if dataset.digests[i] not in recorded]
    return _find_copies(dataset, new, trained, trained_on, progress) if new else ([], ())


def _find_copies(
    dataset: Dataset, clips: Sequence[int], trained: set[str], trained_on: DataConfig, progress: bool
) -> tuple[list[str], tuple[str, ...]]:
    try:
        training = load_dataset(trained_on, progress=progress)
        present = [j for j, digest in enumerate(training.digests) if digest in trained]
    except DataError:  # the root of the training is gone, or holds something else now
        present = []
    missing = len(trained) - len({training.digests[j] for j in present}) if present else len(trained)
    gap = f"{missing} of {len(trained)} training clips are not at {trained_on.root}: copies of them would go unnoticed"
    notes = (gap,) if missing else ()
    if not present:
        return [], notes
    pairs = find_common(dataset.audio_cache, clips, training.audio_cache, present, trained_on.sample_rate, progress)
    names = (
        f"{printable(dataset.utterances[i].segment)} (a copy of {printable(training.utterances[j].segment.name)})"
        for i, j in pairs
    )
    return sorted(names), notes
