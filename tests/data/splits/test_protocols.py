"""Splits: published folds as printed, separate speakers, balanced sexes and classes, the same in any order."""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from serx.data.splits.protocol_config import ProtocolConfig
from serx.data.splits.protocols import Split, fold_count, make_split
from serx.data.utterance import UNKNOWN_SPEAKER, Sex, Utterance
from serx.errors import ConfigError, DataError

EMOTIONS = ("angry", "happy", "sad")
LUNA5_TEST = [(2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22)]
LUNA5_VALID = [(3, 6), (10, 11), (8, 17), (1, 14), (2, 5)]
EMOBOX6_TEST = [(1, 11, 20, 21), (4, 10, 12, 14), (8, 9, 19, 23), (3, 5, 7, 24), (2, 15, 16, 18), (6, 13, 17, 22)]
FOLLOWING = [[n for i in range(1, 6) for n in EMOBOX6_TEST[(fold + i) % 6]] for fold in range(6)]
EMOBOX6_VALID = [[next(n for n in following if n % 2 == odd) for odd in (1, 0)] for following in FOLLOWING]


def clips_of(corpus: str, speaker: str, sex: Sex | None, takes: int = 2) -> list[Utterance]:
    return [
        Utterance(Path(f"/{corpus}/{speaker}/{emotion}-{take}.wav"), corpus, speaker, emotion, sex)
        for emotion in EMOTIONS
        for take in range(takes)
    ]


def ravdess(actors=range(1, 25)) -> list[Utterance]:
    return [u for n in actors for u in clips_of("ravdess", f"{n:02d}", "male" if n % 2 else "female")]


def emodb() -> list[Utterance]:
    men, women = ("03", "10", "11", "12", "15"), ("08", "09", "13", "14", "16")
    return [u for n in sorted(men + women) for u in clips_of("emodb", n, "male" if n in men else "female")]


def tess(takes: int = 10) -> list[Utterance]:
    return [u for name in ("OAF", "YAF") for u in clips_of("tess", name, "female", takes)]


def split_of(utterances, protocol, digests=None, **keys) -> Split:
    targets = [EMOTIONS.index(u.emotion) for u in utterances]
    split = make_split(utterances, targets, ProtocolConfig(protocol=protocol, **keys), digests)
    parts = [split.train, split.valid, split.test]
    assert sorted(i for part in parts for i in part) == list(range(len(utterances)))  # disjoint and complete
    assert all(part == tuple(sorted(part)) for part in parts)
    has_validation = keys.get("valid_fraction") != 0 or "valid_speakers" in keys
    assert split.train and split.test and bool(split.valid) == has_validation
    return split


def speakers_of(utterances, split) -> tuple[set[str], set[str], set[str]]:
    train, valid, test = ({utterances[i].speaker_id for i in part} for part in (split.train, split.valid, split.test))
    return train, valid, test


def actors(numbers) -> set[str]:
    return {f"ravdess/{n:02d}" for n in numbers}


def sexes(utterances, part) -> list[tuple[str, str]]:
    return sorted({(utterances[i].speaker_id, utterances[i].sex or "") for i in part}, key=lambda pair: pair[1])


PUBLISHED = [("luna5", LUNA5_TEST, LUNA5_VALID), ("emobox6", EMOBOX6_TEST, EMOBOX6_VALID)]


@pytest.mark.parametrize(("protocol", "test_actors", "valid_actors"), PUBLISHED)
def test_published_folds_test_every_actor_exactly_once(protocol, test_actors, valid_actors):
    assert sorted(n for fold in test_actors for n in fold) == list(range(1, 25))
    utterances = ravdess()
    assert fold_count(utterances, ProtocolConfig(protocol=protocol)) == len(test_actors)
    for fold, numbers in enumerate(test_actors):
        split = split_of(utterances, protocol, fold=fold)
        train, valid, test = speakers_of(utterances, split)
        assert (test, valid) == (actors(numbers), actors(valid_actors[fold]))
        assert train == actors(range(1, 25)) - test - valid
        assert split.stamp == f"{protocol} fold {fold}, speaker-independent"
        assert (split.speaker_independent, split.validation_independent, split.notes) == (True, True, ())


@pytest.mark.parametrize("protocol", ["luna5", "emobox6", "holdout", "kfold", "loso", "random"])
def test_without_validation_all_clips_outside_the_same_test_part_train(protocol):
    utterances = ravdess()
    for fold in (0, 1) if protocol not in ("holdout", "random") else (0,):
        with_validation = split_of(utterances, protocol, fold=fold)
        without = split_of(utterances, protocol, fold=fold, valid_fraction=0)
        assert without.test == with_validation.test
        assert set(without.train) == set(with_validation.train) | set(with_validation.valid)
        assert without.stamp == f"{with_validation.stamp}, no validation"
        assert without.speaker_independent == (protocol != "random")
    named = split_of(utterances, "speakers", test_speakers=["01"], valid_speakers=["02"], valid_fraction=0.0)
    assert speakers_of(utterances, named)[1] == actors([2])  # named validation speakers validate nevertheless


def test_published_validation_speakers_may_be_missing_without_validation():
    utterances = ravdess(n for n in range(1, 25) if n not in (3, 6))
    with pytest.raises(DataError, match="03 06"):
        split_of(utterances, "luna5", fold=0)
    assert len(speakers_of(utterances, split_of(utterances, "luna5", fold=0, valid_fraction=0))[0]) == 17


def test_missing_actors_are_in_the_stamp_and_the_notes():
    utterances = ravdess(range(1, 21))
    split = split_of(utterances, "luna5", fold=3)
    assert split.stamp == "luna5 fold 3, speaker-independent, 4 of 24 speakers missing"
    assert any("21, 22, 23, 24" in note for note in split.notes)
    assert speakers_of(utterances, split)[2] == actors((8, 17))


def test_a_published_part_without_any_of_its_actors_raises_with_their_names():
    with pytest.raises(DataError, match="01 14"):
        split_of(ravdess(n for n in range(2, 25) if n != 14), "luna5", fold=3)
    with pytest.raises(DataError, match="02 05 14 15 16"):
        split_of(tess(), "luna5")


def test_other_corpora_train_under_a_published_protocol_with_a_note():
    utterances = ravdess() + emodb() + tess()  # emodb has a 03, too
    split = split_of(utterances, "luna5")
    train, *others = speakers_of(utterances, split)
    assert {"tess/OAF", "emodb/03"} <= train
    assert others == [actors(LUNA5_VALID[0]), actors(LUNA5_TEST[0])]
    assert any("tess" in note for note in split.notes)


@pytest.mark.parametrize("name", [7, "7", "07", "Actor_07", "ravdess/7", "RAVDESS/07"])
def test_a_speaker_may_be_written_in_any_usual_way(name):
    utterances = ravdess()
    split = split_of(utterances, "speakers", test_speakers=[name, "08"], valid_speakers=["1", 2])
    assert speakers_of(utterances, split)[1:] == (actors((1, 2)), actors((7, 8)))


def test_a_speaker_name_of_two_corpora_needs_its_corpus():
    utterances = ravdess() + emodb()
    with pytest.raises(DataError, match=r"emodb/03 or ravdess/03"):
        split_of(utterances, "speakers", test_speakers=["3"])
    assert speakers_of(utterances, split_of(utterances, "speakers", test_speakers=["emodb/3"]))[2] == {"emodb/03"}


@pytest.mark.parametrize(("name", "hint"), [("tess/OAv", "tess/OAF"), ("zoe", "tess/OAF, tess/YAF")])
def test_an_unknown_speaker_raises_with_the_known_ones(name, hint):
    with pytest.raises(DataError, match=hint):
        split_of(tess(), "speakers", test_speakers=[name])


def test_a_speaker_cannot_be_in_two_named_parts():
    with pytest.raises(ConfigError, match="ravdess/07"):
        split_of(ravdess(), "speakers", test_speakers=["7"], valid_speakers=["07"])
    with pytest.raises(ConfigError, match="test_speakers"):
        split_of(ravdess(), "speakers")


def test_holdout_takes_a_fraction_of_the_men_and_women_of_each_corpus():
    utterances = ravdess() + emodb()
    split = split_of(utterances, "holdout", test_fraction=0.2, valid_fraction=0.15)
    for part, expected in ((split.test, {"ravdess": 2, "emodb": 1}), (split.valid, {"ravdess": 2, "emodb": 1})):
        for corpus, count in expected.items():
            found = [sex for speaker_id, sex in sexes(utterances, part) if speaker_id.startswith(corpus)]
            assert found == ["female"] * count + ["male"] * count  # 2.4 of 12, 1 of 5; then 1.5 of 10, 0.6 of 4


def test_classes_are_balanced_if_each_speaker_has_one_class():
    utterances = [u for n in range(20) for u in clips_of("own", f"{n:02d}", None) if u.emotion == EMOTIONS[n % 2]]
    for protocol, seed in product(("holdout", "kfold"), range(5)):
        split = split_of(utterances, protocol, split_seed=seed)
        emotions = [utterances[i].emotion for i in split.test]
        assert emotions.count("angry") == emotions.count("happy") == 4


def test_the_split_seed_determines_the_speakers():
    utterances = ravdess()
    for protocol in ("holdout", "kfold", "random"):
        first, again, another = (split_of(utterances, protocol, split_seed=seed) for seed in (0, 0, 1))
        assert first == again
        assert first.test != another.test


@st.composite
def populations(draw) -> list[Utterance]:
    utterances = []
    for corpus in draw(st.sampled_from([("a",), ("a", "b")])):
        for n in range(draw(st.integers(3, 9))):
            sex = draw(st.sampled_from(["male", "female", None]))
            utterances += clips_of(corpus, f"{n:02d}", sex, draw(st.integers(2, 4)))[draw(st.integers(0, 2)) :]
    return utterances


@settings(max_examples=20, deadline=None)
@given(populations(), st.integers(2, 6), st.randoms(use_true_random=False))
def test_kfold_is_balanced_for_any_speakers_in_any_order(utterances, folds, rng):
    sex_of = {u.speaker_id: u.sex or "" for u in utterances}
    folds = min(folds, len(sex_of))
    shuffled = rng.sample(utterances, len(utterances))
    tested, sizes, by_sex = [], [], {sex: [] for sex in sex_of.values()}
    for fold in range(folds):
        split = split_of(utterances, "kfold", fold=fold, folds=folds)
        train, valid, test = speakers_of(utterances, split)
        assert not test & (train | valid)
        assert split.validation_independent == (not train & valid) == (len(sex_of) - len(test) >= 3)
        assert speakers_of(shuffled, split_of(shuffled, "kfold", fold=fold, folds=folds))[2] == test
        tested += sorted(test)
        sizes.append(len(test))
        for sex, counts in by_sex.items():
            counts.append(sum(sex_of[speaker_id] == sex for speaker_id in test))
    assert sorted(tested) == sorted(sex_of)
    assert all(max(counts) - min(counts) <= 1 for counts in (sizes, *by_sex.values()))


@pytest.mark.parametrize("fold", range(5))
def test_kfold_of_ravdess_balances_sexes_and_validates_on_the_next_fold(fold):
    utterances = ravdess()
    split = split_of(utterances, "kfold", fold=fold)
    for part in (split.test, split.valid):
        counts = [sex for _, sex in sexes(utterances, part)]
        assert abs(counts.count("male") - counts.count("female")) <= 1
    following = split_of(utterances, "kfold", fold=(fold + 1) % 5)
    assert speakers_of(utterances, split)[1] <= speakers_of(utterances, following)[2]
    assert 2 <= len(speakers_of(utterances, split)[1]) <= 4  # 15 % of 19 or 20


def test_loso_tests_each_speaker_once_and_validates_on_the_following_speakers():
    utterances = ravdess() + tess()  # TESS has two speakers, too few for a validation speaker
    assert fold_count(utterances, ProtocolConfig(protocol="loso")) == 26
    for fold in range(24):
        split = split_of(utterances, "loso", fold=fold)
        _, valid, test = speakers_of(utterances, split)
        assert test == actors([fold + 1])
        assert valid == actors((fold + i) % 24 + 1 for i in range(1, 5))  # two of each sex: 15 % of 11 and 12
        assert split.validation_independent


def test_cross_corpus_tests_on_the_named_corpora_or_on_each_corpus_once():
    utterances = ravdess() + emodb() + tess()
    named = split_of(utterances, "cross_corpus", test_corpora=["TESS", "EMO-DB"])
    assert {utterances[i].corpus for i in named.test} == {"tess", "emodb"}
    assert fold_count(utterances, ProtocolConfig(protocol="cross_corpus")) == 3
    for fold, corpus in enumerate(("emodb", "ravdess", "tess")):
        split = split_of(utterances, "cross_corpus", fold=fold)
        assert {utterances[i].corpus for i in split.test} == {corpus}
        assert split.stamp == f"cross_corpus fold {fold}, speaker-independent, {corpus} held out"
        assert split.validation_independent
    with pytest.raises(DataError, match="emodb"):
        split_of(utterances, "cross_corpus", test_corpora=["emob"])
    with pytest.raises(DataError, match="0 clips to train"):
        split_of(tess(), "cross_corpus")


def test_loco_tests_each_corpus_once_and_trains_on_all_others():
    utterances = ravdess() + emodb() + tess()
    assert fold_count(utterances, ProtocolConfig(protocol="loco")) == 3
    for fold, corpus in enumerate(("emodb", "ravdess", "tess")):
        split = split_of(utterances, "loco", fold=fold)
        assert {utterances[i].corpus for i in split.test} == {corpus}
        assert split.stamp == f"loco fold {fold}, speaker-independent, {corpus} held out"
        same = split_of(utterances, "cross_corpus", fold=fold)
        assert (split.train, split.valid, split.test) == (same.train, same.valid, same.test)
        assert split_of(utterances[::-1], "loco", fold=fold).stamp == split.stamp
    assert "no validation" in split_of(utterances, "loco", valid_fraction=0).stamp
    with pytest.raises(ConfigError, match=r"data.fold is 3, but on this data loco takes 0 to 2"):
        split_of(utterances, "loco", fold=3)
    with pytest.raises(DataError, match="only tess; add the folder of another corpus to data.root"):
        split_of(tess(), "loco")


@pytest.mark.parametrize("votes", [False, True])
def test_loco_leaves_out_test_clips_of_emotions_that_no_training_clip_has(votes):
    utterances = ravdess() + tess()
    targets = [3 if u.corpus == "tess" and u.emotion == "sad" else EMOTIONS.index(u.emotion) for u in utterances]
    shares = np.eye(4)[targets] if votes else None
    labels = (*EMOTIONS, "calm")
    splits = [
        make_split(utterances, targets, ProtocolConfig(protocol="loco", fold=fold), None, labels, shares)
        for fold in (0, 1)
    ]
    everything = {i for part in (splits[1].train, splits[1].valid, splits[1].test) for i in part}
    assert set(range(len(targets))) - everything == {i for i, target in enumerate(targets) if target == 3}
    assert {targets[i] for i in splits[1].test} == {0, 1}
    clause = "no training clip of calm, 20 test clips of it left out, tess held out"
    assert splits[1].stamp == f"loco fold 1, speaker-independent, {clause}"
    assert any(
        note.endswith("calm: the model cannot learn it, and its test clips (20) are left out")
        for note in splits[1].notes
    )
    # RAVDESS has sad clips, which TESS has no longer; its calm clips train and are no test clips
    assert {targets[i] for i in splits[0].test} == {0, 1} and 3 in {targets[i] for i in splits[0].train}
    assert "no training clip of sad, 48 test clips of it left out" in splits[0].stamp


def test_loco_refuses_a_corpus_that_shares_no_emotion_with_the_others():
    utterances = ravdess() + tess()
    targets = [3 if u.corpus == "tess" else EMOTIONS.index(u.emotion) for u in utterances]
    with pytest.raises(DataError, match="no emotion of tess has a training clip; rename emotions"):
        make_split(utterances, targets, ProtocolConfig(protocol="loco", fold=1), None, (*EMOTIONS, "calm"))


def test_a_manifest_s_parts_are_used_and_a_missing_validation_part_is_taken_from_training_speakers():
    utterances = [replace(u, part="test" if u.speaker in ("01", "02") else "train") for u in ravdess(range(1, 11))]
    train, valid, test = speakers_of(utterances, split_of(utterances, "manifest"))
    assert (test, len(valid), len(train)) == (actors((1, 2)), 2, 6)
    given_part = [replace(u, part="valid") if u.speaker == "05" else u for u in utterances]
    assert speakers_of(given_part, split_of(given_part, "manifest"))[1] == actors([5])
    with pytest.raises(DataError, match="48 train, 0 valid, 6 test, 6 without"):
        split_of([replace(u, part=None) if u.speaker == "02" else u for u in utterances], "manifest")


def test_a_random_split_is_stamped_leaky_balances_classes_and_keeps_identical_clips_together():
    utterances = tess()
    digests = [f"{u.emotion}-{u.path.stem[-1]}" for u in utterances]  # each clip of OAF is identical to one of YAF
    split = split_of(utterances, "random", digests)
    assert split.stamp == "random, LEAKY: speakers shared between train and test"
    assert (split.speaker_independent, split.validation_independent) == (False, False)
    parts = [{digests[i] for i in part} for part in (split.train, split.valid, split.test)]
    assert sum(map(len, parts)) == len(set(digests))
    for emotion in EMOTIONS:
        assert sum(utterances[i].emotion == emotion for i in split.test) == 4  # a fifth of ten pairs, two clips each
    alone = [clips_of("own", f"{n}", None)[n % 3] for n in range(30)]
    assert split_of(alone, "random").stamp == "random, speakers doubtful: 30 of 30 speakers of own have one clip"


@pytest.mark.parametrize("protocol", ["loso", "kfold", "holdout"])
def test_with_two_speakers_clips_of_the_training_speaker_validate_as_the_stamp_says(protocol):
    utterances = tess()
    digests = [f"{u.speaker}-{u.emotion}-{int(u.path.stem[-1]) // 2}" for u in utterances]
    split = split_of(utterances, protocol, digests, folds=2)
    train, valid, test = speakers_of(utterances, split)
    assert (len(test), train) == (1, valid)
    assert train != test
    assert (split.speaker_independent, split.validation_independent, len(split.notes)) == (True, False, 1)
    assert split.stamp.endswith("speaker-independent, validation by clips of training speakers")
    assert not {digests[i] for i in split.train} & {digests[i] for i in split.valid}
    assert {utterances[i].emotion for i in split.valid} == set(EMOTIONS)


@pytest.mark.parametrize("protocol", ["luna5", "emobox6", "holdout", "kfold", "loso", "loco", "cross_corpus", "random"])
def test_a_split_does_not_depend_on_the_order_or_the_folder_of_the_clips(protocol):
    utterances = ravdess() + emodb()
    moved = [replace(u, path=Path("/elsewhere") / u.path.name) for u in utterances]
    digests = [str(u.path) for u in utterances]
    order = random.Random(5).sample(range(len(utterances)), len(utterances))
    first = split_of(utterances, protocol, digests)
    second = split_of([moved[i] for i in order], protocol, [digests[i] for i in order])
    for part in ("train", "valid", "test"):
        assert set(getattr(first, part)) == {order[i] for i in getattr(second, part)}


@pytest.mark.parametrize(
    ("protocol", "last"), [("luna5", 4), ("kfold", 4), ("loso", 23), ("holdout", 0), ("random", 0)]
)
def test_a_fold_out_of_range_raises_with_the_range(protocol, last):
    with pytest.raises(ConfigError, match=f"takes 0 to {last}"):
        split_of(ravdess(), protocol, fold=last + 1)


def test_more_folds_than_speakers_raise():
    with pytest.raises(ConfigError, match="2 speakers"):
        split_of(tess(), "kfold", folds=3)


def test_speaker_names_in_yaml_are_words_or_integers():
    config = ProtocolConfig(test_speakers=[7, "OAF"], test_corpora=["tess"])
    assert config.test_speakers == ("7", "OAF")
    assert hash(config) == hash(ProtocolConfig.model_validate(config.model_dump()))
    for wrong in ([True], [1.5], "07", 7, [None]):
        with pytest.raises(ValidationError):
            ProtocolConfig(test_speakers=wrong)


def rows(speakers: Sequence[str | None], corpus: str = "own", part: Sequence[str] | None = None):
    """Rows of a manifest; a speaker that is None is unknown."""
    return [
        Utterance(
            Path(f"/{corpus}{n}.wav"), corpus, name or UNKNOWN_SPEAKER, "sad", speaker_known=name is not None,
            part=part[n] if part else None, source=f"{corpus}.csv:{n + 2}",
        )
        for n, name in enumerate(speakers)
    ]  # fmt: skip


@pytest.mark.parametrize("protocol", ["holdout", "kfold", "loso", "luna5", "emobox6", "speakers"])
@pytest.mark.parametrize("known", [0, 40])
def test_protocols_that_need_speakers_refuse_unknown_ones(protocol: str, known: int) -> None:
    clips = [*rows([f"{n // 4}" for n in range(known)], "lab"), *rows([None] * 20)]
    with pytest.raises(DataError) as caught:
        make_split(clips, [n % 2 for n in range(len(clips))], ProtocolConfig(protocol=protocol, test_speakers=["1"]))
    assert f"own.csv:2: protocol {protocol} needs to know who speaks, and 20 clips have no speaker" in str(caught.value)
    assert "data.protocol=random" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", ["random", "manifest", "cross_corpus", "loco"])
@pytest.mark.parametrize("known", [0, 20])
def test_a_split_of_unknown_speakers_is_never_called_speaker_independent(protocol: str, known: int) -> None:
    parts = ["train"] * 12 + ["valid"] * 4 + ["test"] * 4
    other = [f"{n // 10}" for n in range(known)] or [None] * 20
    clips = [*rows([None] * 20, "own", parts), *rows(other, "lab", ["train"] * 20)]
    split = make_split(clips, [n % 2 for n in range(40)], ProtocolConfig(protocol=protocol))
    assert "speakers unknown: a speaker may be in train and test" in split.stamp
    assert "speaker-independent" not in split.stamp
    assert not split.speaker_independent and not split.validation_independent
    assert any("clips have no speaker" in note for note in split.notes)
    assert ("LEAKY" in split.stamp) == (protocol == "random" and known > 0)


@pytest.mark.parametrize("protocol", ["holdout", "kfold", "random"])
@pytest.mark.parametrize("single", [40, 38])
def test_a_corpus_whose_speakers_have_one_clip_each_is_doubted(protocol: str, single: int) -> None:
    names = [f"x{n}" for n in range(single)] + [f"y{n}" for n in range(40 - single) for _ in range(2)]
    clips = rows(names)
    split = make_split(clips, [n % 2 for n in range(len(clips))], ProtocolConfig(protocol=protocol))
    if "LEAKY" not in split.stamp:
        assert f"speakers doubtful: {single} of 40 speakers of own have one clip" in split.stamp
    assert "speaker-independent" not in split.stamp
    assert any("if these names are made up" in note for note in split.notes)


def test_one_clip_a_speaker_is_not_doubted_in_file_names_of_published_corpora_or_where_it_only_trains() -> None:
    published = [Utterance(Path(f"/{n}.wav"), "cremad", f"{1001 + n}", "sad") for n in range(20)]
    targets = [n % 2 for n in range(20)]
    assert make_split(published, targets, ProtocolConfig()).stamp == "holdout, speaker-independent"
    two_clips = [*rows([f"{n // 2}" for n in range(20)], "lab")]
    assert make_split(two_clips, targets, ProtocolConfig()).stamp == "holdout, speaker-independent"
    joined = [*two_clips, *rows([f"x{n}" for n in range(20)])]
    config = ProtocolConfig(protocol="cross_corpus", test_corpora=["lab"])
    assert "speaker-independent" in make_split(joined, targets * 2, config).stamp
    assert "doubtful" in make_split(joined, targets * 2, ProtocolConfig()).stamp


def test_a_class_without_a_training_clip_is_named_with_its_fold_and_what_happens() -> None:
    clips = rows([f"{n // 4}" for n in range(40)])
    only_one_speaker = [2 if clip.speaker == "3" else n % 2 for n, clip in enumerate(clips)]
    config = ProtocolConfig(protocol="kfold", folds=5)
    named = []
    for fold in range(5):
        config = config.model_copy(update={"fold": fold})
        split = make_split(clips, only_one_speaker, config, labels=("sad", "angry", "joy", "awe"))
        trained = {only_one_speaker[i] for i in split.train}
        tested = sum(only_one_speaker[i] == 2 for i in split.test)
        assert ("no training clip of joy and awe" in split.stamp) == (2 not in trained)
        assert "awe" in split.stamp
        note = f"kfold fold {fold}: no training clip of joy: the model cannot learn it, and its test clips ({tested})"
        assert any(text.startswith(note) for text in split.notes) == (2 not in trained)
        named.append(2 not in trained)
    assert 1 <= sum(named) <= 2
    whole = make_split(clips, [n % 2 for n in range(40)], config, labels=("sad", "angry"))
    assert "no training clip" not in whole.stamp and not whole.notes
