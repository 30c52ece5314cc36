"""Planted leaks raise with the offenders; clean splits and different clips, synthetic or real, pass."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from serx.data.copies.pairs import Copy
from serx.data.splits.leaks import check_copies, check_leaks
from serx.data.splits.protocol_config import ProtocolConfig
from serx.data.splits.protocols import Split, fold_count, make_split
from serx.data.utterance import Utterance
from serx.errors import LeakError

PROTOCOLS = ["luna5", "emobox6", "holdout", "kfold", "loso", "loco", "cross_corpus", "random"]


def corpus() -> list[Utterance]:
    """24 actors of RAVDESS and two speakers of another corpus, four clips each."""
    names = [("ravdess", f"{n:02d}") for n in range(1, 25)] + [("tess", "OAF"), ("tess", "YAF")]
    return [
        Utterance(Path(f"/{corpus}/{speaker}-{take}.wav"), corpus, speaker, ("angry", "sad")[take % 2])
        for corpus, speaker in names
        for take in range(4)
    ]


def digests_of(utterances) -> list[str]:
    return [str(u.path) for u in utterances]


def split_of(utterances, protocol="luna5", **keys) -> Split:
    targets = [int(u.emotion == "sad") for u in utterances]
    return make_split(utterances, targets, ProtocolConfig(protocol=protocol, **keys), digests_of(utterances))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_clean_split_passes(protocol):
    utterances = corpus()
    for fold in range(min(4, fold_count(utterances, ProtocolConfig(protocol=protocol)))):
        check_leaks(utterances, split_of(utterances, protocol, fold=fold), digests_of(utterances))


PAIRS = [("train", "test"), ("valid", "test"), ("train", "valid")]


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("spelling", ["{}", "Actor_{}", "0{}"])
def test_a_speaker_in_two_parts_raises_with_the_speaker(first, second, spelling):
    utterances = corpus()
    split = split_of(utterances)
    clip, moved = utterances[getattr(split, first)[0]], getattr(split, second)[0]
    utterances[moved] = replace(utterances[moved], speaker=spelling.format(clip.speaker))
    with pytest.raises(LeakError, match=rf"speakers in two parts \(1\): {clip.speaker_id}.*{first} and {second}"):
        check_leaks(utterances, split, digests_of(utterances))


@pytest.mark.parametrize("protocol", ["luna5", "random"])
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_same_audio_in_two_parts_raises_with_both_paths(protocol, first, second):
    utterances = corpus()
    split, digests = split_of(utterances, protocol), digests_of(utterances)
    i, j = random.Random(3).choice(getattr(split, first)), random.Random(4).choice(getattr(split, second))
    digests[j] = digests[i]
    with pytest.raises(LeakError, match=f"{utterances[i].path} .{first}. and {utterances[j].path} .{second}."):
        check_leaks(utterances, split, digests)


def test_the_same_audio_twice_in_one_part_passes():
    utterances = corpus()
    split, digests = split_of(utterances), digests_of(utterances)
    for part in (split.train, split.valid, split.test):
        digests[part[1]] = digests[part[0]]
    check_leaks(utterances, split, digests)


def test_speakers_may_be_shared_only_where_the_split_says_so():
    utterances = corpus()
    by_clips = split_of(utterances[-8:], "loso")  # two speakers: validation uses clips of the training speaker
    assert not by_clips.validation_independent
    check_leaks(utterances[-8:], by_clips, digests_of(utterances[-8:]))
    leaky = replace(by_clips, test=(*by_clips.test, by_clips.valid[0]), valid=by_clips.valid[1:])
    with pytest.raises(LeakError, match="tess/YAF .*train and test"):
        check_leaks(utterances[-8:], leaky, digests_of(utterances[-8:]))


def test_a_manifest_that_shares_speakers_raises():
    utterances = [replace(u, part="test" if u.path.stem.endswith("3") else "train") for u in corpus()]
    with pytest.raises(LeakError, match=r"speakers in two parts \(26\): .*ravdess/05 .*; and 21 more"):
        check_leaks(utterances, split_of(utterances, "manifest"), digests_of(utterances))


COPIES = [Copy(1, 3, 0.9), Copy(0, 1, 0.8)]


def test_copies_in_two_parts_raise_with_paths_parts_and_the_setting():
    utterances = [Utterance(Path(f"/own/{i}.wav"), "own", str(i), "angry") for i in range(5)]
    split = Split((0, 1), (2,), (3,), "", True, True)
    with pytest.raises(LeakError, match=r"\(1, .*/own/1.wav \(train\) and /own/3.wav \(test\): 0.900.*drop_one"):
        check_copies(utterances, split, COPIES)


def test_copies_within_one_part_or_outside_all_parts_pass():
    utterances = [Utterance(Path(f"/own/{i}.wav"), "own", str(i), "angry") for i in range(5)]
    check_copies(utterances, Split((0,), (2,), (1, 3), "", True, True), [Copy(1, 3, 0.9), Copy(0, 4, 0.9)])
