"""Clips as columns: the same clips as objects, one by one and together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serx.data.splits.protocol_config import ProtocolConfig
from serx.data.splits.protocols import fold_count, make_split
from serx.data.utterance import Utterance
from serx.data.utterances import Texts, Utterances

CLIPS = (
    Utterance(Path("/a/one.wav"), "own", "ann", "sad", source="own.csv:2"),
    Utterance(Path("/a/one.wav"), "own", "bob", "", start=1.5, source="own.csv:3"),
    Utterance(Path("/a/one.wav"), "own", "bob", "sad", "male", start=0.25, end=1.0, weight=0.5, source="own.csv:0x1"),
    Utterance(Path("/b/\udcff\u4e2d\n#t=1.wav"), "b/own", "ann", "joy", votes=(("joy", 2.0), ("sad", 0.5))),
    Utterance(Path("/root.wav"), "own", "b/ann", "joy", dimensions=(("arousal", 1e300),), part="test", language="de"),
    Utterance(Path("relative.wav"), "own", "ann", "joy", style="song", intensity="low", statement="x:7", source="a:07"),
    Utterance(Path("/a/b.wav"), "own", "c", "joy", corpus_named=False, speaker_known=False, source="t:2:12"),
)


def test_columns_give_back_the_same_clips():
    clips = Utterances.of(CLIPS)
    assert tuple(clips) == CLIPS and clips == CLIPS and clips == list(CLIPS)
    assert clips != CLIPS[1:] and clips != (replace(CLIPS[0], speaker="x"), *CLIPS[1:])
    assert [clip.source for clip in clips] == [clip.source for clip in CLIPS]
    assert list(clips.segments) == [clip.segment for clip in CLIPS]
    assert [str(s) for s in clips.segments[2:4]] == [str(clip.segment) for clip in CLIPS[2:4]]
    assert clips[-1] == CLIPS[-1] and Utterances.of(clips) is clips
    with pytest.raises(IndexError):
        clips[len(CLIPS)]


@pytest.mark.parametrize("chosen", [[], [3], [6, 0, 0], slice(1, None, 2)])
def test_some_clips_are_those_that_were_chosen(chosen):
    clips = Utterances.of(CLIPS)
    expected = list(CLIPS[chosen]) if isinstance(chosen, slice) else [CLIPS[i] for i in chosen]
    assert list(clips[chosen] if isinstance(chosen, slice) else clips.take(chosen)) == expected
    mask = np.zeros(len(CLIPS), bool)
    mask[chosen] = True
    assert list(clips.take(mask)) == [clip for clip, is_in in zip(CLIPS, mask, strict=True) if is_in]


def test_combinations_of_words_are_numbered_in_the_order_of_the_clips():
    clips = Utterances.of(CLIPS)
    for names in (["emotion"], ["corpus", "speaker"], ["sex", "votes", "part", "speaker_known"]):
        words = [tuple(getattr(clip, name) for name in names) for clip in CLIPS]
        distinct = list(dict.fromkeys(words))
        first, number = clips.distinct(*names)
        assert first.tolist() == [words.index(word) for word in distinct]
        assert number.tolist() == [distinct.index(word) for word in words]


def test_many_columns_of_many_words_are_told_apart():
    random = np.random.default_rng(0)
    made = [
        Utterance(Path(f"/{n}"), *(str(i) for i in random.integers(0, 40, 3)), statement=str(n % 50))
        for n in range(300)
    ]
    names = ("corpus", "speaker", "emotion", "statement", "corpus", "speaker", "emotion", "statement")
    first, number = Utterances.of(made).distinct(*names * 2)
    words = [(u.corpus, u.speaker, u.emotion, u.statement) for u in made]
    assert [words[i] for i in first] == list(dict.fromkeys(words))
    assert all(words[first[n]] == word for n, word in zip(number, words, strict=True))


def test_words_are_ranked_among_those_of_the_chosen_clips():
    clips = Utterances.of(CLIPS)
    for chosen in ([0, 3, 4], [3, 3, 1], np.array([], int)):
        expected = np.unique([CLIPS[i].corpus for i in chosen], return_inverse=True)[1]
        assert clips.ranks("corpus", chosen).tolist() == expected.tolist()


def test_speakers_are_known_by_their_speaker_id():
    clips = Utterances.of(CLIPS)  # `own` and `b/ann`, and ... `own/b` would be spelled alike
    number, ids = clips.speakers
    assert [ids[n] for n in number] == [clip.speaker_id for clip in CLIPS]
    alike = [replace(CLIPS[0], corpus="a/b", speaker="c"), replace(CLIPS[0], corpus="a", speaker="b/c")]
    assert Utterances.of(alike).speakers[1] == ("a/b/c",)
    assert clips.take([0]).speakers[1] == ("own/ann",)


def test_columns_of_no_clip():
    clips = Utterances.of(())
    assert len(clips) == 0 and list(clips) == [] and clips == ()
    assert clips.speakers[1] == () and clips.present("emotion") == set()
    assert fold_count((), ProtocolConfig(protocol="loso")) == 0
    assert list(Texts.of([])) == []


def test_a_split_does_not_depend_on_how_the_clips_are_kept():
    random = np.random.default_rng(1)
    clips = [
        Utterance(Path(f"/{n}.wav"), f"c{n % 2}", f"{random.integers(0, 12):02d}", str(random.integers(0, 3)))
        for n in range(240)
    ]
    targets = [int(clip.emotion) for clip in clips]
    for protocol in ("holdout", "kfold", "loso", "random", "loco"):
        config = ProtocolConfig(protocol=protocol, fold=0 if protocol in ("holdout", "random") else 1)
        order = random.permutation(len(clips))
        splits = [
            make_split(clips, targets, config),
            make_split(Utterances.of(clips), np.array(targets), config),
            make_split(Utterances.of([clips[i] for i in order]), [targets[i] for i in order], config),
        ]
        assert splits[0] == splits[1] and splits[0].stamp == splits[2].stamp
        for part in ("train", "valid", "test"):
            assert list(getattr(splits[0], part)) == sorted(order[list(getattr(splits[2], part))])
