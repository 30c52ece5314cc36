"""`choose_speakers`: who tests and who validates under a protocol that separates speakers.

Random choices rank speakers by hashes of their names and `split_seed`. Of many such orders the one with the most even
classes counts.
"""

from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from serx.data.corpora import canonical_corpus, canonical_speaker
from serx.data.splits.protocol_config import ProtocolConfig
from serx.data.splits.published_folds import FOLDS_OF, PUBLISHED
from serx.data.utterances import Utterances
from serx.errors import ConfigError, DataError
from serx.seeding import derive

DRAWS = 100  # seeded orders tried for each choice of speakers; the one with the most even classes is used
MIN_SPEAKERS_TO_VALIDATE = 3  # of two speakers, one for validation would leave a single speaker for training


@dataclass(frozen=True, eq=False)
class Speaker:
    """A speaker, and which of the clips are theirs."""

    speaker_id: str
    corpus: str
    name: str
    stratum: tuple[str, str]  # sex and corpus
    clips: np.ndarray  # indices, ascending
    counts: np.ndarray  # clips of each class


Speakers = list[Speaker]
_Chosen = tuple[Speakers, Speakers]  # test speakers, validation speakers (empty: clips may validate instead)


def choose_speakers(speakers: Speakers, config: ProtocolConfig) -> _Chosen:
    """Test and validation speakers of all protocols but `random` and `manifest`; the others train.

    Raises:
        ConfigError, DataError: as `make_split` raises.
    """
    return _CHOOSERS[config.protocol](speakers, config)


def _published(speakers: Speakers, config: ProtocolConfig) -> _Chosen:
    fold = PUBLISHED[config.protocol].split("|")[config.fold].split(":")
    corpus = FOLDS_OF[config.protocol]
    known = [s for s in speakers if s.corpus == corpus]
    test, valid = ([s for s in known if s.name in names.split()] for names in fold)
    if not test or (config.valid_fraction and not valid):
        missing = f"{corpus.upper()} speakers {fold[bool(test)].strip()} are all missing"
        raise DataError(f"{config.protocol} fold {config.fold}: {missing}; add them or choose another fold")
    return test, valid if config.valid_fraction else []


def _by_name(speakers: Speakers, config: ProtocolConfig) -> _Chosen:
    test, valid = (
        [_find(f"data.{key}.{number}", name, speakers) for number, name in enumerate(getattr(config, key))]
        for key in ("test_speakers", "valid_speakers")
    )
    if not test:
        raise ConfigError("data.protocol: protocol speakers needs data.test_speakers, such as [ravdess/01, ravdess/02]")
    if in_both := [s.speaker_id for s in valid if s in test]:
        raise ConfigError(f"data.valid_speakers: {', '.join(in_both)}: in data.test_speakers as well; keep one")
    return test, valid or pick_validation([s for s in speakers if s not in test], config)


def _find(key: str, name: str, speakers: Speakers) -> Speaker:
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


def _holdout(speakers: Speakers, config: ProtocolConfig) -> _Chosen:
    test = _pick(speakers, config.test_fraction, _orders(speakers, config.split_seed, "test"))
    return test, pick_validation([s for s in speakers if s not in test], config)


def _fold_by_fold(speakers: Speakers, config: ProtocolConfig) -> _Chosen:
    """One fold tests; validation takes the first speakers of the following folds."""
    folds = [[s] for s in speakers] if config.protocol == "loso" else _deal(speakers, config)
    following = [s for fold in folds[config.fold + 1 :] + folds[: config.fold] for s in fold]
    return folds[config.fold], pick_validation(following, config, [following])


def _deal(speakers: Speakers, config: ProtocolConfig) -> list[Speakers]:
    """Deals speakers out like cards, sorted by sex and corpus: folds differ by at most one speaker of each."""
    k = config.folds
    if k > len(speakers):
        raise ConfigError(f"data.folds is {k}, but there are {len(speakers)} speakers; set data.folds to at most that")
    orders = (sorted(order, key=lambda s: s.stratum) for order in _orders(speakers, config.split_seed, "folds"))
    deals = [[order[i::k] for i in range(k)] for order in orders]
    return min(deals, key=lambda folds: sum(_unevenness(fold, speakers) for fold in folds))


def _by_corpus(speakers: Speakers, config: ProtocolConfig) -> _Chosen:
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
    return test, pick_validation([s for s in speakers if s not in test], config)


_CHOOSERS = {
    "luna5": _published,
    "emobox6": _published,
    "iemocap5": _published,
    "speakers": _by_name,
    "holdout": _holdout,
}
_CHOOSERS |= {"kfold": _fold_by_fold, "loso": _fold_by_fold, "loco": _by_corpus, "cross_corpus": _by_corpus}


def speakers_of(clips: Utterances, targets: np.ndarray) -> Speakers:
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
        Speaker(u.speaker_id, u.corpus, u.speaker, (sexes[sex_of[i]], u.corpus), parts[i], counts[i])
        for i, u in enumerate(some)
    ]
    return sorted(speakers, key=lambda s: (s.corpus, s.name, s.speaker_id))


def clips_of(speakers: Speakers, count: int) -> np.ndarray:
    """`(count,)` bool: the clips of these speakers."""
    chosen = np.zeros(count, bool)
    for speaker in speakers:
        chosen[speaker.clips] = True
    return chosen


def _orders(speakers: Speakers, seed: int, purpose: str) -> list[Speakers]:
    """Seeded orders to try. Ranks are hashes of names, so that one more speaker does not reorder the others."""
    return [sorted(speakers, key=lambda s: derive(seed, f"{purpose} {s.speaker_id}", draw)) for draw in range(DRAWS)]


def _unevenness(chosen: Speakers, speakers: Speakers) -> float:
    """|fraction of a class's clips in `chosen` - fraction of speakers in `chosen`|, summed over classes."""
    counts, totals = (np.sum([s.counts for s in group], axis=0) for group in (chosen, speakers))
    return float(np.abs(counts / np.maximum(totals, 1) - len(chosen) / len(speakers)).sum())


def pick_validation(speakers: Speakers, config: ProtocolConfig, orders: list[Speakers] | None = None) -> Speakers:
    """The validation speakers among `speakers`, who are all outside the test part; empty if there are too few."""
    if len(speakers) < MIN_SPEAKERS_TO_VALIDATE or not config.valid_fraction:
        return []
    orders = orders or _orders(speakers, config.split_seed, "valid")
    return _pick(speakers, config.valid_fraction, orders, min_speakers=MIN_SPEAKERS_TO_VALIDATE)


def quota(fraction: float, count: int) -> int:
    """`fraction * count`, rounded; at least 1 and at most `count - 1`, unless the fraction is 0."""
    return min(max(1, int(fraction * count + 0.5)), count - 1) if fraction else 0


def _pick(speakers: Speakers, fraction: float, orders: list[Speakers], min_speakers: int = 2) -> Speakers:
    """A fraction of each stratum (sex and corpus), taken from the front of the order with the most even classes.

    Strata of fewer than `min_speakers` give none.
    """
    sizes = Counter(s.stratum for s in speakers)
    quotas = {stratum: quota(fraction, n) for stratum, n in sizes.items() if n >= min_speakers}
    if not quotas:  # every stratum is too small: treat all speakers as one
        return orders[0][: quota(fraction, len(speakers))]
    queues = [[[s for s in order if s.stratum == stratum] for stratum in quotas] for order in orders]
    picks = [[s for queue in by_stratum for s in queue[: quotas[queue[0].stratum]]] for by_stratum in queues]
    return min(picks, key=lambda chosen: _unevenness(chosen, speakers))
