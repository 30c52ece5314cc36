"""Running speech, cut at its pauses into utterances: what the models were trained on, and all they can judge.

Silero VAD (Silero Team 2021) tells speech from silence in windows of 32 ms. An utterance ends with a pause of
`PAUSE_SECONDS`; who speaks on without one is cut at `MOST_SECONDS`. It starts and ends `MARGIN_SECONDS` outside of what
was taken for speech, since quiet ends belong to it.
"""

import warnings
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch

RATE = 16_000  # Hz, of what is heard here
WINDOW = 512  # samples, what Silero VAD takes at this rate
PAUSE_SECONDS = 0.4
MARGIN_SECONDS = 0.1
LEAST_SECONDS = 0.25  # of speech: less is a cough, a click or a breath
MOST_SECONDS = 6.0  # the longest clips of the acted corpora; a longer one blurs moods


class Utterance(NamedTuple):
    """`waveform (T,)` float32 at `RATE`, and where it begins, in seconds from the start of the recording."""

    start: float
    waveform: np.ndarray

    @property
    def end(self) -> float:
        return self.start + len(self.waveform) / RATE


class SpeechSegmenter:
    """Takes blocks of a recording as they come, and gives each utterance as soon as it is over."""

    def __init__(self) -> None:
        threads = torch.get_num_threads()
        from silero_vad import VADIterator, load_silero_vad  # noqa: PLC0415 (for those who need it)

        torch.set_num_threads(threads)  # whoever imports it finds torch on one
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # it is kept as TorchScript, which torch calls deprecated
            self._detector = VADIterator(
                load_silero_vad(),
                sampling_rate=RATE,
                min_silence_duration_ms=round(1000 * PAUSE_SECONDS),
                speech_pad_ms=round(1000 * MARGIN_SECONDS),
            )
        self._kept = np.zeros(0, np.float32)  # from the utterance's start, or of silence as much as may belong to one
        self._first = 0  # the number of its first sample
        self._told = 0  # samples that the detector has heard
        self._start: int | None = None  # the first sample of the utterance that is being spoken

    def hear(self, block: np.ndarray) -> Iterator[Utterance]:
        """The utterances that end in `block (t,)`, float32 at `RATE`; t is any number."""
        self._kept = np.concatenate([self._kept, block])
        while self._first + len(self._kept) - self._told >= WINDOW:
            at = self._told - self._first
            event = self._detector(torch.from_numpy(self._kept[at : at + WINDOW]))
            self._told += WINDOW
            if event and "start" in event:
                self._start = max(event["start"], self._first)
            elif event:
                yield from self._cut(event["end"])
                self._start = None
            elif self._start is not None and self._told - self._start >= MOST_SECONDS * RATE:
                yield from self._cut(self._told)
                self._start = self._told
            if self._start is None:
                self._forget(self._told - round((PAUSE_SECONDS + MARGIN_SECONDS) * RATE))

    def finish(self) -> Iterator[Utterance]:
        """The utterance that is being spoken where the recording ends."""
        if self._start is not None:
            yield from self._cut(self._first + len(self._kept))
        self._start = None

    def _cut(self, end: int) -> Iterator[Utterance]:
        """What was spoken up to sample `end`, unless it is too little."""
        assert self._start is not None
        if end - self._start >= (LEAST_SECONDS + 2 * MARGIN_SECONDS) * RATE:
            waveform = self._kept[self._start - self._first : end - self._first]
            yield Utterance(self._start / RATE, waveform.copy())
        self._forget(end)

    def _forget(self, before: int) -> None:
        drop = max(0, before - self._first)
        self._kept, self._first = self._kept[drop:], self._first + drop


def utterances(blocks: Iterable[np.ndarray]) -> Iterator[Utterance]:
    """Each utterance of a recording, as soon as it is over."""
    segmenter = SpeechSegmenter()
    for block in blocks:
        yield from segmenter.hear(block)
    yield from segmenter.finish()
