"""Names of speakers and corpora: what looks alike is asked about, what differs is not."""

import unicodedata
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serx.config import load_config
from serx.data.corpora import CORPORA, canonical_corpus, canonical_speaker, name_key
from serx.data.dataset import DataConfig, load_dataset
from serx.data.names import NamesConfig, same_speaker, settle_names
from serx.data.scanning.scanner import scan
from serx.data.tables.manifest import read_manifest
from serx.data.utterance import Utterance, visible
from serx.errors import ConfigError, DataError


def clips_of(*speakers: str, corpus: str = "own") -> list[Utterance]:
    """A clip of each speaker, as line 2, 3, ... of own.csv."""
    return [
        Utterance(Path(f"/{n}.wav"), canonical_corpus(corpus), canonical_speaker(name), "sad", source=f"own.csv:{n}")
        for n, name in enumerate(speakers, 2)
    ]


def question(clips: list[Utterance], names: NamesConfig | None = None) -> str:
    with pytest.raises(DataError) as caught:
        settle_names(clips, names or NamesConfig())
    return str(caught.value)


ONE_PERSON = [
    ("7", "7.0"), ("7", "07"), ("7", "\uff17"), ("7", "Actor_07"), ("07", "7.00"), ("Ann", "Ann\u200b"),
    ("Ann Lee", "Ann\u00a0Lee"), ("Ann Lee", "\ufeffAnn  Lee"), ("Zo\u00eb", "Zoe\u0308"), ("\uff21nn", "Ann"),
    ("An\u00adn", "Ann"), ("A\u2060nn", "Ann"), ("\u200fAnn", "Ann"), ("Ann\u3000Lee", "Ann Lee"), ("\ufb01n", "fin"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), ONE_PERSON)
def test_names_that_look_the_same_are_one_speaker(first: str, second: str) -> None:
    assert canonical_speaker(first) == canonical_speaker(second)
    assert len({clip.speaker_id for clip in settle_names(clips_of(first, second), NamesConfig())}) == 1


ALIKE = [
    ("S07", "7"), ("S07", "spk7"), ("S07", "subject 7"), ("spk7", "Speaker_7a".removesuffix("a")), ("s7", "S-007"),
    ("Ann Lee", "Ann_Lee"), ("Ann Lee", "ann-lee"), ("Ann Lee", "AnnLee"), ("Ann Lee", "Ann.Lee"), ("Ann", "ANN"),
    ("M01", "m1"), ("Speaker A", "A"), ("Jos\u00e9", "Jose"), ("\u0667", "7"), ("participant 12", "P12"),
    ("Actor A", "actor_a"), ("#7", "7"), ("speaker no. 7", "7"), ("O'Neil", "Oneil"), ("1-10", "1_10"),
    ("Ann", "\u0410nn"), ("M1", "\u041c1"), ("A1", "\u03911"), ("7", "7,0"), ("07", "+7"),
    ('"7"', "7"), ("[7]", "(7)"), ("S07", "<7>"), ("spk-7.wav", "spk-7"), ("F1.flac", "f01"),
    ("S\uff10\uff17", "spk-7"),
    ("spk-07.", "spk_7"), ("Ann\u2019s", "Ann's"), ("A\u2013B", "A-B"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), ALIKE)
def test_names_that_look_alike_are_asked_about(first: str, second: str) -> None:
    message = question(clips_of(first, second))
    one, two = (clip.speaker_id for clip in clips_of(first, second))
    assert message.startswith(f"own.csv:3: one person or two? {one} and {two} (own.csv:2, own.csv:3); ")
    assert "data.same_names=[[" in message
    assert "\n" not in message


DIFFERENT = [
    ("speaker1", "speaker11"), ("M1", "F1"), ("S1", "S10"), ("Ann", "Anna"), ("1.10", "1.1"), ("1_10", "11_0"),
    ("1_10", "110"), ("male1", "female1"), ("Ann Lee", "Ann Leigh"), ("A", "B"), ("A1", "B1"), ("Ses01F", "Ses01M"),
    ("\u0930\u093e\u092e", "\u0930\u092e\u093e"), ("Subject A", "Subject B"), ("P Diddy", "Diddy"), ("07F", "F07"),
    ("s", "p"), ("7", "17"), ("speaker", "subject"), ("\u0418\u0432\u0430\u043d", "\u0418\u0432\u0430"), ("1.5", "15"),
    ("a\U0001f600", "a\U0001f603"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_names_that_differ_are_not_asked_about(first: str, second: str) -> None:
    clips = clips_of(first, second)
    assert list(settle_names(clips, NamesConfig())) == clips
    assert not same_speaker(clips[0], clips[1].speaker_id)


def test_speakers_of_published_corpora_are_not_asked_about() -> None:
    clips = [clip for corpus in CORPORA.values() for clip in clips_of(*(corpus.speakers or ()), corpus=corpus.name)]
    assert len(clips) > 100
    assert settle_names(clips, NamesConfig()) == tuple(clips)
    keys = [name_key(name) for name in CORPORA]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "pair", [("my-corpus", "my corpus"), ("my_corpus", "My Corpus"), ("mycorpus", "my.corpus"), ("lab 1", "lab01")]
)
def test_corpora_whose_names_look_alike_are_asked_about(pair: tuple[str, str]) -> None:
    clips = [*clips_of("Ann", corpus=pair[0]), *clips_of("Ben", "Eve", corpus=pair[1])]
    message = question(clips)
    assert message.startswith("own.csv:2: one corpus or two? ")
    same = settle_names(clips, NamesConfig(same_names=[pair]))
    assert [clip.speaker_id.partition("/")[0] for clip in same] == [canonical_corpus(pair[0])] * 3
    assert settle_names(clips, NamesConfig(different_names=[pair])) == tuple(clips)


@pytest.mark.parametrize("pair", [("lab1", "lab11"), ("lab a", "lab b"), ("english", "englisch")])
def test_corpora_whose_names_differ_are_not_asked_about(pair: tuple[str, str]) -> None:
    clips = [*clips_of("Ann", corpus=pair[0]), *clips_of("Ann", corpus=pair[1])]
    assert settle_names(clips, NamesConfig()) == tuple(clips)


def test_corpora_that_are_one_bring_their_speakers_together_and_ask_about_those() -> None:
    clips = [*clips_of("Ann", corpus="my-lab"), *clips_of("Ann", "ann_", corpus="my lab")]
    names = NamesConfig(same_names=[("my-lab", "my lab")])
    assert "my-lab/Ann and my-lab/ann_" in question(clips, names)
    names = NamesConfig(same_names=[("my-lab", "my lab"), ("my-lab/Ann", "my lab/ann_", "my-lab/ann_")])
    assert {clip.speaker_id for clip in settle_names(clips, names)} == {"my-lab/Ann"}


def test_the_answer_that_a_question_suggests_is_accepted() -> None:
    clips = clips_of("S07", "spk 7", "Lee, Ann", "lee ann", "x")
    message = question(clips)
    for key, people in (("data.same_names", 3), ("data.different_names", 5)):
        start = message.index(key)
        override = message[start : message.index("]]", start) + 2]
        config = load_config("mlp", "data.root=x", override).data
        assert len({clip.speaker for clip in settle_names(clips, config)}) == people
    config = load_config("mlp", "data.root=x", "data.different_names=all").data
    assert len({clip.speaker for clip in settle_names(clips, config)}) == 5


def test_every_pair_is_listed_or_counted() -> None:
    clips = clips_of(*(f"S{n}" for n in range(1, 9)), *(f"spk{n}" for n in range(1, 9)))
    assert question(clips).count("own/S") >= 5 and "; and 3 more" in question(clips)


@pytest.mark.parametrize("groups", [[["own/Ann"]], [["own/Ann", "own"]], [["own/Ann", "own/Ann"]], [[]], [["a"]]])
@pytest.mark.parametrize("key", ["same_names", "different_names"])
def test_a_group_of_one_name_or_of_speakers_and_corpora_raises(groups: list[list[str]], key: str) -> None:
    with pytest.raises(ValidationError, match="two or more"):
        NamesConfig(**{key: groups})
    with pytest.raises(ConfigError, match=f"data.{key}"):
        load_config("mlp", "data.root=x", {f"data.{key}": groups})


def test_a_speaker_of_two_sexes_in_two_manifests_raises_with_both_lines(tmp_path: Path) -> None:
    for name, sex in (("x", "m"), ("y", "f")):
        (tmp_path / f"{name}.wav").touch()
        (tmp_path / f"{name}.csv").write_text(f"path,emotion,speaker,corpus,sex\n{name}.wav,sad,Ann,own,{sex}\n")
    clips = scan([tmp_path / "x.csv", tmp_path / "y.csv"]).utterances
    assert question(list(clips)).startswith(
        "y.csv:2: speaker own/Ann is female, but male in x.csv:2; make both the same"
    )


def test_a_training_speaker_with_another_spelling_counts_as_seen() -> None:
    (clip,) = clips_of("spk7")
    assert same_speaker(clip, "own/S07") and not same_speaker(clip, "own/S17") and not same_speaker(clip, "lab/S07")
    assert not same_speaker(clip, "own/S07", NamesConfig(different_names=[["own/S07", "own/spk7"]]))
    assert not same_speaker(clip, "own/S07", NamesConfig(different_names="all"))
    assert same_speaker(clip, "own/spk7", NamesConfig(different_names="all"))


def test_a_manifest_with_two_spellings_is_loaded_only_after_an_answer(tmp_path: Path, tiny_root: Path) -> None:
    files = sorted(tiny_root.rglob("*.wav"))[:4]
    rows = [f"{path},{'sad' if n % 2 else 'happy'},{name}" for n, (path, name) in enumerate(
        zip(files, ("S07", "subject 7", "Ann Lee", "Ann\u200b Lee"), strict=True)
    )]  # fmt: skip
    table = tmp_path / "own.csv"
    table.write_text("path,emotion,speaker\n" + "\n".join(rows) + "\n", encoding="utf-8")
    config = DataConfig(root=str(table), cache=str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"own\.csv:3: one person or two\? own/S07 and own/subject 7"):
        load_dataset(config, progress=False)
    answered = config.model_copy(update={"same_names": (("own/S07", "own/subject 7"),)})
    assert {clip.speaker for clip in load_dataset(answered, progress=False).utterances} == {"S07", "Ann Lee"}
    assert len(read_manifest(table).utterances) == 4


@given(st.text(max_size=12))
def test_what_a_reader_sees_is_its_own_form_in_every_unicode_form(text: str) -> None:
    seen = visible(text)
    assert visible(seen) == seen
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert visible(unicodedata.normalize(form, text)) == seen


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=20, unique=True), st.sampled_from("MFAX"))
def test_numbers_are_different_speakers_under_any_prefix(numbers: list[int], letter: str) -> None:
    for prefix in ("", "speaker", "s", letter):
        keys = [name_key(f"{prefix}{n}", person=True) for n in numbers]
        assert all(a != b for a, b in combinations(keys, 2))
