"""`Contradictions`: finds rows of tables that say different things about the same file or the same speaker."""

from collections.abc import Hashable
from pathlib import Path

from serx.data.observed_files import FileIdentity
from serx.data.tables.cells import Place, where_is
from serx.data.utterance import Segment, Sex, Utterance

_Audio = tuple[FileIdentity, float, float | None]  # a part of a file, from start to end


class Contradictions:
    """What the rows so far say, which no later row must contradict.

    Attributes:
        sexes: `speaker_id` -> sex, and where it is written.
    """

    def __init__(self) -> None:
        self.sexes: dict[str, tuple[Sex, Place]] = {}
        self._spellings: dict[str, tuple[str, Place]] = {}
        self._missing: dict[Segment, Utterance] = {}
        self._files: dict[_Audio, Utterance] = {}
        self._names: dict[_Audio, dict[Path, Utterance]] = {}  # of files that several rows name
        self._agreeing = set[Hashable]()

    def find(self, place: Place, clip: Utterance, file: FileIdentity | None, words: Hashable) -> str | None:
        """What the clip of a row contradicts; None if it contradicts nothing.

        Args:
            file: the identity of its audio; None: missing.
            words: all that the row says about the speaker; equal for rows that say the same.
        """
        fault = self._named_twice(place, clip, file)
        if fault is None and words not in self._agreeing:
            fault = self._of_speaker(place, clip)
            if fault is None:
                self._agreeing.add(words)
        return fault

    def _named_twice(self, place: Place, clip: Utterance, file: FileIdentity | None) -> str | None:
        """Whether an earlier row has the same part of the same file, under this name or another."""
        if file is None:
            other = self._missing.setdefault(clip.segment, clip)
            first = clip
        else:
            audio = (file, clip.start, clip.end)
            first = self._files.setdefault(audio, clip)
            if first is clip:
                return None
            other = self._names.setdefault(audio, {first.path: first}).setdefault(clip.path, clip)
        what, table = clip.segment, place[0]
        if other is not clip:
            return f"{what.name!r} is already {where_is(_place(other), table)}; delete one of the two rows"
        if first is clip:
            return None
        same = "the same part of the same file" if what.fragment else "the same file"
        where = where_is(_place(first), table)
        return f"{what.name!r} is {same} as {first.segment.name!r} {where}; delete one of the two rows"

    def _of_speaker(self, place: Place, clip: Utterance) -> str | None:
        """Whether an earlier row says something else about the speaker."""
        table = place[0]
        if not clip.speaker_known:
            return None
        # `Anna` and `anna` counted as two people could be in both parts of a split.
        spelling, first = self._spellings.setdefault(clip.speaker_id.casefold(), (clip.speaker, place))
        if spelling != clip.speaker:
            where = where_is(first, table)
            return f"speaker {clip.speaker!r} is {spelling!r} {where}; spell the name the same way everywhere"
        if clip.sex is not None:
            sex, first = self.sexes.setdefault(clip.speaker_id, (clip.sex, place))
            if sex != clip.sex:
                return f"speaker {clip.speaker!r} is {clip.sex}, but {sex} {where_is(first, table)}; make both the same"
        return None


def _place(clip: Utterance) -> Place:
    table, _, line = clip.source.rpartition(":")
    return table, int(line)
