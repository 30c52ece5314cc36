"""`serx corpora`, docs/corpora.md, and the comparison of what is there with what the authors state."""

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

from serx.cli import corpora as verb
from serx.cli import download
from serx.cli.parsing import make_parser
from serx.data.corpora import CORPORA, PUBLISHED_CORPORA
from serx.data.corpora.comparison import compare
from serx.data.corpora.reference import facts, lines, reference
from serx.data.scanning.scanner import scan
from serx.errors import ConfigError
from tests.data import layouts
from tests.data.corpora.trees import TREES
from tests.data.layouts import touch

PAGE = Path(__file__).parents[3] / "docs" / "corpora.md"


def printed(capsys: pytest.CaptureFixture, *words: str) -> str:
    parser = make_parser(verb.__doc__ or "", verb.EXAMPLES)
    verb.add_arguments(parser)
    assert verb.main(parser.parse_args(words)) == 0
    return capsys.readouterr().out


def test_the_page_is_what_the_command_prints() -> None:
    assert PAGE.read_text() == reference(), "run python -m serx.data.corpora.reference > docs/corpora.md"


def test_the_list_has_a_line_for_each_corpus(capsys: pytest.CaptureFixture) -> None:
    title, header, *rows = printed(capsys).strip().splitlines()
    assert title == f"{len(CORPORA)} corpora"
    assert header.split()[:5] == ["corpus", "languages", "speakers", "clips", "hours"]
    assert [row.split()[0] for row in rows] == list(CORPORA)
    [emovo] = [row for row in rows if row.split()[0] == "emovo"]
    assert emovo.split()[1:6] == ["it", "6", "588", "0.5", "7"]
    assert "free for research" in emovo and "http" in emovo


def test_one_corpus_is_shown_in_full_under_any_spelling_of_its_name(capsys: pytest.CaptureFixture) -> None:
    text = printed(capsys, "IEMOCAP")
    assert "4 classes: neutral, happy, sad, angry (excited becomes happy)" in text
    assert "serx train --config cnn2d data.root=DIR data.protocol=iemocap5 data.label_map=iemocap4" in text
    assert "EmoEvaluation" in text
    with pytest.raises(ConfigError, match=r"knows no corpus 'iemocab'; did you mean iemocap\?"):
        printed(capsys, "iemocab")


def test_json_holds_the_same_facts_for_one_and_for_all(capsys: pytest.CaptureFixture) -> None:
    everything = json.loads(printed(capsys, "--json"))
    assert [item["name"] for item in everything] == list(CORPORA)
    assert json.loads(printed(capsys, "esd", "--json")) == facts(CORPORA["esd"])
    assert facts(CORPORA["esd"])["speakers"] == {"count": 20, "women": 10, "men": 10}


def test_a_registered_corpus_is_listed_and_shown(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        CORPORA, "lab9", replace(CORPORA["urdu"], name="lab9", title="lab9", clips=None, url="", rank=1)
    )
    assert "\n  lab9 " in printed(capsys)
    assert printed(capsys, "lab9").startswith("lab9 (lab9)")
    assert "lab9" not in reference()


def test_download_says_where_to_get_a_corpus_that_serx_cannot_download() -> None:
    with pytest.raises(
        ConfigError, match=r"IEMOCAP: serx cannot download IEMOCAP \(research only.*https://sail.*serx corpora iem"
    ):
        download.main(Namespace(corpus="IEMOCAP", root="data"))


def test_every_corpus_has_its_lines_in_the_page() -> None:
    text = reference()
    for name in PUBLISHED_CORPORA:
        assert f"\n`{name}`\n" in text
        assert dict(lines(CORPORA[name]))["documented by"] in text


def test_a_complete_corpus_is_called_complete(tmp_path: Path) -> None:
    clips = scan(TREES["emovo"].build(tmp_path)).utterances
    assert compare(clips) == ["emovo: all 588 clips; all 6 speakers"]


def test_missing_speakers_and_clips_are_named_and_songs_do_not_count(tmp_path: Path) -> None:
    names = [*layouts.ravdess(range(1, 25))[:-2], *layouts.ravdess((1,), song=True)]
    names = [name for name in names if not name.startswith("Actor_07/")]
    [line] = compare(scan(touch(tmp_path, names), styles=("speech", "song")).utterances)
    assert line == (
        "ravdess: 1378 of 1440 clips; 23 of 24 speakers, without 07; fewer of calm (184 of 192), happy (184 of 192), "
        "sad (184 of 192), angry (184 of 192), fearful (184 of 192), disgust (184 of 192), surprised (182 of 192), "
        "neutral (92 of 96)"
    )


def test_more_clips_than_stated_are_reported_as_well(tmp_path: Path) -> None:
    clips = scan(TREES["emovo"].build(tmp_path)).utterances
    [line] = compare([*clips, replace(clips[0], speaker="f9")])
    assert line.startswith("emovo: 589 clips, 1 more than stated; 7 speakers, 1 more than stated; more of ")


def test_a_corpus_without_a_stated_size_is_not_compared(tmp_path: Path) -> None:
    assert compare(scan(TREES["msppodcast"].build(tmp_path)).utterances) == []
