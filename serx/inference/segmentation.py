"""Cut running speech at its pauses into segments as long as the clips that models are trained on.

Silero VAD (Silero Team 2021) detects speech in windows of 32 ms. A segment ends at a pause of `PAUSE_SECONDS`; speech
without a pause is cut after `MAX_SECONDS`. A segment starts and ends `MARGIN_SECONDS` outside the detected speech,
because the detector misses quiet onsets and endings.
"""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

RATE = 16_000  # Hz, of everything in this module
WINDOW = 512  # samples; Silero VAD accepts no other size at this rate
PAUSE_SECONDS = 0.4
MARGIN_SECONDS = 0.1
MIN_SECONDS = 0.25  # of speech; anything shorter is a cough, a click or a breath
MAX_SECONDS = 6.0  # the longest clips of acted corpora; a longer segment mixes emotions


@dataclass(frozen=True, eq=False)
class Segment:
    """A stretch of speech in a recording.

    Attributes:
        start: seconds from the start of the recording.
        waveform: `(T,)` float32 at `RATE`, 16 kHz.

    >>> segment = Segment(1.5, np.zeros(8000, np.float32))
    >>> segment.end
    2.0
    """

    start: float
    waveform: np.ndarray

    @property
    def end(self) -> float:
        """Seconds from the start of the recording."""
        return self.start + len(self.waveform) / RATE


class SpeechSegmenter:
    """Takes the blocks of a recording as they arrive and returns each segment as soon as it has ended.

    >>> segmenter = SpeechSegmenter()
    >>> silence = np.zeros(16_000, np.float32)
    >>> [*segmenter.push(silence), *segmenter.flush()]
    []
    """

    def __init__(self) -> None:
        threads = torch.get_num_threads()
        from silero_vad import VADIterator, load_silero_vad  # noqa: PLC0415 (takes a second, and few need it)

        torch.set_num_threads(threads)  # importing silero_vad sets one thread
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch deprecates TorchScript, the format of this model
            self._detector = VADIterator(
                load_silero_vad(),
                sampling_rate=RATE,
                min_silence_duration_ms=round(1000 * PAUSE_SECONDS),
                speech_pad_ms=round(1000 * MARGIN_SECONDS),
            )
        self._buffer = np.zeros(0, np.float32)  # the current segment, or the silence that the next one may begin with
        self._buffer_start = 0  # position of its first sample in the recording
        self._analyzed = 0  # samples that the detector has seen
        self._segment_start: int | None = None  # first sample of the current segment

    def push(self, block: np.ndarray) -> Iterator[Segment]:
        """Yields the segments that end in `block (t,)`, float32 at `RATE`; t is any number."""
        self._buffer = np.concatenate([self._buffer, block])
        while self._buffer_start + len(self._buffer) - self._analyzed >= WINDOW:
            offset = self._analyzed - self._buffer_start
            event = self._detector(torch.from_numpy(self._buffer[offset : offset + WINDOW]))
            self._analyzed += WINDOW
            if event and "start" in event:
                self._segment_start = max(event["start"], self._buffer_start)
            elif event:
                yield from self._segment_until(event["end"])
                self._segment_start = None
            elif self._segment_start is not None and self._analyzed - self._segment_start >= MAX_SECONDS * RATE:
                yield from self._segment_until(self._analyzed)
                self._segment_start = self._analyzed
            if self._segment_start is None:
                self._drop_before(self._analyzed - round((PAUSE_SECONDS + MARGIN_SECONDS) * RATE))

    def flush(self) -> Iterator[Segment]:
        """Yields the segment that is not over when the recording ends."""
        if self._segment_start is not None:
            yield from self._segment_until(self._buffer_start + len(self._buffer))
        self._segment_start = None

    def _segment_until(self, end: int) -> Iterator[Segment]:
        """The current segment up to sample `end`, unless it is too short."""
        assert self._segment_start is not None
        if end - self._segment_start >= (MIN_SECONDS + 2 * MARGIN_SECONDS) * RATE:
            waveform = self._buffer[self._segment_start - self._buffer_start : end - self._buffer_start]
            yield Segment(self._segment_start / RATE, waveform.copy())
        self._drop_before(end)

    def _drop_before(self, position: int) -> None:
        count = max(0, position - self._buffer_start)
        self._buffer, self._buffer_start = self._buffer[count:], self._buffer_start + count


def speech_segments(blocks: Iterable[np.ndarray]) -> Iterator[Segment]:
    """Yields the segments of a recording, each as soon as it has ended.

    Args:
        blocks: consecutive parts `(t,)` of the recording, float32 at `RATE`, of any sizes.

    >>> list(speech_segments([np.zeros(1600, np.float32)] * 5))
    []
    """
    segmenter = SpeechSegmenter()
    for block in blocks:
        yield from segmenter.push(block)
    yield from segmenter.flush()
