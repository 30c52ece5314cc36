"""`make_split`: from a protocol's name to the clips of train, validation and test, separated by speaker.

A speaker is an `Utterance.speaker_id` throughout. Random choices rank speakers by hashes of their names and
`split_seed`, so a split depends neither on the order of the utterances nor on the training seed.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, PrivateAttr

from serx.base_config import BaseConfig, Name, Seed
from serx.data.corpora import PUBLISHED_CORPORA, canonical_corpus, canonical_speaker
from serx.data.utterance import Utterance
from serx.data.utterances import Utterances, overlapping
from serx.errors import ConfigError, DataError
from serx.seeding import derive

DRAWS = 100  # seeded orders tried for each choice of speakers; the one with the most even classes is used
WITHOUT_SPEAKERS = ("random", "manifest", "cross_corpus", "loco")  # protocols that need not know who speaks
DOUBTFUL, MIN_SPEAKERS_TO_DOUBT = 0.9, 3  # one clip each for such a fraction of so many speakers: are they people?
MIN_SPEAKERS_TO_VALIDATE = 3  # of two speakers, one for validation would leave a single speaker for training


def _as_names(value: Any) -> Any:
    """Lists become tuples, and numbers words: YAML reads 7 as a number."""
    is_list = isinstance(value, list | tuple)
    return tuple(str(name) if type(name) is int else name for name in value) if is_list else value


Names = Annotated[tuple[Name, ...], Field(max_length=10_000), BeforeValidator(_as_names)]


class Places(dict[str, str]):
    """Where each key was written, such as `data.labels` -> `mine.yaml:7`; no part of the setting itself.

    >>> Places({"data.labels": "mine.yaml:7"}) == Places()
    True
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Places)

    __hash__ = None


class ProtocolConfig(BaseConfig):
    """Which clips train, validate and test. `luna5` and `emobox6` split RAVDESS, `iemocap5` IEMOCAP; clips of other
    corpora then train.

    >>> ProtocolConfig(protocol="speakers", test_speakers=[7, "ravdess/08"]).test_speakers
    ('7', 'ravdess/08')
    """

    protocol: Literal[
        "luna5",
        "emobox6",
        "iemocap5",
        "speakers",
        "holdout",
        "kfold",
        "loso",
        "loco",
        "cross_corpus",
        "manifest",
        "random",
    ] = Field("holdout", description="how clips are split into train, valid and test (docs/protocols.md)")
    fold: int = Field(0, ge=0, lt=10_000, description="which fold is tested")
    folds: int = Field(5, ge=2, le=10_000, description="number of folds of kfold")
    test_speakers: Names = Field(
        (), description='protocol speakers: who is tested, such as 7 or "07", or ravdess/07 if corpora share a name'
    )
    valid_speakers: Names = Field((), description="protocol speakers: who validates; empty: chosen by valid_fraction")
    test_corpora: Names = Field(
        (), description="protocol cross_corpus: which corpora are tested; empty: fold i tests the i-th corpus by name"
    )
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="fraction of the speakers (random: of the clips) that are tested"
    )
    valid_fraction: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="fraction of the other speakers (random: clips) that validate; 0: no validation, and all of them "
        "train, in published folds too",
    )
    split_seed: Seed = Field(0, description="for random choices of speakers or clips; independent of train.seed")
    _places: Places = PrivateAttr(default_factory=Places)

    @property
    def places(self) -> Places:
        """Where the keys of this section were written, for messages; empty if that is not known."""
        return self._places

    def place_of(self, key: str) -> str:
        """Where a key, or the nearest key above it, was written; empty if that is not known.

        >>> config = ProtocolConfig()
        >>> config.places["data.test_speakers"] = "mine.yaml:7"
        >>> config.place_of("data.test_speakers.1"), config.place_of("data.folds")
        ('mine.yaml:7', '')
        """
        while "." in key:
            if key in self.places:
                return self.places[key]
            key = key.rpartition(".")[0]
        return ""


@contextmanager
def naming_places(config: ProtocolConfig) -> Iterator[None]:
    """Puts file and line before the lines of an error that begin with a key of the configuration.

    >>> config = ProtocolConfig()
    >>> config.places["data.labels"] = "mine.yaml:7"
    >>> try:
    ...     with naming_places(config):
    ...         raise DataError("data.labels.2: no emotion is called 'hapy'")
    ... except DataError as error:
    ...     print(error)
    mine.yaml:7: data.labels.2: no emotion is called 'hapy'
    """
    try:
        yield
    except (ConfigError, DataError) as error:
        lines = str(error).split("\n")
        keys = [re.match(r"data(\.[\w-]+)+", line) for line in lines]
        places = [config.place_of(key[0]) if key else "" for key in keys]
        if not any(places):
            raise
        named = [f"{place}: {line}" if place else line for place, line in zip(places, lines, strict=True)]
        raise type(error)("\n".join(named)) from error


@dataclass(frozen=True)
class Split:
    """Indices into the utterances, ascending in each part, and what the protocol guarantees.

    >>> Split(train=(0, 1), valid=(2,), test=(3,), stamp="holdout, speaker-independent",
    ...       speaker_independent=True, validation_independent=True).notes
    ()
    """

    train: tuple[int, ...]
    valid: tuple[int, ...]
    test: tuple[int, ...]
    stamp: str  # one line that every run, checkpoint and report shows
    speaker_independent: bool  # no test speaker is in another part; `leaks.check_leaks` verifies it
    validation_independent: bool  # no validation speaker is in train
    notes: tuple[str, ...] = ()  # what the trainer prints


@dataclass(frozen=True, eq=False)
class _Speaker:
    speaker_id: str
    corpus: str
    name: str
    stratum: tuple[str, str]  # sex and corpus
    clips: np.ndarray  # indices, ascending
    counts: np.ndarray  # clips of each class


_Speakers = list[_Speaker]
_Chosen = tuple[_Speakers, _Speakers]  # test speakers, validation speakers (empty: clips may validate instead)


def fold_count(utterances: Sequence[Utterance], config: ProtocolConfig) -> int:
    """The number of folds of the protocol on these utterances; 1 for a single split.

    >>> fold_count([], ProtocolConfig(protocol="luna5"))
    5
    """
    counts = {name: len(folds.split("|")) for name, folds in PUBLISHED.items()}
    clips = Utterances.of(utterances)
    counts |= {"kfold": config.folds, "loso": len(clips.speakers[1])}
    corpora = len(clips.present("corpus"))
    counts |= {"loco": corpora, "cross_corpus": 1 if config.test_corpora else corpora}
    return counts.get(config.protocol, 1)


def make_split(
    utterances: Sequence[Utterance],
    targets: Sequence[int],
    config: ProtocolConfig,
    digests: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    shares: np.ndarray | None = None,
) -> Split:
    """Splits utterances, whose classes are `targets`, by `config.protocol`.

    If fewer than three speakers remain outside the test part, a fraction of their clips of each class validates
    instead, and the stamp says so. When clips are drawn, segments that overlap stay in one part; if `digests` of the
    audio are given, so do identical clips, and the draw does not depend on the files' folder. If the names of the
    classes are given in `labels`, stamp and notes name those without a training clip; with `shares (n, C)` of votes,
    those without a vote in training. Under `loco` the test clips of such a class are in no part, and are counted there.

    A split of clips whose speakers are unknown, or of a corpus where nearly every speaker has one clip, so that the
    names may be made up, is not called speaker-independent: the stamp says why.

    Raises:
        ConfigError: a fold that does not exist, or settings that contradict each other.
        DataError: unknown or ambiguous speakers or corpora, clips without a part, an empty part, or clips of unknown
            speakers under a protocol that needs speakers.

    >>> from pathlib import Path
    >>> clips = [Utterance(Path(f"/{n}.wav"), "own", f"{n // 2:02d}", "sad") for n in range(20)]
    >>> split = make_split(clips, [0] * 20, ProtocolConfig(protocol="speakers", test_speakers=["3"]))
    >>> split.test, split.stamp
    ((6, 7), 'speakers, speaker-independent')
    """
    with naming_places(config):
        return _make_split(Utterances.of(utterances), np.asarray(targets), config, digests, labels, shares)


def _make_split(
    clips: Utterances,
    targets: np.ndarray,
    config: ProtocolConfig,
    digests: Sequence[str] | None,
    labels: Sequence[str] | None,
    shares: np.ndarray | None,
) -> Split:
    protocol, folds = config.protocol, fold_count(clips, config)
    if config.fold >= folds:
        raise ConfigError(f"data.fold is {config.fold}, but on this data {protocol} takes 0 to {folds - 1}")
    is_known = clips.has("speaker_known")
    unknown = np.flatnonzero(~is_known)
    if len(unknown) and protocol not in WITHOUT_SPEAKERS:
        raise DataError(
            f"{clips.source(int(unknown[0]))}: protocol {protocol} needs to know who speaks, and {len(unknown)} clips "
            "have no speaker; add a column speaker, or set data.protocol=random, whose stamp says that speakers are "
            "unknown"
        )
    test, valid = _test_and_valid(clips, targets, config, digests)
    train = ~test & ~valid
    trained = set(np.unique(targets[train]).tolist()) if shares is None else set(np.flatnonzero(shares[train].any(0)))
    untrained = [] if labels is None else sorted(set(range(len(labels))) - trained)
    left_out = test & np.isin(targets, untrained) & (protocol == "loco")
    test = test & ~left_out
    if left_out.any() and not test.any():
        raise DataError(
            f"protocol loco fold {config.fold}: no emotion of {clips[int(left_out.argmax())].corpus} has a training "
            "clip; rename emotions with data.label_map, or choose another fold"
        )
    if not (train.any() and test.any() and (valid.any() or not config.valid_fraction)):
        sizes = f"{train.sum()} clips to train, {valid.sum()} to validate, {test.sum()} to test"
        raise DataError(f"protocol {protocol} gives an empty part: {sizes}; add speakers or choose another protocol")
    # Every protocol but random guarantees independence; the leak check raises if a manifest breaks this guarantee.
    speaker = clips.speakers[0]
    both = np.intersect1d(speaker[test & is_known], speaker[(train | valid) & is_known])
    apart = (protocol != "random" and not len(unknown)) or not len(both)
    independent = apart and not len(unknown)
    name = protocol if folds == 1 else f"{protocol} fold {config.fold}"
    guarantee, notes = _guarantee(clips, test, apart)
    stamp = [name, *guarantee, *([] if valid.any() else ["no validation"])]
    if labels is not None and untrained:
        stamp.append(f"no training clip of {' and '.join(labels[n] for n in untrained)}")
        for n in untrained:
            fault = f"{name}: no training clip of {labels[n]}: the model cannot learn it, and its test clips"
            count = np.count_nonzero(targets[left_out if left_out.any() else test] == n)
            advice = f"add training clips of it, or take it out with data.label_map.{labels[n]}=null or by data.labels"
            is_left_out = protocol == "loco"
            notes.append(f"{fault} ({count}) {'are left out' if is_left_out else f'count as errors; {advice}'}")
    if left_out.any():
        stamp.append(f"{left_out.sum()} test clips of it left out")
    if protocol in ("cross_corpus", "loco"):
        stamp.append(f"{' and '.join(sorted(clips.present('corpus', test)))} held out")
    if protocol in PUBLISHED:
        corpus, everyone = FOLDS_OF[protocol], published_speakers(protocol)
        missing = sorted(set(everyone) - clips.present("speaker", clips.where("corpus", corpus)))
        others = sorted(clips.present("corpus") - {corpus})
        stamp += [f"{len(missing)} of {len(everyone)} speakers missing"] if missing else []
        notes += [f"{corpus.upper()} speakers missing: {', '.join(missing)}"] if missing else []
        notes += (
            [f"{protocol} splits {corpus.upper()} only: all clips of {', '.join(others)} are used for training"]
            if others
            else []
        )
    by_speaker = not len(unknown) and not len(np.intersect1d(speaker[train], speaker[valid]))
    if independent and not by_speaker:
        stamp.append("validation by clips of training speakers")
        notes.append("validation uses clips of training speakers: its figures are too optimistic")
    ordered = [tuple(np.flatnonzero(part).tolist()) for part in (train, valid, test)]
    return Split(ordered[0], ordered[1], ordered[2], ", ".join(stamp), independent, by_speaker, tuple(notes))


def _guarantee(clips: Utterances, test: np.ndarray, apart: bool) -> tuple[list[str], list[str]]:
    """What the stamp says about speakers, and notes: who was kept apart, as far as it is known who speaks.

    Args:
        test: `(n,)` bool, the clips of the test part.
        apart: no test speaker is in another part, by name.
    """
    unknown = np.count_nonzero(~clips.has("speaker_known"))
    doubts = _made_up(clips, test)
    clauses = [] if apart else ["LEAKY: speakers shared between train and test"]
    if unknown:
        clauses.append("speakers unknown: a speaker may be in train and test")
    clauses += [f"speakers doubtful: {doubt}" for doubt in doubts] if apart else []
    notes = [f"{unknown} clips have no speaker: the results say nothing about new speakers"] if unknown else []
    notes += [
        f"{doubt}: if these names are made up, one for each file, a speaker may be in train and test; name the people, "
        "or remove the column speaker"
        for doubt in doubts
    ]
    return clauses or ["speaker-independent"], notes


def _made_up(clips: Utterances, test: np.ndarray) -> list[str]:
    """For each corpus in the test part and outside whose speakers nearly all have one clip: how many have.

    The file names of published corpora tell the speaker.
    """
    found = []
    for corpus in sorted(clips.present("corpus", test) & clips.present("corpus", ~test)):
        written = clips.where("corpus", corpus) & clips.has("speaker_known")
        if corpus in PUBLISHED_CORPORA:
            written &= ~clips.is_named_by_file
        counts = np.unique(clips.words["speaker"].codes[written], return_counts=True)[1]
        single = np.count_nonzero(counts == 1)
        if len(counts) >= MIN_SPEAKERS_TO_DOUBT and single >= DOUBTFUL * len(counts):
            found.append(f"{single} of {len(counts)} speakers of {corpus} have one clip")
    return found


def _test_and_valid(
    clips: Utterances, targets: np.ndarray, config: ProtocolConfig, digests: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray]:
    """`(n,)` bool each: the clips of the test part, and of the validation part."""
    speakers, nothing = _speakers(clips, targets), np.zeros(len(clips), bool)
    if config.protocol == "random":
        test, valid = _draw_clips(~nothing, clips, targets, digests, config.test_fraction, config.split_seed), nothing
    elif config.protocol == "manifest":
        test, valid = _manifest_parts(clips)
        if not valid.any():
            tested = set(clips.speaker_ids_of(np.flatnonzero(test)))
            valid = _clips(_pick_validation([s for s in speakers if s.speaker_id not in tested], config), len(clips))
    else:
        test, valid = (_clips(chosen, len(clips)) for chosen in _CHOOSERS[config.protocol](speakers, config))
    if not valid.any():
        valid = _draw_clips(~test, clips, targets, digests, config.valid_fraction, config.split_seed)
    return test, valid


def _published(speakers: _Speakers, config: ProtocolConfig) -> _Chosen:
    fold = PUBLISHED[config.protocol].split("|")[config.fold].split(":")
    corpus = FOLDS_OF[config.protocol]
    known = [s for s in speakers if s.corpus == corpus]
    test, valid = ([s for s in known if s.name in names.split()] for names in fold)
    if not test or (config.valid_fraction and not valid):
        missing = f"{corpus.upper()} speakers {fold[bool(test)].strip()} are all missing"
        raise DataError(f"{config.protocol} fold {config.fold}: {missing}; add them or choose another fold")
    return test, valid if config.valid_fraction else []


def _by_name(speakers: _Speakers, config: ProtocolConfig) -> _Chosen:
    test, valid = (
        [_find(f"data.{key}.{number}", name, speakers) for number, name in enumerate(getattr(config, key))]
        for key in ("test_speakers", "valid_speakers")
    )
    if not test:
        raise ConfigError("data.protocol: protocol speakers needs data.test_speakers, such as [ravdess/01, ravdess/02]")
    if in_both := [s.speaker_id for s in valid if s in test]:
        raise ConfigError(f"data.valid_speakers: {', '.join(in_both)}: in data.test_speakers as well; keep one")
    return test, valid or _pick_validation([s for s in speakers if s not in test], config)


def _find(key: str, name: str, speakers: _Speakers) -> _Speaker:
    corpus, _, speaker = name.rpartition("/")
    same_name = [s for s in speakers if canonical_speaker(s.name).casefold() == canonical_speaker(speaker).casefold()]
    matches = [s for s in same_name if not corpus or s.corpus == canonical_corpus(corpus)]
    if len(matches) > 1:
        choices = " or ".join(s.speaker_id for s in matches)
        raise DataError(f"{key}: speaker {name!r} is ambiguous: {choices}; write it with its corpus")
    if not matches:
        known = [s.speaker_id for s in same_name or speakers]
        raise DataError(f"{key}: no speaker {name!r} in the data; {_suggest(name, known)}")
    return matches[0]


def _suggest(name: str, known: list[str]) -> str:
    near = known if len(known) == 1 else get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"the data has {', '.join(known)}"


def _holdout(speakers: _Speakers, config: ProtocolConfig) -> _Chosen:
    test = _pick(speakers, config.test_fraction, _orders(speakers, config.split_seed, "test"))
    return test, _pick_validation([s for s in speakers if s not in test], config)


def _fold_by_fold(speakers: _Speakers, config: ProtocolConfig) -> _Chosen:
    """One fold tests; validation takes the first speakers of the following folds."""
    folds = [[s] for s in speakers] if config.protocol == "loso" else _deal(speakers, config)
    following = [s for fold in folds[config.fold + 1 :] + folds[: config.fold] for s in fold]
    return folds[config.fold], _pick_validation(following, config, [following])


def _deal(speakers: _Speakers, config: ProtocolConfig) -> list[_Speakers]:
    """Deals speakers out like cards, sorted by sex and corpus: folds differ by at most one speaker of each."""
    k = config.folds
    if k > len(speakers):
        raise ConfigError(f"data.folds is {k}, but there are {len(speakers)} speakers; set data.folds to at most that")
    orders = (sorted(order, key=lambda s: s.stratum) for order in _orders(speakers, config.split_seed, "folds"))
    deals = [[order[i::k] for i in range(k)] for order in orders]
    return min(deals, key=lambda folds: sum(_unevenness(fold, speakers) for fold in folds))


def _by_corpus(speakers: _Speakers, config: ProtocolConfig) -> _Chosen:
    """Whole corpora test: those of `test_corpora`, else the one with the number of the fold, sorted by name."""
    corpora = sorted({s.corpus for s in speakers})
    if config.protocol == "loco" and len(corpora) < 2:
        raise DataError(
            f"protocol loco leaves out one corpus at a time, and the data has only {corpora[0]}; add the folder of "
            "another corpus to data.root, or choose another protocol"
        )
    chosen = [canonical_corpus(name) for name in config.test_corpora] or [corpora[config.fold]]
    if unknown := [name for name in chosen if name not in corpora]:
        raise DataError(f"data.test_corpora: no corpus {unknown[0]!r} in the data; {_suggest(unknown[0], corpora)}")
    test = [s for s in speakers if s.corpus in chosen]
    return test, _pick_validation([s for s in speakers if s not in test], config)


_CHOOSERS = {
    "luna5": _published,
    "emobox6": _published,
    "iemocap5": _published,
    "speakers": _by_name,
    "holdout": _holdout,
}
_CHOOSERS |= {"kfold": _fold_by_fold, "loso": _fold_by_fold, "loco": _by_corpus, "cross_corpus": _by_corpus}


def _manifest_parts(clips: Utterances) -> tuple[np.ndarray, np.ndarray]:
    parts = {name: clips.where("part", name) for name in ("train", "valid", "test", None)}
    if parts[None].any() or not parts["train"].any() or not parts["test"].any():
        counts = ", ".join(f"{part.sum()} {name or 'without'}" for name, part in parts.items())
        raise DataError(
            "protocol manifest needs train, valid or test in column split of every row, and at least one train and one "
            f"test row; rows: {counts}"
        )
    return parts["test"], parts["valid"]


def _speakers(clips: Utterances, targets: np.ndarray) -> _Speakers:
    """All speakers, sorted by corpus and name."""
    first, number = clips.distinct("corpus", "speaker")
    classes = np.unique(targets, return_inverse=True)[1].reshape(-1)
    count = int(classes.max(initial=-1)) + 1
    counts = np.bincount(number * count + classes, minlength=len(first) * count).reshape(len(first), count)
    sexes = sorted({sex or "" for sex in clips.words["sex"].values} | {""})
    rank = np.array([sexes.index(sex or "") for sex in clips.words["sex"].values], np.int64)
    sex_of = np.zeros(len(first), np.int64)
    np.maximum.at(sex_of, number, rank[clips.words["sex"].codes])
    order = np.argsort(number, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(number, minlength=len(first)))[:-1])
    some = [clips[i] for i in first.tolist()]
    speakers = [
        _Speaker(u.speaker_id, u.corpus, u.speaker, (sexes[sex_of[i]], u.corpus), parts[i], counts[i])
        for i, u in enumerate(some)
    ]
    return sorted(speakers, key=lambda s: (s.corpus, s.name, s.speaker_id))


def _clips(speakers: _Speakers, count: int) -> np.ndarray:
    """`(count,)` bool: the clips of these speakers."""
    chosen = np.zeros(count, bool)
    for speaker in speakers:
        chosen[speaker.clips] = True
    return chosen


def _orders(speakers: _Speakers, seed: int, purpose: str) -> list[_Speakers]:
    """Seeded orders to try. Ranks are hashes of names, so that one more speaker does not reorder the others."""
    return [sorted(speakers, key=lambda s: derive(seed, f"{purpose} {s.speaker_id}", draw)) for draw in range(DRAWS)]


def _unevenness(chosen: _Speakers, speakers: _Speakers) -> float:
    """|fraction of a class's clips in `chosen` - fraction of speakers in `chosen`|, summed over classes."""
    counts, totals = (np.sum([s.counts for s in group], axis=0) for group in (chosen, speakers))
    return float(np.abs(counts / np.maximum(totals, 1) - len(chosen) / len(speakers)).sum())


def _pick_validation(speakers: _Speakers, config: ProtocolConfig, orders: list[_Speakers] | None = None) -> _Speakers:
    """The validation speakers among `speakers`, who are all outside the test part; empty if there are too few."""
    if len(speakers) < MIN_SPEAKERS_TO_VALIDATE or not config.valid_fraction:
        return []
    orders = orders or _orders(speakers, config.split_seed, "valid")
    return _pick(speakers, config.valid_fraction, orders, min_speakers=MIN_SPEAKERS_TO_VALIDATE)


def _quota(fraction: float, count: int) -> int:
    """`fraction * count`, rounded; at least 1 and at most `count - 1`, unless the fraction is 0."""
    return min(max(1, int(fraction * count + 0.5)), count - 1) if fraction else 0


def _pick(speakers: _Speakers, fraction: float, orders: list[_Speakers], min_speakers: int = 2) -> _Speakers:
    """A fraction of each stratum (sex and corpus), taken from the front of the order with the most even classes.

    Strata of fewer than `min_speakers` give none.
    """
    sizes = Counter(s.stratum for s in speakers)
    quotas = {stratum: _quota(fraction, n) for stratum, n in sizes.items() if n >= min_speakers}
    if not quotas:  # every stratum is too small: treat all speakers as one
        return orders[0][: _quota(fraction, len(speakers))]
    queues = [[[s for s in order if s.stratum == stratum] for stratum in quotas] for order in orders]
    picks = [[s for queue in by_stratum for s in queue[: quotas[queue[0].stratum]]] for by_stratum in queues]
    return min(picks, key=lambda chosen: _unevenness(chosen, speakers))


def _kept_together(clip_keys: Sequence[str], pairs: Sequence[tuple[int, int]]) -> Sequence[str]:
    """The keys, with the same one for all clips that pairs connect."""
    if not pairs:
        return clip_keys
    leader: dict[str, str] = {}

    def find(key: str) -> str:
        while key in leader:
            key = leader[key]
        return key

    for i, j in pairs:
        first, second = sorted((find(clip_keys[i]), find(clip_keys[j])))
        if first != second:
            leader[second] = first
    return [find(key) for key in clip_keys]


def _draw_clips(
    among: np.ndarray,
    clips: Utterances,
    targets: np.ndarray,
    digests: Sequence[str] | None,
    fraction: float,
    seed: int,
) -> np.ndarray:
    """`(n,)` bool: a fraction of each class of the clips in the mask `among`; clips with equal keys stay together."""
    if not fraction:
        return np.zeros(len(clips), bool)
    named = digests if digests is not None else [f"{s.path.as_posix()}{s.fragment}" for s in clips.segments]
    keys = _kept_together(list(named), overlapping(clips))
    groups: dict[str, list[int]] = defaultdict(list)
    for i in np.flatnonzero(among).tolist():
        groups[keys[i]].append(i)
    classes: dict[int, list[str]] = defaultdict(list)
    for key in sorted(groups, key=lambda key: derive(seed, f"clip {key}")):
        classes[min(targets[groups[key]].tolist())].append(key)
    drawn = (key for keys in classes.values() for key in keys[: _quota(fraction, len(keys))])
    chosen = np.zeros(len(clips), bool)
    chosen[[i for key in drawn for i in groups[key]]] = True
    return chosen


# Speakers of each fold, written as test: validation.
PUBLISHED = {
    # Luna-Jimenez et al. 2021, "A Proposal for Multimodal Emotion Recognition Using Aural Transformers and Action
    # Units on RAVDESS Dataset", Applied Sciences 12(1) 327: subject-wise five-fold cross-validation.
    "luna5": "02 05 14 15 16: 03 06 | 03 06 07 13 18: 10 11 | 10 11 12 19 20: 08 17 | 08 17 21 23 24: 01 14 "
    "| 01 04 09 22: 02 05",
    # Ma et al. 2024, "EmoBox: Multilingual Multi-corpus Speech Emotion Recognition Toolkit and Benchmark". It names no
    # validation actors: here they are the first man and the first woman of the following folds.
    "emobox6": "01 11 20 21: 04 09 | 04 10 12 14: 08 09 | 08 09 19 23: 03 24 | 03 05 07 24: 02 15 "
    "| 02 15 16 18: 06 13 | 06 13 17 22: 01 20",
    # IEMOCAP is tested one session, that is one pair of speakers, at a time. Papers do not agree on validation: here
    # the next session validates.
    "iemocap5": "01F 01M: 02F 02M | 02F 02M: 03F 03M | 03F 03M: 04F 04M | 04F 04M: 05F 05M | 05F 05M: 01F 01M",
}
FOLDS_OF = {"luna5": "ravdess", "emobox6": "ravdess", "iemocap5": "iemocap"}


def published_speakers(protocol: str) -> list[str]:
    """The speakers of a protocol with published folds, sorted.

    >>> published_speakers("iemocap5")[:3]
    ['01F', '01M', '02F']
    """
    return sorted({name for fold in PUBLISHED[protocol].split("|") for name in fold.split(":")[0].split()})
