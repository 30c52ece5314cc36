"""`ChannelMixer`: several channels become one."""

import numpy as np

from serx.data.audio.config import Channel
from serx.data.audio.levels import SILENT_DB, quick_moments

# Channels cancel each other where their mean has less than this part of the power that it would have if they were
# unrelated: a correlation of two equally loud channels below -0.75.
CANCELING = 0.25
MIN_SECONDS_TO_JUDGE = 0.1  # of a block behind the first, for its channels to be compared


class ChannelMixer:
    """Mixes the blocks of one recording to mono, in their order.

    Where the channels cancel each other (a microphone with swapped wires), the loudest of that block is used from there
    on.

    Attributes:
        notes: what a user should know: that channels cancel each other, or that there is no right one.

    >>> mixer = ChannelMixer("mix", 16_000)
    >>> tone = np.sin(np.arange(8000, dtype=np.float32))
    >>> bool(np.array_equal(mixer(np.stack([tone, -tone], axis=1)), tone)), len(mixer.notes)
    (True, 1)
    """

    def __init__(self, channel: Channel, rate: int, notes: list[str] | None = None) -> None:
        self.notes: list[str] = [] if notes is None else notes
        self._channel, self._min_frames = channel, 0
        self._min_frames_later = round(MIN_SECONDS_TO_JUDGE * rate)
        self._instead: int | None = None  # the channel that is used because all of them cancel

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """`(n,)` float32 of a block `(n, channels)` float32."""
        count = block.shape[1]
        if self._channel == "right" and count == 1:
            self._note("it has one channel, which is used as the right one")
        if count == 1 or self._channel == "left":
            return block[:, 0]
        if self._channel == "right":
            return block[:, 1]
        with np.errstate(invalid="ignore", over="ignore"):  # the caller raises on NaN and infinity
            # The same numbers as the mean's, in a tenth of the time.
            mixed = (block[:, 0] + block[:, 1]) / 2 if count == 2 else block.mean(axis=1)
            if self._instead is None and len(block) >= self._min_frames:
                self._instead = _instead_of_mix(block, mixed)
                if self._instead is not None:
                    name = ("left", "right")[self._instead] if count == 2 else f"number {self._instead + 1}"
                    self._note(
                        f"its {count} channels cancel each other in the mix (is one inverted?), so only the {name} one "
                        "is used; choose with --channel or data.channel"
                    )
        self._min_frames = self._min_frames_later
        return mixed if self._instead is None else block[:, min(self._instead, count - 1)]

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def _instead_of_mix(block: np.ndarray, mixed: np.ndarray) -> int | None:
    """The loudest channel of `block (n, channels)` if `mixed (n,)` shows that they cancel each other, else None."""
    if len(block) == 0:
        return None
    # In a fraction of the time, most mixes prove to be louder than those of channels that cancel.
    frames, channels = block.shape
    most = np.vdot(block, block) / (frames * channels)  # at least the channels' mean power around their means
    mean, power_of_mix = quick_moments(mixed)
    if (power_of_mix - mean**2) * channels > 1.01 * CANCELING * most:
        return None
    power = block.var(axis=0)  # around the mean: a constant offset is not sound
    if not power.mean() > 10 ** (SILENT_DB / 10):
        return None
    cancel = mixed.var() * block.shape[1] < CANCELING * power.mean()
    return int(power.argmax()) if cancel else None
