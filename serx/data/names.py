"""Names of speakers and corpora: when two spellings are one name, and when to ask whether they are.

What looks the same is the same: `visible` removes what no reader sees. What looks alike, such as `S07` and `speaker 7`,
has the same `name_key`, and `settle_names` raises until the table or the configuration says whether it is one person:
one voice counted as two speakers could be in training and in test.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from serx.base_config import BaseConfig, Name
from serx.data.corpora import CORPORA, canonical_corpus, canonical_speaker, name_key
from serx.data.utterance import Utterance
from serx.data.utterances import Utterances, Words
from serx.errors import DataError

MAX_SHOWN = 5  # pairs in a message


def _check_groups(groups: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    for group in groups:
        if len(set(group)) < 2 or len({"/" in name for name in group}) != 1:
            listed = ", ".join(group)
            raise ValueError(
                f"[{listed}] should be two or more speakers, such as [own/Ann, own/ann_lee], or two or more corpora"
            )
    return groups


Group = Annotated[tuple[Name, ...], Field(max_length=1000)]
Groups = Annotated[tuple[Group, ...], Field(max_length=10_000), AfterValidator(_check_groups)]


class NamesConfig(BaseConfig):
    """Which names that look alike are one speaker (`corpus/speaker`) or one corpus, and which are not.

    >>> NamesConfig(same_names=[["own/S07", "own/spk7"]]).same_names
    (('own/S07', 'own/spk7'),)
    """

    same_names: Groups = Field(
        (), description="groups of names that are one speaker or one corpus, such as [[own/S07, own/spk7]]"
    )
    different_names: Groups | Literal["all"] = Field(
        (),
        description="groups of names that look alike and are different speakers or corpora; all: every name that looks "
        "like another is someone else's",
    )

    def differ(self, first: str, second: str) -> bool:
        """Whether two names are declared to be different speakers or different corpora."""
        groups = self.different_names
        pair = {_canonical(first), _canonical(second)}
        return groups == "all" or any(pair <= {_canonical(name) for name in group} for group in groups)


NO_NAMES = NamesConfig()


def same_speaker(clip: Utterance, speaker_id: str, names: NamesConfig = NO_NAMES) -> bool:
    """Whether the speaker of `clip` must be counted as the person `speaker_id` (`corpus/speaker`).

    True also if the names look alike, unless `names` declares them different; and if the two share a name and a
    manifest named no corpus for `clip`: then the name of the manifest's file says nothing about who speaks, and one
    person counted as two could be in both parts of a split. Speakers of known corpora are only themselves.

    >>> from pathlib import Path
    >>> clip = Utterance(Path("/a.wav"), "own", "spk7", "sad")
    >>> same_speaker(clip, "own/S07"), same_speaker(clip, "own/S17"), same_speaker(clip, "other/07")
    (True, False, False)
    """
    if clip.speaker_id.casefold() == speaker_id.casefold():
        return True
    corpus, _, speaker = speaker_id.partition("/")
    if name_key(clip.speaker, person=True) != name_key(speaker, person=True) or names.differ(
        clip.speaker_id, speaker_id
    ):
        return False
    return clip.corpus == corpus or (not clip.corpus_named and corpus not in CORPORA)


def settle_names(utterances: Sequence[Utterance], names: NamesConfig) -> Utterances:
    """The utterances with one name for each speaker and corpus, the first of its group in `names.same_names`.

    Raises:
        DataError: names that look alike and that `names` says nothing about, or a speaker of two sexes; each line
            begins with the file and line of the row.

    >>> from pathlib import Path
    >>> clips = [Utterance(Path(f"/{name}.wav"), "own", name, "sad") for name in ("S07", "spk7", "S17")]
    >>> names = NamesConfig(same_names=[["own/S07", "own/spk7"]])
    >>> [clip.speaker for clip in settle_names(clips, names)]
    ['S07', 'S07', 'S17']
    >>> try:
    ...     settle_names(clips, NamesConfig())
    ... except DataError as error:
    ...     print(str(error)[:52])
    /spk7.wav: one person or two? own/S07 and own/spk7 (
    """
    first_names = {_canonical(name): _canonical(group[0]) for group in names.same_names for name in group}
    settled = _renamed(Utterances.of(utterances), first_names)
    # One clip for each combination of what is compared, the first.
    first, _ = settled.distinct("corpus", "speaker", "sex", "speaker_known", "corpus_named")
    some = [settled[i] for i in first.tolist()]
    faults = [*_alike_corpora(some, names), *_alike_speakers(some, names), *_two_sexes(some)]
    if faults:
        raise DataError("\n".join(faults))
    return settled


def _canonical(name: str) -> str:
    corpus, slash, speaker = name.partition("/")
    return canonical_corpus(corpus) + slash + canonical_speaker(speaker)


def _renamed(utterances: Utterances, first_names: Mapping[str, str]) -> Utterances:
    first, number = utterances.distinct("corpus", "speaker")
    new_names = []
    for i in first.tolist():
        clip = utterances[i]
        corpus = first_names.get(clip.corpus, clip.corpus)
        corpus, _, speaker = first_names.get(f"{corpus}/{clip.speaker}", f"{corpus}/{clip.speaker}").partition("/")
        new_names.append((corpus, speaker))
    if all((utterances[i].corpus, utterances[i].speaker) == new for i, new in zip(first, new_names, strict=True)):
        return utterances
    columns = (Words.of(column) for column in zip(*new_names, strict=True))
    corpus_words, speaker_words = (Words(column.codes[number], column.values) for column in columns)
    return utterances.with_words(corpus=corpus_words, speaker=speaker_words)


def _alike_corpora(utterances: Iterable[Utterance], names: NamesConfig) -> list[str]:
    where: dict[str, str] = {}
    for clip in utterances:
        where.setdefault(clip.corpus, clip.source)
    groups: dict[str, list[str]] = defaultdict(list)
    for corpus in where:
        groups[name_key(corpus)].append(corpus)
    pairs = [pair for group in groups.values() for pair in combinations(group, 2) if not names.differ(*pair)]
    if not pairs:
        return []
    return [f"{where[pairs[0][1]]}: one corpus or two? {_listed(pairs, where)}; {_answers(pairs, 'write one name')}"]


def _alike_speakers(utterances: Iterable[Utterance], names: NamesConfig) -> list[str]:
    """A line for speakers of one corpus whose names look alike, and one for speakers of unnamed corpora."""
    where: dict[str, str] = {}
    clips: dict[str, Utterance] = {}
    for clip in utterances:
        if clip.speaker_known:
            where.setdefault(clip.speaker_id, clip.source)
            clips.setdefault(clip.speaker_id, clip)
    groups: dict[str, list[str]] = defaultdict(list)
    for speaker_id, clip in clips.items():
        groups[name_key(clip.speaker, person=True)].append(speaker_id)
    within, across = [], []
    for pair in (pair for group in groups.values() for pair in combinations(group, 2)):
        first, second = clips[pair[0]], clips[pair[1]]
        if names.differ(*pair):
            continue
        if first.corpus == second.corpus:
            within.append(pair)
        elif same_speaker(first, pair[1]) or same_speaker(second, pair[0]):
            across.append(pair)
    lines = []
    if within:
        answers = _answers(within, "spell the name the same way everywhere")
        lines.append(f"{where[within[0][1]]}: one person or two? {_listed(within, where)}; {answers}")
    if across:
        lines.append(
            f"{where[across[0][1]]}: one person or two? {_listed(across, where)}. The manifests have no column corpus; "
            "add one, with the same word for the same people and different words for different people, or "
            f"{_settings(across)}"
        )
    return lines


def _two_sexes(utterances: Iterable[Utterance]) -> list[str]:
    first: dict[str, Utterance] = {}
    faults: dict[str, str] = {}
    for clip in utterances:
        if clip.sex is None or not clip.speaker_known:
            continue
        before = first.setdefault(clip.speaker_id, clip)
        if before.sex != clip.sex:
            faults.setdefault(
                clip.speaker_id,
                f"{clip.source}: speaker {clip.speaker_id} is {clip.sex}, but {before.sex} in {before.source}; make "
                "both the same",
            )
    return list(faults.values())[:MAX_SHOWN]


def _listed(pairs: Sequence[tuple[str, str]], where: Mapping[str, str]) -> str:
    shown = [f"{first} and {second} ({where[first]}, {where[second]})" for first, second in pairs[:MAX_SHOWN]]
    return "; ".join(shown) + (f"; and {len(pairs) - MAX_SHOWN} more" if len(pairs) > MAX_SHOWN else "")


def _answers(pairs: Sequence[tuple[str, str]], same: str) -> str:
    if all(first.casefold() == second.casefold() for first, second in pairs):
        return f"{same}, or set data.same_names={_groups(pairs)}"
    return f"{same}, or {_settings(pairs)}"


def _settings(pairs: Sequence[tuple[str, str]]) -> str:
    groups = _groups(pairs)
    return f"set data.same_names={groups} if they are one, data.different_names={groups} (or all) if they are two"


def _groups(pairs: Sequence[tuple[str, str]]) -> str:
    groups = [f"[{','.join(map(_quoted, pair))}]" for pair in pairs[:MAX_SHOWN]]
    return f"[{','.join(groups)}]"


def _quoted(name: str) -> str:
    """A name as an item of a YAML list."""
    return name if re.fullmatch(r"[\w /.-]+", name) else json.dumps(name, ensure_ascii=False)
