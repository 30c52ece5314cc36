"""`make_split`: from a protocol's name to the clips of train, validation and test, separated by speaker.

A speaker is an `Utterance.speaker_id` throughout. Random choices rank speakers by hashes of their names and
`split_seed`, so a split depends neither on the order of the utterances nor on the training seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serx.data.corpora import PUBLISHED_CORPORA
from serx.data.splits.clip_draw import draw_clips
from serx.data.splits.protocol_config import ProtocolConfig, naming_places
from serx.data.splits.published_folds import FOLDS_OF, PUBLISHED, published_speakers
from serx.data.splits.speaker_choice import choose_speakers, clips_of, pick_validation, speakers_of
from serx.data.utterance import Utterance
from serx.data.utterances import Utterances
from serx.errors import ConfigError, DataError

WITHOUT_SPEAKERS = ("random", "manifest", "cross_corpus", "loco")  # protocols that need not know who speaks
DOUBTFUL, MIN_SPEAKERS_TO_DOUBT = 0.9, 3  # one clip each for such a fraction of so many speakers: are they people?


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
    speakers, nothing = speakers_of(clips, targets), np.zeros(len(clips), bool)
    if config.protocol == "random":
        test, valid = draw_clips(~nothing, clips, targets, digests, config.test_fraction, config.split_seed), nothing
    elif config.protocol == "manifest":
        test, valid = _manifest_parts(clips)
        if not valid.any():
            tested = set(clips.speaker_ids_of(np.flatnonzero(test)))
            valid = clips_of(pick_validation([s for s in speakers if s.speaker_id not in tested], config), len(clips))
    else:
        test, valid = (clips_of(chosen, len(clips)) for chosen in choose_speakers(speakers, config))
    if not valid.any():
        valid = draw_clips(~test, clips, targets, digests, config.valid_fraction, config.split_seed)
    return test, valid


def _manifest_parts(clips: Utterances) -> tuple[np.ndarray, np.ndarray]:
    parts = {name: clips.where("part", name) for name in ("train", "valid", "test", None)}
    if parts[None].any() or not parts["train"].any() or not parts["test"].any():
        counts = ", ".join(f"{part.sum()} {name or 'without'}" for name, part in parts.items())
        raise DataError(
            "protocol manifest needs train, valid or test in column split of every row, and at least one train and one "
            f"test row; rows: {counts}"
        )
    return parts["test"], parts["valid"]
