"""The clips that TensorBoard shows: a few as training hears them, and at the end what the best epoch says of others.

That is its most confident mistakes on the validation clips, to hear and to see; how each emotion trades precision for
recall; and the clips as points of the projector, by what the network says of them, to be coloured by emotion, speaker,
sex or corpus.
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
from serx.training.epoch import TrainingClips, augmented_features, augmented_waveform
from serx.training.run import Run, fill

SOUNDS, MISTAKES = 4, 8
LEAST = 1e-6  # of a probability whose logarithm places a point
COLUMNS = ("emotion", "told", "speaker", "sex", "corpus", "file")


@dataclass(frozen=True)
class Shown:
    """A clip `sound (T,)`, the `picture (F, N)` that the network hears, and what is to be said of it."""

    sound: Tensor
    picture: Tensor
    name: str


@dataclass(frozen=True)
class Closing:
    """Of the validation clips: `probabilities (n, C)`, `targets (n,)`, `COLUMNS` of each, and the worst mistakes."""

    probabilities: np.ndarray
    targets: np.ndarray
    rows: list[list[str]]
    mistakes: list[Shown]

    @property
    def points(self) -> np.ndarray:
        """`(n, C)` float32 log-probabilities."""
        return np.log(self.probabilities.clip(min=LEAST)).astype(np.float32)


@torch.no_grad()
def augmented_clips(run: Run, corpus: Corpus, dataset: Dataset, part: TrainingClips) -> list[Shown]:
    """A training clip of each of the first emotions, augmented."""
    _, first = np.unique(part.targets, return_index=True)
    chosen = part.clips[first[:SOUNDS]]
    clips = torch.from_numpy(chosen).to(run.device)
    waveform, lengths = augmented_waveform(run, *corpus.batch(chosen), clips)
    features, frames = augmented_features(run, waveform, lengths, clips)
    return [
        Shown(sound[:length], picture[:, :count], f"{u.path.stem} ({u.emotion})")
        for sound, length, picture, count, u in zip(
            waveform, lengths.tolist(), features, frames.tolist(), (dataset.utterances[i] for i in chosen), strict=True
        )
    ]


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
def _mistake(recognizer: Recognizer, corpus: Corpus, clip: int, row: list[str], sure: float) -> Shown:
    waveform, lengths = corpus.batch([clip])
    features, frames = recognizer.features(waveform, lengths)
    picture = recognizer.normalizer(features, frames)[0, :, : int(frames[0])]
    emotion, told, *_, file = row
    return Shown(waveform[0, : int(lengths[0])], picture, f"{file}: {emotion}, told {told} {100 * sure:.0f} %")


def _printable(row: list[str]) -> list[str]:
    """File names need not be text, nor one line of a table."""
    return [" ".join(cell.encode(errors="backslashreplace").decode().split()) for cell in row]
