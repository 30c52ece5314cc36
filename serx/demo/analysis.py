"""What the demo computes: the prediction of a recording and of its parts, within limits of length and time.

Nothing here knows the browser. Every fault of a recording is an `AudioError` or another `SerxError`.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
from torch import Tensor

from serx.data.audio.decoding import read_blocks
from serx.data.audio.error import AudioError
from serx.data.synthetic import synthesize_clip, synthesize_speaker
from serx.errors import DataError
from serx.inference.prediction import PredictedSegment, Prediction
from serx.inference.predictor import Predictor
from serx.inference.segmentation import MAX_SECONDS as LONGEST_PART
from serx.inference.segmentation import RATE

MAX_RECORDING_SECONDS = 600.0  # what comes later is not analyzed
MAX_ANALYSIS_SECONDS = 120.0  # of computing for one recording
MAX_VOICE_FILES = 40  # that a voice is adapted to
MAX_VOICE_SECONDS = 300.0  # of all of them
CONVERSATION = ("neutral", "happy", "sad", "angry")  # emotions of the example of a long recording
PAUSE_LEVEL = 3e-4  # of the noise in the pauses, re full scale
PAUSE_SECONDS = 0.7  # between its sentences


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a recording that was cut at its pauses.

    Attributes:
        start: seconds from the start of the recording.
        samples: `(T,)` int16 at 16 kHz.
        prediction: of the part.
    """

    start: float
    samples: np.ndarray
    prediction: Prediction

    @property
    def end(self) -> float:
        """Seconds from the start of the recording."""
        return self.start + len(self.samples) / RATE


@dataclass(frozen=True, eq=False)
class Analysis:
    """The prediction of a recording.

    Attributes:
        prediction: of the whole, as `serx predict` gives it.
        seconds: the length of what was analyzed.
        parts: of a recording that is longer than one part can be.
        note: why a part of the recording was left out; or None.
    """

    prediction: Prediction
    seconds: float
    parts: tuple[Part, ...] = ()
    note: str | None = None


def analyze(
    predictor: Predictor,
    path: Path,
    max_seconds: float = MAX_RECORDING_SECONDS,
    max_analysis_seconds: float = MAX_ANALYSIS_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Analysis:
    """Predicts a recording, and its parts if it is longer than 6 s.

    Args:
        predictor: of the model.
        path: a file of any format that serx reads.
        max_seconds: the rest of a longer recording is left out, with a note.
        max_analysis_seconds: of computing, after which the rest is left out, with a note.
        clock: seconds, from any moment on.

    Raises:
        AudioError: the recording cannot be used.
        SerxError: something else is wrong.
    """
    limit, warnings = _Limit(max_seconds, clock() + max_analysis_seconds, clock), list[str]()
    blocks = limit.cut(read_blocks(path, RATE, predictor.config.data.channel, warnings))
    beginning, seconds = list[np.ndarray](), 0.0
    for block in blocks:
        beginning.append(block)
        seconds += len(block) / RATE
        if seconds > predictor.config.data.max_seconds:
            break
    if seconds <= predictor.config.data.max_seconds and limit.note is None:
        prediction = predictor(path)
        if seconds <= LONGEST_PART:
            return Analysis(prediction, seconds)
        parts = tuple(map(_part, predictor.stream(np.concatenate(beginning), RATE)))
        return Analysis(prediction, seconds, parts)
    segments = list(predictor.stream(chain(beginning, blocks), RATE))
    prediction = replace(predictor.pool(segments), path=path, warning="; ".join(warnings) or None)
    if prediction.error is not None:
        reason, _, detail = prediction.error.partition(": ")
        raise AudioError(path, reason, detail)
    return Analysis(prediction, limit.seconds, tuple(map(_part, segments)), limit.note)


class _Limit:
    """Ends a recording that is too long or takes too long; `note` says so."""

    def __init__(self, max_seconds: float, deadline: float, clock: Callable[[], float]) -> None:
        self._max_seconds, self._deadline, self._clock = max_seconds, deadline, clock
        self.seconds = 0.0
        self.note: str | None = None

    def cut(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            room = round((self._max_seconds - self.seconds) * RATE)
            if len(block) > room:
                self.seconds = self._max_seconds
                self.note = f"Only the first {spoken(self._max_seconds)} were analyzed."
                yield block[:room]
                return
            self.seconds += len(block) / RATE
            yield block
            if self._clock() > self._deadline:
                self.note = f"It took too long: only the first {spoken(self.seconds)} were analyzed."
                return


def _part(segment: PredictedSegment) -> Part:
    samples = (segment.waveform * 32767).round().clip(-32768, 32767).astype(np.int16)
    return Part(segment.start, samples, segment.prediction)


def voice_clips(
    predictor: Predictor, paths: list[Path], max_seconds: float = MAX_VOICE_SECONDS
) -> tuple[list[Tensor], dict[Path, str]]:
    """The clips of one speaker to adapt to, and the reasons of the files that cannot be used.

    Raises:
        DataError: there are too many files, they are too long, or too little of them can be used.
    """
    if len(paths) > MAX_VOICE_FILES:
        raise DataError(f"{len(paths)} files are too many; give at most {MAX_VOICE_FILES}")
    room, skipped, usable = max_seconds, dict[Path, str](), list[Path]()
    for path in paths:
        try:
            for block in read_blocks(path, RATE, predictor.config.data.channel):  # a small file can hold hours
                room -= len(block) / RATE
                if room < 0:
                    raise DataError(
                        f"the clips are longer than {spoken(max_seconds)} in all; give fewer or shorter ones"
                    )
        except AudioError as error:
            skipped[path] = f"{error.reason}: {error.detail}"
            continue
        usable.append(path)
    clips, others = predictor.adaptation_clips(usable)
    if len(clips) < 2:
        raise DataError("too little speech to adapt to; give two or more clips of the same voice, better ten")
    return clips, {**skipped, **others}


def synthetic_voice(number: int, emotion: str, seed: int = 0) -> np.ndarray:
    """One sentence of a synthetic speaker, `(T,)` int16 at 16 kHz; speakers are numbered from 1."""
    clip = synthesize_clip(synthesize_speaker(number, seed), emotion, False, 1, 1, seed)
    return (clip * 32767).astype(np.int16)


def synthetic_conversation(seed: int = 0) -> np.ndarray:
    """Sentences of two synthetic speakers with pauses, `(T,)` int16 at 16 kHz, about 15 s."""
    noise = np.random.default_rng(seed).standard_normal(round(PAUSE_SECONDS * RATE))  # no microphone records zeros
    pause = (32767 * PAUSE_LEVEL * noise).round().astype(np.int16)
    turns = [synthetic_voice(1 + i % 2, emotion, seed) for i, emotion in enumerate(CONVERSATION * 2)]
    return np.concatenate([piece for turn in turns for piece in (turn, pause)])


def spoken(seconds: float) -> str:
    """A length of time in words.

    >>> spoken(600), spoken(5.25)
    ('10 minutes', '5.2 seconds')
    """
    return f"{seconds / 60:g} minutes" if seconds >= 120 and seconds % 60 == 0 else f"{seconds:.1f} seconds"
