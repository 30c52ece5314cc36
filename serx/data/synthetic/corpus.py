"""A synthetic corpus on disk, with RAVDESS's file names, for demos and tests without a download.

It is not human speech, and no score on it says anything about people. It has what makes the task hard: speakers differ
in how they sound and in how they express each emotion, so a random split scores far above a split by speaker.
"""

import json
import wave
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serx.data.synthetic.speaking_styles import EMOTIONS, synthesize_clip, synthesize_speaker
from serx.data.synthetic.vocal_tract import SAMPLE_RATE
from serx.errors import ConfigError, DataError, DiskError
from serx.files import StrPath, why_not_written
from serx.terminal import ProgressBar

STAMP = "made-up-corpus.json"
VERSION = 1  # increased when the same settings give other samples


@dataclass(frozen=True)
class Take:
    """One clip of the corpus; the attributes are arguments of `synthesize_clip`."""

    speaker: int
    emotion: str
    strong: bool
    statement: int
    repetition: int

    @property
    def name(self) -> str:
        """RAVDESS's name: `Actor_07/03-01-05-02-01-01-07.wav` is emotion 5, strong, statement 1, take 1, actor 7."""
        emotion, intensity = EMOTIONS.index(self.emotion) + 1, 1 + self.strong
        code = f"03-01-{emotion:02d}-{intensity:02d}-{self.statement:02d}-{self.repetition:02d}-{self.speaker:02d}"
        return f"Actor_{self.speaker:02d}/{code}.wav"

    def samples(self, seed: int) -> NDArray[np.float32]:
        """The clip, `(T,)` float32 at 16 kHz."""
        return synthesize_clip(
            synthesize_speaker(self.speaker, seed), self.emotion, self.strong, self.statement, self.repetition, seed
        )


def list_takes(speakers: int, clips_per_emotion: int) -> list[Take]:
    """The clips of a corpus, sorted by speaker and emotion; a smaller corpus is a subset of a larger one.

    Within an emotion the statement changes first, then the intensity (neutral has one), then the repetition.

    >>> [take.name for take in list_takes(speakers=1, clips_per_emotion=1)][:2]
    ['Actor_01/03-01-01-01-01-01-01.wav', 'Actor_01/03-01-02-01-01-01-01.wav']
    """
    takes = []
    for speaker in range(1, speakers + 1):
        for emotion in EMOTIONS:
            intensities = (False,) if emotion == "neutral" else (False, True)
            variants = [
                (strong, statement, repetition)
                for repetition in (1, 2)
                for strong in intensities
                for statement in (1, 2)
            ]
            takes += [Take(speaker, emotion, *variant) for variant in variants[:clips_per_emotion]]
    return takes


def holds_corpus(root: StrPath, speakers: int = 24, clips_per_emotion: int = 4, seed: int = 0) -> bool:
    """Whether the folder holds the complete corpus of these arguments; compares every byte by a digest.

    >>> holds_corpus("/no/such/folder")
    False
    """
    root = Path(root)
    stamp = _read_stamp(root)
    paths = [root / take.name for take in list_takes(speakers, clips_per_emotion)]
    if not _settings(speakers, clips_per_emotion, seed).items() <= stamp.items() or not all(p.is_file() for p in paths):
        return False
    digest = sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return stamp.get("sha256") == digest.hexdigest()


def make_corpus(
    root: StrPath, speakers: int = 24, clips_per_emotion: int = 4, seed: int = 0, progress: bool = True
) -> Path:
    """Writes the corpus into a folder as 16 kHz mono 16-bit WAV. The same arguments give the same bytes.

    A folder that holds this corpus already is not changed; an incomplete one is written again.

    Args:
        root: a new or empty folder, or one that this function has written with the same arguments.
        speakers: 1 to 24.
        clips_per_emotion: per speaker, 1 to 8 (at most 4 neutral ones, which is all that RAVDESS's names allow).
        seed: >= 0.
        progress: show a bar.

    Returns:
        root.

    Raises:
        ConfigError: an argument out of range.
        DataError: the folder holds something else.
        DiskError: a file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = make_corpus(folder, speakers=1, clips_per_emotion=1, progress=False)
    ...     len(list(Path(folder).rglob("*.wav"))), holds_corpus(folder, speakers=1, clips_per_emotion=1)
    (8, True)
    """
    root = Path(root)
    if not (1 <= speakers <= 24 and 1 <= clips_per_emotion <= 8 and seed >= 0):
        given = f"speakers={speakers}, clips_per_emotion={clips_per_emotion}, seed={seed}"
        raise ConfigError(f"no such synthetic corpus: {given}; use 1 to 24 speakers, 1 to 8 clips and a seed >= 0")
    if holds_corpus(root, speakers, clips_per_emotion, seed):
        return root
    settings = _settings(speakers, clips_per_emotion, seed)
    if _is_foreign(root, settings):
        raise DataError(
            f"{root} holds something else than this synthetic corpus; choose another folder, or empty this one"
        )
    digest = sha256()
    path = root / STAMP
    try:
        root.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))  # without a digest: incomplete
        takes = list_takes(speakers, clips_per_emotion)
        with ProgressBar("synthesize", len(takes), "clips", progress) as bar:
            for take in takes:
                path = root / take.name
                path.parent.mkdir(exist_ok=True)
                _write_wave(path, take.samples(seed))
                digest.update(path.read_bytes())
                bar.update()
        path = root / STAMP
        path.write_text(json.dumps(settings | {"sha256": digest.hexdigest()}))
    except OSError as error:
        raise DiskError(f"cannot write {path}: {why_not_written(error, path)}") from error
    return root


def _settings(speakers: int, clips_per_emotion: int, seed: int) -> dict[str, object]:
    return {"version": VERSION, "speakers": speakers, "clips_per_emotion": clips_per_emotion, "seed": seed}


def _read_stamp(root: Path) -> dict[str, object]:
    try:
        stamp = json.loads((root / STAMP).read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _is_foreign(root: Path, settings: dict[str, object]) -> bool:
    if not root.is_dir():
        return root.exists()
    return any(root.iterdir()) and not settings.items() <= _read_stamp(root).items()


def _write_wave(path: Path, samples: NDArray[np.float32]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples * 32768).astype("<i2").tobytes())
