"""The model that ships with serx: used wherever no checkpoint is named.

It lies in `checkpoints/` of the repository, and in `serx/pretrained/` of an installed package. Its model card is the
README.md next to it: data, results, limits, and the license of the weights, which is not that of the code.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import serx
from serx.terminal import printable

NAME = "default.safetensors"
CARD = "README.md"


def default_checkpoint() -> Path:
    """The checkpoint that ships with serx.

    >>> default_checkpoint().name
    'default.safetensors'
    """
    package = Path(serx.__file__).parent
    installed = package / "pretrained" / NAME
    return installed if installed.is_file() else package.parent / "checkpoints" / NAME


def corpora_of(speaker_ids: Sequence[str]) -> list[str]:
    """The corpora of speakers, sorted.

    >>> corpora_of(["ravdess/01", "ravdess/02", "emovo/f1"])
    ['emovo', 'ravdess']
    """
    return sorted({speaker_id.partition("/")[0] for speaker_id in speaker_ids})


def summary(metadata: Mapping[str, Any], min_confidence: float) -> str:
    """What a model predicts and on what it was trained, from the metadata of its checkpoint, in one line.

    >>> speakers = {"train": ["ravdess/01", "ravdess/02"]}
    >>> metadata = {"labels": ["happy", "sad"], "protocol": "kfold fold 0, speaker-independent", "speakers": speakers}
    >>> summary(metadata, 0.4)
    'happy, sad; unsure below 0.4; trained on 2 speakers of ravdess (kfold fold 0, speaker-independent)'
    """
    speakers = metadata["speakers"]["train"]
    unsure = f"; unsure below {min_confidence:g}" if min_confidence else ""
    corpora = ", ".join(map(printable, corpora_of(speakers)))
    return (
        f"{', '.join(metadata['labels'])}{unsure}; trained on {len(speakers)} speakers of {corpora} "
        f"({metadata['protocol']})"
    )
