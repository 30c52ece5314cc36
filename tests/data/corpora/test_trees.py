"""Every known corpus in its published layout: clips, speakers, sexes, emotions and languages."""

from pathlib import Path

import pytest

from serx.data.corpora import CORPORA, LABEL_MAPS, PUBLISHED_CORPORA
from serx.data.labels import EMOTIONS, assign_labels, order_labels
from serx.data.scanning.scanner import scan
from serx.data.splits.protocol_config import ProtocolConfig
from tests.data.corpora.trees import TREES
from tests.data.layouts import touch


def test_fifty_nine_corpora_are_known_and_each_has_a_tree() -> None:
    assert len(PUBLISHED_CORPORA) == 59
    assert set(TREES) == set(PUBLISHED_CORPORA)


@pytest.mark.parametrize("name", PUBLISHED_CORPORA)
def test_a_published_tree_gives_the_clips_speakers_sexes_emotions_and_languages(name: str, tmp_path: Path) -> None:
    tree = TREES[name]
    found = scan(tree.build(tmp_path / "data"))
    clips = found.utterances
    assert {clip.corpus for clip in clips} == {name}
    assert len(clips) == (len(set(tree.names)) if tree.clips < 0 else tree.clips)
    sexes = {clip.speaker: clip.sex for clip in clips if clip.speaker_known}
    assert (len(sexes), *(list(sexes.values()).count(sex) for sex in ("female", "male"))) == (
        tree.speakers, tree.women, tree.men,
    )  # fmt: skip
    assert {clip.emotion for clip in clips} == tree.emotions
    assert {clip.language for clip in clips} == set(tree.languages)
    assert found.notes == ()


def test_corpora_side_by_side_in_folders_named_after_them_are_told_apart(tmp_path: Path) -> None:
    chosen = [name for name in PUBLISHED_CORPORA if len(TREES[name].names) < 600 or name == "ravdess"]
    for name in chosen:
        TREES[name].build(tmp_path / name)
    clips = scan(tmp_path).utterances
    assert {clip.path.relative_to(tmp_path).parts[0] for clip in clips} == set(chosen)
    assert all(clip.corpus == clip.path.relative_to(tmp_path).parts[0] for clip in clips)


@pytest.mark.parametrize("name", PUBLISHED_CORPORA)
def test_a_declaration_says_where_the_corpus_is_what_it_holds_and_how_to_evaluate_on_it(name: str) -> None:
    corpus = CORPORA[name]
    for text in (corpus.title, corpus.example, corpus.license, corpus.url, corpus.cite, corpus.source):
        assert text
    settings = dict(override.removeprefix("data.").split("=") for override in corpus.protocol)
    assert settings.pop("label_map", None) in (None, *corpus.label_maps)
    assert corpus.protocol_note and ProtocolConfig(**{k: int(v) if v.isdigit() else v for k, v in settings.items()})
    if corpus.counts and len(corpus.counts) == len(set(corpus.emotions.values())):
        assert sum(corpus.counts.values()) == corpus.clips
    assert set(corpus.counts) <= set(corpus.emotions.values())
    if corpus.women is not None and corpus.men is not None and name != "mspimprov":  # dyads count as speakers there
        assert corpus.women + corpus.men == corpus.speaker_count
    if corpus.speakers and None not in corpus.speakers.values():
        sexes = list(corpus.speakers.values())
        assert (sexes.count("female"), sexes.count("male")) == (corpus.women, corpus.men)


@pytest.mark.parametrize("name", sorted(LABEL_MAPS))
def test_a_label_map_leaves_the_number_of_classes_in_its_name(name: str, tmp_path: Path) -> None:
    corpus = next(corpus for corpus in CORPORA.values() if name in corpus.label_maps)
    words = {corpus.emotions[code] for code in corpus.emotions}
    left = order_labels(to for word in words if (to := LABEL_MAPS[name].get(word, word)) is not None)
    assert len(left) == int(name[-1])
    assert set(LABEL_MAPS[name]) <= words
    clips = scan(TREES[corpus.name].build(tmp_path / "data")).utterances
    assert set(assign_labels(clips, None, LABEL_MAPS[name]).labels) <= set(left)
    assert not {"other", "no_agreement"} & set(left)


def test_canonical_words_are_spelled_as_in_labels() -> None:
    unusual = {"other", "no_agreement"}
    for corpus in CORPORA.values():
        for word in corpus.emotions.values():
            assert word in EMOTIONS or word in unusual or word == word.lower()


def test_no_corpus_stays_silent_about_its_speakers_in_a_protocol() -> None:
    for name in PUBLISHED_CORPORA:
        corpus = CORPORA[name]
        if not corpus.speakers_known:
            assert corpus.protocol[0] in ("data.protocol=random", "data.protocol=manifest")
            assert "no speaker-independent test" in corpus.protocol_note


@pytest.mark.speech
@pytest.mark.parametrize("name", ["emovo", "nemo", "ased"])
def test_real_file_names_say_what_a_table_of_the_corpus_says(name: str, speech_root: Path, tmp_path: Path) -> None:
    folder = speech_root / f"{name}16k"
    if not folder.is_dir():
        pytest.skip(f"no {name} in SERX_DATA")
    listed = {str(u.path.relative_to(folder)): u for u in scan(folder / "manifest.csv").utterances[::5]}
    named = {str(u.path.relative_to(tmp_path)): u for u in scan(touch(tmp_path, listed)).utterances}
    assert named.keys() == listed.keys()
    for path, clip in named.items():
        row = listed[path]
        assert (clip.corpus, clip.speaker, clip.emotion, clip.sex) == (row.corpus, row.speaker, row.emotion, row.sex)
