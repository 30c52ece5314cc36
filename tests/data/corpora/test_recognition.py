"""Names that fit several corpora: the folder decides, or the scan stops and asks; never a silent guess."""

from collections import Counter
from pathlib import Path

import pytest

from serx.data.corpora import CORPORA, PUBLISHED_CORPORA, canonical_corpus, register_corpus
from serx.data.corpora.file_names import parse_names
from serx.data.scanning.scanner import Scan, scan
from serx.errors import ConfigError, DataError
from tests.data import layouts
from tests.data.corpora.trees import TREES
from tests.data.layouts import inside, touch

# Bangla clips whose names are names of RAVDESS too, with other emotions.
SHARED = [f"03-01-0{e}-01-0{s}-01-{a:02d}.wav" for e in (1, 2, 3, 4, 5) for s in (1, 2) for a in (1, 2)]
BANGLA_ONLY = "03-01-02-01-03-03-33.wav"
RAVDESS_ONLY = "03-01-07-01-01-01-03.wav"


def corpora(found: Scan) -> Counter[str]:
    return Counter(clip.corpus for clip in found.utterances)


def only_line(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_whole_folder_decides_which_of_two_corpora_a_name_is_of(tmp_path: Path) -> None:
    assert corpora(scan(touch(tmp_path / "a", [*SHARED, RAVDESS_ONLY]))) == {"ravdess": 21}
    assert corpora(scan(touch(tmp_path / "b" / "BanglaSER", [*SHARED, BANGLA_ONLY]))) == {"banglaser": 21}
    assert corpora(scan(touch(tmp_path / "c" / "BanglaSER", SHARED))) == {"banglaser": 20}


def test_names_of_another_corpus_in_a_folder_without_a_name_stop_the_scan(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", [*SHARED, BANGLA_ONLY])
    with pytest.raises(
        DataError, match=r"data: 20 names, such as '03-01-01-01-01-01-01\.wav', fit banglaser and ravdess"
    ) as e:
        scan(root)
    assert f"all related names in {root} fit banglaser only" in only_line(e)
    assert f"data.corpora={{{root}: banglaser}}" in str(e.value)
    assert corpora(scan(root, corpora={str(root): "banglaser"})) == {"banglaser": 21}
    assert corpora(scan(root, corpora=["BanglaSER"])) == {"banglaser": 21}
    assert corpora(scan(root, corpora=["ravdess"])) == {"ravdess": 20}


def test_a_mixed_folder_stops_the_scan(tmp_path: Path) -> None:
    root = touch(tmp_path / "banglaser", [*SHARED, BANGLA_ONLY, RAVDESS_ONLY])
    with pytest.raises(
        DataError, match="other names in .*/banglaser fit only one of them or the other; keep each corpus"
    ) as e:
        scan(root)
    only_line(e)


def test_a_stray_name_of_a_common_form_is_skipped_with_a_reason(tmp_path: Path) -> None:
    found = scan(touch(tmp_path, [*SHARED, RAVDESS_ONLY, BANGLA_ONLY, "01-02-03.wav"]))
    assert corpora(found) == {"ravdess": 21}
    details = {file.path.name: file.detail for file in found.skipped}
    assert details[BANGLA_ONLY].startswith(
        "the name fits banglaser, but no folder is named so; set data.corpora=[banglaser]"
    )
    assert details["01-02-03.wav"].startswith("the name fits kannada, but no folder is named so")


def test_names_that_fit_two_corpora_alike_are_taken_for_the_better_known_with_a_note(tmp_path: Path) -> None:
    found = scan(touch(tmp_path / "x", SHARED))
    assert corpora(found) == {"ravdess": 20}
    [note] = found.notes
    assert "20 names" in note and "fit ravdess and banglaser equally well" in note
    assert "data.corpora=[banglaser]" in note


def test_corpora_in_neighboring_folders_do_not_disturb_each_other(tmp_path: Path) -> None:
    touch(tmp_path, inside("RAVDESS", layouts.ravdess(actors=(1, 2))))
    touch(tmp_path, inside("BanglaSER", [*SHARED, BANGLA_ONLY]))
    touch(tmp_path, inside("oreau", ["m/sessn/08a02Na.wav", "m/sessj/08a02Ja.wav"]))
    touch(tmp_path, inside("emodb/wav", ["08a02Na.wav", "08a02Fa.wav"]))
    assert corpora(scan(tmp_path)) == {"ravdess": 120, "banglaser": 21, "oreau": 2, "emodb": 2}


def test_a_folder_of_shared_names_takes_after_the_folders_around_it(tmp_path: Path) -> None:
    oreau = ["data/m/sessn/08a02Na.wav", "data/m/sesst/08a02Ta.wav", "data/f/sessc/10a01Ca.wav"]
    assert corpora(scan(touch(tmp_path / "one", oreau))) == {"oreau": 3}
    assert corpora(scan(touch(tmp_path / "two", ["w/08a02Na.wav", "w/08a02La.wav"]))) == {"emodb": 2}


def test_capitals_tell_two_corpora_apart_whose_names_are_equal_otherwise(tmp_path: Path) -> None:
    small = ["m01a01.wav", "m01h02.wav", "m02n01.wav"]
    assert corpora(scan(touch(tmp_path / "a", small))) == {"emouerj": 3}
    assert corpora(scan(touch(tmp_path / "b", [name.upper() for name in small]))) == {"shemo": 3}
    with pytest.raises(DataError, match="fit emouerj and shemo, and nothing says which") as e:
        scan(touch(tmp_path / "c", ["m01A01.wav"]))
    only_line(e)


def test_an_unknown_corpus_or_folder_in_the_setting_is_answered_with_the_nearest(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", SHARED)
    with pytest.raises(
        ConfigError, match=r"data\.corpora\.0: serx knows no corpus 'banglsr'; did you mean banglaser\?"
    ):
        scan(root, corpora=["banglsr"])
    with pytest.raises(ConfigError, match=r"data\.corpora\.nowhere: no such folder"):
        scan(root, corpora={"nowhere": "ravdess"})


@pytest.fixture
def registry():
    """The registry without registered corpora; a test's registrations end with it."""
    before = dict(CORPORA)
    for name in set(CORPORA) - set(PUBLISHED_CORPORA):
        del CORPORA[name]
    yield
    CORPORA.clear()
    CORPORA.update(before)


def test_a_registered_corpus_keeps_its_files_where_it_fits_the_whole_folder(tmp_path: Path, registry: None) -> None:
    register_corpus("mine", r"(?P<speaker>[fm][0-9]+)_(?P<emotion>ang|joy|bored)_(?P<take>[0-9]+)",
                    {"ang": "angry", "joy": "joy", "bored": "boredom"})  # fmt: skip
    found = scan(touch(tmp_path / "a", ["f01_ang_01.wav", "f01_bored_01.wav"]))
    assert (corpora(found), found.notes) == ({"mine": 2}, ())
    alike = scan(touch(tmp_path / "b", ["f01_ang_01.wav", "m02_joy_11.wav"]))
    assert corpora(alike) == {"mine": 2}
    assert "fit mine and jtes equally well" in alike.notes[0]
    assert corpora(scan(tmp_path / "b", corpora=["jtes"])) == {"jtes": 2}
    assert corpora(scan(touch(tmp_path / "c", ["jtes/f01_ang_01.wav"]))) == {"jtes": 1}


def test_a_registered_corpus_replaces_another_of_its_name_but_none_of_five(tmp_path: Path, registry: None) -> None:
    for _ in range(2):  # the same declaration twice is allowed
        register_corpus("emovo", r"(?P<speaker>[a-z]+)_(?P<emotion>ang)", {"ang": "angry"})
    found = scan(touch(tmp_path, ["ann_ang.wav", "dis-f1-b1.wav"]))
    assert [clip.speaker_id for clip in found.utterances] == ["emovo/ANN"]
    with pytest.raises(ConfigError, match="already means another corpus"):
        register_corpus("tess", r"(?P<speaker>[a-z]+)_(?P<emotion>ang)", {"ang": "angry"})


def test_a_greedy_pattern_takes_nothing_from_the_first_five(tmp_path: Path, registry: None) -> None:
    register_corpus("greedy", r"(?P<speaker>.+)-(?P<emotion>[0-9]+)", {"03": "happy"})
    assert corpora(scan(touch(tmp_path, [RAVDESS_ONLY, "x-03.wav"]))) == {"ravdess": 1, "greedy": 1}


def test_every_example_fits_its_corpus() -> None:
    for name in PUBLISHED_CORPORA:
        corpus = CORPORA[name]
        if corpus.patterns:
            fits = {parsed.corpus for parsed in parse_names(Path("/", corpus.example.split(" or ")[0]))}
            assert name in fits


def test_which_corpora_share_names_is_known(tmp_path: Path) -> None:
    """A new pattern that collides with another one is seen here, and its corpus says so in a note."""
    pairs = set()
    for tree in TREES.values():
        for name in tree.names[:400]:
            fits = sorted({parsed.corpus for parsed in parse_names(Path("/x", name))})
            if len(fits) > 1:
                pairs.add(tuple(fits))
    assert pairs == {("banglaser", "ravdess"), ("emodb", "oreau"), ("emouerj", "shemo")}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("MSP-PODCAST", "msppodcast"),
        ("MSP-IMPROV", "mspimprov"),
        ("EmoV-DB", "emovdb"),
        ("M3ED", "m3ed"),
        ("Emo-DB", "emodb"),
        ("eNTERFACE'05", "enterface"),
        ("THAI SER", "thaiser"),
        ("my urdu", "my urdu"),
        ("jl2", "jl2"),
    ],
)
def test_names_of_corpora_in_tables_are_recognized_however_they_are_spelled(text: str, name: str) -> None:
    assert canonical_corpus(text) == name


def test_a_transcript_beside_its_clip_is_not_reported_as_a_clip_of_another_format(tmp_path: Path) -> None:
    found = scan(touch(tmp_path, ["jl/female1_angry_10a_1.wav", "jl/female1_angry_10a_1.txt", "jl/male1_sad_3b_2.pdf"]))
    assert [(file.path.name, file.reason) for file in found.skipped] == [("male1_sad_3b_2.pdf", "format")]
