"""`decode_segments`: parts of a long recording become clips in one pass."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from serx.data.audio.channels import ChannelMixer
from serx.data.audio.clip import clip_from_mono
from serx.data.audio.config import AudioConfig
from serx.data.audio.error import AudioError
from serx.data.audio.sound_file import BLOCK, DAMAGED, OpenedFile, opened
from serx.data.utterance import Segment
from serx.files import StrPath

ROUNDED_SECONDS = 0.01  # a segment may end so far behind its file: tables round


def decode_segments(
    path: StrPath, spans: Sequence[tuple[float, float | None]], config: AudioConfig
) -> Iterator[tuple[int, np.ndarray | AudioError, list[str]]]:
    """Decodes parts of a recording of any length in one pass; only parts that are being read are in memory.

    Each part becomes the clip that `decode` makes of it if it is cut into a file of its own: the same samples bit for
    bit. Gaps are skipped where the format allows it exactly.

    Args:
        path: of the file.
        spans: `(start, end)` of each part in seconds; an end of None is that of the file. The first sample is
            `round(start * rate)` and the last one is before `round(end * rate)`.
        config: how a part becomes a waveform.

    Yields:
        The index of a span; its `(T,)` float32, or why it cannot be used; and what a user should know about it. In the
        order of the ends. The reason of a span that is not within the file is `out_of_range`; an end up to 10 ms behind
        the file's own is taken for that one, since tables round.
    """
    path = Path(path)
    parts = [_Part(number, Segment(path, *span)) for number, span in enumerate(spans)]
    missing = dict.fromkeys(parts)
    try:
        notes: list[str] = []
        with opened(path, math.inf, notes) as file:
            file.check_container()
            for part in parts:
                part.begin(file.rate, config, notes)
            for part, result in _read_parts(file, parts):
                del missing[part]
                yield part.number, *result
    except AudioError as error:
        for part in missing:
            yield part.number, error, []


_Result = tuple[np.ndarray | AudioError, list[str]]


def _read_parts(file: "OpenedFile", parts: Sequence["_Part"]) -> Iterator[tuple["_Part", _Result]]:
    waiting = deque(sorted(parts, key=lambda part: part.first))
    reading: list[_Part] = []
    if file.frames is not None:
        for part in [part for part in waiting if not part.is_within(file.frames)]:
            waiting.remove(part)
            yield part, part.refused(file.frames)
    position, blocks = 0, file.blocks()
    while waiting or reading:
        if not reading and waiting[0].first - position > BLOCK and file.seek(waiting[0].first):
            position = waiting[0].first
        block = next(blocks, None)
        if block is None:
            break
        while waiting and waiting[0].first < position + len(block):
            reading.append(waiting.popleft())
        for part in list(reading):
            if part.add(block, position):
                reading.remove(part)
                yield part, part.finished(file.damage())
        position += len(block)
    if waiting or reading:
        file.check_end(position)
    for part in [*reading, *waiting]:
        yield part, part.finished() if part.is_within(position) else part.refused(position)


class _Part:
    """A part of a file that is being read: its samples are mixed in the blocks of a file of its own."""

    def __init__(self, number: int, segment: Segment) -> None:
        self.number, self.segment = number, segment
        self._blocks: list[np.ndarray] = []
        self._pending: list[np.ndarray] = []
        self._frames = 0

    def begin(self, rate: int, config: AudioConfig, notes: list[str]) -> None:
        """Sets the frames to read; `notes` are those on the file, which reading it may add to."""
        self.first = round(self.segment.start * rate)
        self.last = None if self.segment.end is None else round(self.segment.end * rate)
        self._rate, self._config = rate, config
        self._limit = int(config.max_seconds * rate) + 1
        self._notes, self._mix = notes, ChannelMixer(config.channel, rate)

    def is_within(self, frames: int) -> bool:
        """Whether it lies in a file of so many frames."""
        return self.first < frames and (self.last is None or self.last - frames <= ROUNDED_SECONDS * self._rate)

    def add(self, block: np.ndarray, position: int) -> bool:
        """Takes its share of `block (n, channels)`, which begins at frame `position`; True if nothing is missing."""
        stop = len(block) if self.last is None else self.last - position
        self._pending.append(block[max(0, self.first - position) : max(0, stop)])
        self._frames += len(self._pending[-1])
        if sum(map(len, self._pending)) >= BLOCK:
            self._mix_pending(BLOCK)
        return (stop <= len(block) and self.last is not None) or self._frames > self._limit

    def _mix_pending(self, at_least: int) -> None:
        frames = np.concatenate(self._pending) if self._pending else np.zeros((0, 1), np.float32)
        while len(frames) >= at_least and len(frames):
            self._blocks.append(np.array(self._mix(frames[:BLOCK])))
            frames = frames[BLOCK:]
        self._pending = [frames]

    def finished(self, damage: str = "") -> _Result:
        """The clip, or why it cannot be used, such as `damage` in or before it; and notes."""
        self._mix_pending(0)
        mono = np.concatenate([np.zeros(0, np.float32), *self._blocks])
        self._blocks, self._pending = [], []
        name, longest = str(self.segment), self._config.max_seconds
        try:
            if self._frames > longest * self._rate:
                seconds = "" if self.last is None else f"{self._seconds(self.last - self.first)}, "
                raise AudioError(name, "too_long", f"{seconds}data.max_seconds is {longest:g}")
            if damage:
                raise AudioError(name, "decode_error", f"{damage} up to here{DAMAGED}")
            clip = clip_from_mono(mono, self._rate, self._config, name)
            return clip, list(dict.fromkeys([*self._notes, *self._mix.notes]))
        except AudioError as error:
            return error, []

    def refused(self, frames: int) -> _Result:
        """The error of a part that is not within the `frames` of the file."""
        detail = f"the file has {frames / self._rate:.3f} s"
        return AudioError(str(self.segment), "out_of_range", detail), []

    def _seconds(self, frames: int) -> str:
        return f"{frames / self._rate:.1f} s"
