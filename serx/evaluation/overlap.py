"""What of the clips to be evaluated a checkpoint has heard in training: by speaker, by audio, and by likeness."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serx.data.dataset import DataConfig, Dataset, find_copies, load_dataset
from serx.data.manifest import same_speaker
from serx.errors import DataError


def find_overlap(
    dataset: Dataset, metadata: Mapping[str, Any], clips: np.ndarray, trained_on: DataConfig, progress: bool = True
) -> tuple[list[str], tuple[str, ...]]:
    """Names the speakers among `clips (n,)` that trained the checkpoint, else the clips that did, else copies of those.

    `facts` are the checkpoint's. Copies are looked for among the training clips of `trained_on`; where some of these
    are no longer there, the second of the two says so. Under a random split speakers are shared, and only clips count.
    """
    chosen, trained = [dataset.utterances[i] for i in clips], set(metadata["digests"]["train"])
    if metadata["speaker_independent"]:
        speaker_ids = {clip.speaker_id: clip for clip in chosen}
        heard = [
            name
            for name, clip in speaker_ids.items()
            if any(same_speaker(clip, p) for p in metadata["speakers"]["train"])
        ]
        if heard:
            return sorted(heard), ()
    twins = sorted(str(clip.path) for clip, i in zip(chosen, clips, strict=True) if dataset.digests[i] in trained)
    if twins:
        return twins, ()
    # What the checkpoint knows by its audio was compared with the training clips when these were chosen.
    known = {digest for part in metadata["digests"].values() for digest in part}
    strange = [int(i) for i in clips if dataset.digests[i] not in known]
    return _copies(dataset, strange, trained, trained_on, progress) if strange else ([], ())


def _copies(
    dataset: Dataset, clips: Sequence[int], trained: set[str], trained_on: DataConfig, progress: bool
) -> tuple[list[str], tuple[str, ...]]:
    try:
        theirs = load_dataset(trained_on, progress=progress)
        others = [j for j, digest in enumerate(theirs.digests) if digest in trained]
    except DataError:  # their root is gone, or is another's now
        others = []
    missing = len(trained) - len({theirs.digests[j] for j in others}) if others else len(trained)
    told = f"{missing} of {len(trained)} training clips are not at {trained_on.root}: copies of them would go unnoticed"
    notes = (told,) if missing else ()
    if not others:
        return [], notes
    pairs = find_copies(dataset, clips, theirs, others, trained_on.sample_rate, progress)
    names = (f"{dataset.utterances[i].path} (a copy of {theirs.utterances[j].path.name})" for i, j in pairs)
    return sorted(names), notes
