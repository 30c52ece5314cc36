"""The end of a run on TensorBoard: what the best epoch says of the validation clips, one by one.

Its most confident mistakes, to hear and to see; how each emotion trades precision for recall; and the clips as points
of the projector, by what the network says of them, to be coloured by emotion, speaker, sex or corpus.
"""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from serx.data.corpus import Corpus
from serx.data.dataset import Dataset
from serx.recognizer import Recognizer
from serx.scoring.classify import classify
from serx.training import checkpoint
from serx.training.run import Run, fill

MISTAKES = 8
LEAST = 1e-6  # of a probability whose logarithm places a point
COLUMNS = ("emotion", "told", "speaker", "sex", "corpus", "file")


@dataclass(frozen=True)
class Mistake:
    """A clip `sound (T,)`, the `picture (F, N)` that the network hears, and what it is and was told to be."""

    sound: Tensor
    picture: Tensor
    name: str


@dataclass(frozen=True)
class Closing:
    """Of the validation clips: `probabilities (n, C)`, `targets (n,)`, `COLUMNS` of each, and the worst mistakes."""

    probabilities: np.ndarray
    targets: np.ndarray
    rows: list[list[str]]
    mistakes: list[Mistake]

    @property
    def points(self) -> np.ndarray:
        """`(n, C)` float32 log-probabilities."""
        return np.log(self.probabilities.clip(min=LEAST)).astype(np.float32)


def close(run: Run, best: Path, corpus: Corpus, dataset: Dataset, clips: np.ndarray) -> Closing:
    """What the checkpoint `best` of this run says of `clips (n,)`.

    Raises:
        CheckpointError: the file is damaged.
    """
    saved = checkpoint.load(best)
    recognizer = deepcopy(run.evaluated)
    fill(recognizer, saved.group("model"), f"{best}: model")
    recognizer.temperature = saved.facts["temperature"]
    probabilities = classify(recognizer, corpus, clips, dataset.pack.lengths[clips])
    targets, guesses = dataset.targets[clips], probabilities.argmax(1)
    chosen = [dataset.utterances[i] for i in clips]
    rows = [
        [u.emotion, dataset.labels[guess], u.person, u.sex or "unknown", u.corpus, u.path.name]
        for u, guess in zip(chosen, guesses, strict=True)
    ]
    wrong = np.flatnonzero(guesses != targets)
    worst = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:MISTAKES]
    mistakes = [_mistake(recognizer, corpus, clips[i], rows[i], float(probabilities[i].max())) for i in worst]
    return Closing(probabilities, targets, [_printable(row) for row in rows], mistakes)


@torch.no_grad()
def _mistake(recognizer: Recognizer, corpus: Corpus, clip: int, row: list[str], sure: float) -> Mistake:
    waveform, lengths = corpus.batch([clip])
    features, frames = recognizer.features(waveform, lengths)
    picture = recognizer.normalizer(features, frames)[0, :, : int(frames[0])]
    emotion, told, *_, file = row
    return Mistake(waveform[0, : int(lengths[0])], picture, f"{file}: {emotion}, told {told} {100 * sure:.0f} %")


def _printable(row: list[str]) -> list[str]:
    """File names need not be text, nor one line of a table."""
    return [" ".join(cell.encode(errors="backslashreplace").decode().split()) for cell in row]
