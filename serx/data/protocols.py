"""`make_split`: a protocol's name becomes the clips that train, validate and test, apart by speaker.

Speakers are `Utterance.person` throughout. What is left to choose is ranked by hashes of names and `split_seed`: a
split depends neither on the order of the utterances nor on the seed of the training.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from serx.base_config import BaseConfig
from serx.data.manifest import canonical_corpus, canonical_speaker
from serx.data.utterance import Utterance
from serx.errors import ConfigError, DataError
from serx.seeding import derive

# Seeded orders tried for each choice of speakers, of which the one with the most even classes is kept.
DRAWS = 100


# Of two speakers (two women of TESS, say), one taken for validation would leave a single voice to train on.
MIN_SPEAKERS_TO_VALIDATE = 3


def _as_names(value: Any) -> Any:
    """YAML gives lists, and reads 7 as a number."""
    listed = isinstance(value, list | tuple)
    return tuple(str(name) if type(name) is int else name for name in value) if listed else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_names)]


class ProtocolConfig(BaseConfig):
    """Which clips train, validate and test. `luna5` and `emobox6` split RAVDESS; clips of other corpora then train."""

    protocol: Literal[
        "luna5", "emobox6", "speakers", "holdout", "kfold", "loso", "cross_corpus", "manifest", "random"
    ] = "holdout"
    fold: int = Field(0, ge=0)  # which fold is tested
    folds: int = Field(5, ge=2)  # how many kfold makes
    test_speakers: Names = ()  # for speakers: 7, "07" or, where corpora share a name, ravdess/07
    valid_speakers: Names = ()  # the same; none given: chosen by valid_share
    test_corpora: Names = ()  # for cross_corpus; none given: fold i leaves out the i-th corpus
    test_fraction: float = Field(0.2, gt=0, lt=1)  # of the speakers (random: of the clips)
    # Of the speakers, or clips, beside the test part; 0, for settings that are settled: they all train, published too.
    valid_fraction: float = Field(0.15, ge=0, lt=1)
    split_seed: int = 0  # varies what is left to choose, apart from the training seed


@dataclass(frozen=True)
class Split:
    """Indices into the utterances, ascending in each part, and what may be said of them."""

    train: tuple[int, ...]
    valid: tuple[int, ...]
    test: tuple[int, ...]
    stamp: str  # one line for every run, checkpoint and report
    speaker_independent: bool  # no test speaker is in another part: `leaks.check_leaks` holds the split to it
    validation_independent: bool  # no validation speaker trains
    notes: tuple[str, ...] = ()  # what the trainer says aloud


@dataclass(frozen=True, eq=False)
class _Speaker:
    speaker_id: str
    corpus: str
    name: str
    stratum: tuple[str, str]  # sex and corpus
    clips: list[int]
    counts: np.ndarray  # clips of each class


_Speakers = list[_Speaker]


_Chosen = tuple[_Speakers, _Speakers]  # who tests and who validates (nobody: clips will)


def fold_count(utterances: Sequence[Utterance], config: ProtocolConfig) -> int:
    """How many folds the protocol has on these utterances; 1 where it is a single split."""
    counts = {name: len(folds.split("|")) for name, folds in PUBLISHED.items()}
    counts |= {"kfold": config.folds, "loso": len({u.speaker_id for u in utterances})}
    counts |= {} if config.test_corpora else {"cross_corpus": len({u.corpus for u in utterances})}
    return counts.get(config.protocol, 1)


def make_split(
    utterances: Sequence[Utterance],
    targets: Sequence[int],
    config: ProtocolConfig,
    digests: Sequence[str] | None = None,
) -> Split:
    """Splits utterances, whose classes are `targets`, by `config.protocol`.

    Where fewer than three speakers remain beside the test part, a share of their clips of each class validates
    instead, and the stamp says so. With `digests` of the audio, twins stay together where clips are drawn, and the
    draw does not depend on where the files lie.

    Raises:
        ConfigError: a fold that does not exist, or settings that contradict each other.
        DataError: unknown or ambiguous speakers or corpora, clips without a part, or a part left empty.
    """
    protocol, folds = config.protocol, fold_count(utterances, config)
    if config.fold >= folds:
        raise ConfigError(f"data.fold is {config.fold}, but on this data {protocol} takes 0 to {folds - 1}")
    twins = digests if digests is not None else [u.path.as_posix() for u in utterances]
    test, valid = _test_and_valid(utterances, targets, config, twins)
    train = set(range(len(utterances))) - test - valid
    trainers, validators, testers = ({utterances[i].speaker_id for i in part} for part in (train, valid, test))
    if not (train and test and (valid or not config.valid_fraction)):
        sizes = f"{len(train)} clips to train, {len(valid)} to validate, {len(test)} to test"
        raise DataError(f"protocol {protocol} leaves a part empty: {sizes}; add speakers or choose another protocol")
    # Every protocol but random promises this; the leak check refuses a manifest that breaks the promise.
    independent = protocol != "random" or not testers & (trainers | validators)
    promise = "speaker-independent" if independent else "LEAKY: speakers shared between train and test"
    stamp = [protocol if folds == 1 else f"{protocol} fold {config.fold}", promise]
    stamp += [] if valid else ["nobody validates"]
    if protocol == "cross_corpus":
        stamp.append(f"{' and '.join(sorted({utterances[i].corpus for i in test}))} left out")
    notes = []
    if protocol in PUBLISHED:
        missing = sorted(set(ACTORS) - {u.speaker for u in utterances if u.corpus == "ravdess"})
        others = sorted({u.corpus for u in utterances} - {"ravdess"})
        stamp += [f"{len(missing)} of {len(ACTORS)} speakers missing"] if missing else []
        notes += [f"RAVDESS speakers missing: {', '.join(missing)}"] if missing else []
        notes += [f"{protocol} splits RAVDESS only: every clip of {', '.join(others)} trains"] if others else []
    by_speaker = not trainers & validators
    if independent and not by_speaker:
        stamp.append("validation by clips of training speakers")
        notes.append("validation is by clips of training speakers: its figures flatter")
    ordered = [tuple(sorted(part)) for part in (train, valid, test)]
    return Split(ordered[0], ordered[1], ordered[2], ", ".join(stamp), independent, by_speaker, tuple(notes))


def _test_and_valid(
    utterances: Sequence[Utterance], targets: Sequence[int], config: ProtocolConfig, twins: Sequence[str]
) -> tuple[set[int], set[int]]:
    speakers = _speakers(utterances, targets)
    everything = set(range(len(utterances)))
    if config.protocol == "random":
        test, valid = _draw_clips(everything, targets, twins, config.test_fraction, config.split_seed), set[int]()
    elif config.protocol == "manifest":
        test, valid = _manifest_parts(utterances)
        testers = {utterances[i].speaker_id for i in test}
        valid = valid or _clips(_validators([s for s in speakers if s.speaker_id not in testers], config))
    else:
        test, valid = map(_clips, _CHOOSERS[config.protocol](speakers, config))
    return test, valid or _draw_clips(everything - test, targets, twins, config.valid_fraction, config.split_seed)


def _published(speakers: _Speakers, config: ProtocolConfig) -> _Chosen:
    fold = PUBLISHED[config.protocol].split("|")[config.fold].split(":")
    ravdess = [s for s in speakers if s.corpus == "ravdess"]
    test, valid = ([s for s in ravdess if s.name in names.split()] for names in fold)
    if not test or (config.valid_fraction and not valid):
        missing = f"none of RAVDESS speakers {fold[bool(test)].strip()} is here"
        raise DataError(f"{config.protocol} fold {config.fold}: {missing}; add them or choose another fold")
    return test, valid if config.valid_fraction else []


def _by_name(speakers: _Speakers, config: ProtocolConfig) -> _Chosen:
    test, valid = ([_find(n, speakers) for n in names] for names in (config.test_speakers, config.valid_speakers))
    if not test:
        raise ConfigError("protocol speakers needs data.test_speakers, such as [ravdess/01, ravdess/02]")
    if twice := [s.speaker_id for s in valid if s in test]:
        raise ConfigError(f"{', '.join(twice)}: in data.test_speakers and in data.valid_speakers; keep one")
    return test, valid or _validators([s for s in speakers if s not in test], config)


def _find(name: str, speakers: _Speakers) -> _Speaker:
    corpus, _, who = name.rpartition("/")
    near = [s for s in speakers if canonical_speaker(s.name).casefold() == canonical_speaker(who).casefold()]
    found = [s for s in near if not corpus or s.corpus == canonical_corpus(corpus)]
    if len(found) > 1:
        raise DataError(f"speaker {name!r} may be {' or '.join(s.speaker_id for s in found)}: write it with its corpus")
    if not found:
        raise DataError(f"no speaker {name!r} in the data; {_known(name, [s.speaker_id for s in near or speakers])}")
    return found[0]


def _known(name: str, known: list[str]) -> str:
    near = known if len(known) == 1 else get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def _holdout(speakers: _Speakers, config: ProtocolConfig) -> _Chosen:
    test = _pick(speakers, config.test_fraction, _orders(speakers, config.split_seed, "test"))
    return test, _validators([s for s in speakers if s not in test], config)


def _fold_by_fold(speakers: _Speakers, config: ProtocolConfig) -> _Chosen:
    """One fold tests; the first speakers of the folds that follow validate."""
    folds = [[s] for s in speakers] if config.protocol == "loso" else _deal(speakers, config)
    following = [s for fold in folds[config.fold + 1 :] + folds[: config.fold] for s in fold]
    return folds[config.fold], _validators(following, config, [following])


def _deal(speakers: _Speakers, config: ProtocolConfig) -> list[_Speakers]:
    """Deals speakers out like cards, one sex after the other: each fold has its share of each, to within one."""
    k = config.folds
    if k > len(speakers):
        raise ConfigError(f"data.folds is {k}, but there are {len(speakers)} speakers; ask for no more folds than that")
    orders = (sorted(order, key=lambda s: s.stratum) for order in _orders(speakers, config.split_seed, "folds"))
    deals = [[order[i::k] for i in range(k)] for order in orders]
    return min(deals, key=lambda folds: sum(_unevenness(fold, speakers) for fold in folds))


def _cross_corpus(speakers: _Speakers, config: ProtocolConfig) -> _Chosen:
    corpora = sorted({s.corpus for s in speakers})
    asked = [canonical_corpus(name) for name in config.test_corpora] or [corpora[config.fold]]
    if unknown := [name for name in asked if name not in corpora]:
        raise DataError(f"data.test_corpora: no corpus {unknown[0]!r} in the data; {_known(unknown[0], corpora)}")
    test = [s for s in speakers if s.corpus in asked]
    return test, _validators([s for s in speakers if s not in test], config)


_CHOOSERS = {"luna5": _published, "emobox6": _published, "speakers": _by_name, "holdout": _holdout}


_CHOOSERS |= {"kfold": _fold_by_fold, "loso": _fold_by_fold, "cross_corpus": _cross_corpus}


def _manifest_parts(utterances: Sequence[Utterance]) -> tuple[set[int], set[int]]:
    parts = {name: {i for i, u in enumerate(utterances) if u.part == name} for name in ("train", "valid", "test", None)}
    if parts[None] or not parts["train"] or not parts["test"]:
        counts = ", ".join(f"{len(part)} {name or 'without'}" for name, part in parts.items())
        raise DataError(f"protocol manifest needs train, valid or test in each row's column split; rows: {counts}")
    return parts["test"], parts["valid"]


def _speakers(utterances: Sequence[Utterance], targets: Sequence[int]) -> _Speakers:
    """Everyone, sorted by corpus and name."""
    members: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for i, u in enumerate(utterances):
        members[u.corpus, u.speaker, u.speaker_id].append(i)
    classes = np.unique(np.asarray(targets), return_inverse=True)[1]
    speakers = []
    for (corpus, name, speaker_id), clips in sorted(members.items()):
        stratum = max(utterances[i].sex or "" for i in clips), corpus
        counts = np.bincount(classes[clips], minlength=len(set(targets)))
        speakers.append(_Speaker(speaker_id, corpus, name, stratum, clips, counts))
    return speakers


def _clips(speakers: _Speakers) -> set[int]:
    return {i for s in speakers for i in s.clips}


def _orders(speakers: _Speakers, seed: int, purpose: str) -> list[_Speakers]:
    """Seeded orders to try; ranks are hashes of names, so that one speaker more does not stir the others."""
    return [sorted(speakers, key=lambda s: derive(seed, f"{purpose} {s.speaker_id}", draw)) for draw in range(DRAWS)]


def _unevenness(chosen: _Speakers, everyone: _Speakers) -> float:
    """How far the chosen's share of each class is from their share of the speakers, summed over classes."""
    counts, totals = (np.sum([s.counts for s in some], axis=0) for some in (chosen, everyone))
    return float(np.abs(counts / np.maximum(totals, 1) - len(chosen) / len(everyone)).sum())


def _validators(beside: _Speakers, config: ProtocolConfig, orders: list[_Speakers] | None = None) -> _Speakers:
    """Speakers beside the test part who validate; nobody where too few are left."""
    if len(beside) < MIN_SPEAKERS_TO_VALIDATE or not config.valid_fraction:
        return []
    orders = orders or _orders(beside, config.split_seed, "valid")
    return _pick(beside, config.valid_fraction, orders, least=MIN_SPEAKERS_TO_VALIDATE)


def _quota(share: float, count: int) -> int:
    """A share of so many; unless it is 0, of two or more never none and never all."""
    return min(max(1, int(share * count + 0.5)), count - 1) if share else 0


def _pick(speakers: _Speakers, share: float, orders: list[_Speakers], least: int = 2) -> _Speakers:
    """A share of each sex of each corpus (of `least`), from the front of the order that makes the classes most even."""
    quotas = {key: _quota(share, n) for key, n in Counter(s.stratum for s in speakers).items() if n >= least}
    if not quotas:  # too few of any sex and corpus: together they are one stratum
        return orders[0][: _quota(share, len(speakers))]
    queues = [[[s for s in order if s.stratum == stratum] for stratum in quotas] for order in orders]
    picks = [[s for queue in some for s in queue[: quotas[queue[0].stratum]]] for some in queues]
    return min(picks, key=lambda chosen: _unevenness(chosen, speakers))


def _draw_clips(clips: set[int], targets: Sequence[int], twins: Sequence[str], share: float, seed: int) -> set[int]:
    """A share of the clips of each class, twins together."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i in clips:
        groups[twins[i]].append(i)
    classes: dict[int, list[str]] = defaultdict(list)
    for twin in sorted(groups, key=lambda twin: derive(seed, f"clip {twin}")):
        classes[min(targets[i] for i in groups[twin])].append(twin)
    drawn = (twin for members in classes.values() for twin in members[: _quota(share, len(members))])
    return {i for twin in drawn for i in groups[twin]}


# RAVDESS actors of each fold, as test: validation.
PUBLISHED = {
    # Luna-Jimenez et al. 2021, "A Proposal for Multimodal Emotion Recognition Using Aural Transformers and Action
    # Units on RAVDESS Dataset", Applied Sciences 12(1) 327: subject-wise five-fold cross-validation.
    "luna5": "02 05 14 15 16: 03 06 | 03 06 07 13 18: 10 11 | 10 11 12 19 20: 08 17 | 08 17 21 23 24: 01 14 "
    "| 01 04 09 22: 02 05",
    # Ma et al. 2024, "EmoBox: Multilingual Multi-corpus Speech Emotion Recognition Toolkit and Benchmark". It names no
    # validation actors: here they are the first man and the first woman met in the folds that follow.
    "emobox6": "01 11 20 21: 04 09 | 04 10 12 14: 08 09 | 08 09 19 23: 03 24 | 03 05 07 24: 02 15 "
    "| 02 15 16 18: 06 13 | 06 13 17 22: 01 20",
}


ACTORS = [f"{actor:02d}" for actor in range(1, 25)]
