"""The stored scan: used while nothing has changed, never after any change, and never trusted."""

import json
import os
import shutil
import sys

import numpy as np
import pyarrow.parquet
import pytest
import soundfile

import serx
from serx.data.corpora import registry
from serx.data.dataset import DataConfig, load_dataset
from serx.data.file_state import audio_keys
from serx.data.labels import SYNONYMS
from serx.data.scanning import snapshot as scan_snapshot
from serx.data.scanning.scanner import scan
from serx.data.scanning.snapshot import scan_once
from serx.errors import ConfigError, DataError
from serx.files import seal, unseal
from tests.data.cache.test_audio_cache import pickled
from tests.data.corpora.trees import TREES
from tests.data.layouts import inside, ravdess, touch
from tests.data.tables.test_arrow import save_to_disk

RATE = 16_000
ROWS = (
    "path,emotion,speaker,sex,split,start,end,weight,mood\n"
    "a.wav,happy,ann,female,train,,,1,x\n"
    "b.wav,sad,bob,,train,0.1,0.4,2,\n"
    "b.wav,angry,bob,,test,0.5,,1,\n"
    "gone.wav,sad,cem,,test,,,1,\n"
    "caf\u00e9/d.wav,Anger,dan,,test,,,1,\n"
)


@pytest.fixture
def table(tmp_path):
    folder = tmp_path / "corpus"
    (folder / "caf\u00e9").mkdir(parents=True)
    for n, name in enumerate(("a", "b", "caf\u00e9/d")):
        noise = 0.1 * np.random.default_rng(n).standard_normal(RATE)
        soundfile.write(folder / f"{name}.wav", noise, RATE)
    (folder / "own.csv").write_text(ROWS, encoding="utf-8")
    return folder / "own.csv"


@pytest.fixture
def config_of(table, tmp_path):
    def make(**settings):
        return DataConfig(**{"root": str(table), "cache": str(tmp_path / "cache"), **settings})

    return make


def arguments(config):
    return config.root, config.styles, config, config.corpora


def same(one, two) -> bool:
    clips = [[(u, u.source) for u in found.utterances] for found in (one, two)]
    return clips[0] == clips[1] and all(
        getattr(one, name) == getattr(two, name) for name in ("skipped", "notes", "ties")
    )


@pytest.fixture
def scans(monkeypatch):
    """Counts how often tables are parsed."""
    calls = []
    monkeypatch.setattr(scan_snapshot, "scan", lambda *a: calls.append(a) or scan(*a))
    return calls


def test_a_second_start_parses_no_table_and_finds_the_same(config_of, scans):
    config = config_of()
    first, second = scan_once(*arguments(config)), scan_once(*arguments(config))
    assert len(scans) == 1
    assert same(first, scan(*arguments(config))) and same(second, first)
    assert [file.path.name for file in second.skipped] == ["gone.wav"] and second.notes


def test_a_start_from_the_snapshot_gives_the_same_dataset_with_all_notes(config_of, scans):
    first, second = (load_dataset(config_of(), progress=False) for _ in range(2))
    assert len(scans) == 1
    assert first.utterances == second.utterances and first.notes == second.notes
    assert any("gone.wav" in note for note in second.notes) and any("weights" in note for note in second.notes)
    assert first.targets.tolist() == second.targets.tolist() and first.digests == second.digests


def edited_in_place(table):
    """Another word of the same length, and the times as they were."""
    before = table.stat()
    table.write_text(ROWS.replace("happy", "bored"), encoding="utf-8")
    os.utime(table, ns=(before.st_atime_ns, before.st_mtime_ns))


def a_row_more(table):
    soundfile.write(table.parent / "e.wav", np.full(800, 0.1), RATE)
    table.write_text(ROWS + "e.wav,sad,eve,,test,,,1,\n", encoding="utf-8")


def a_missing_file_appears(table):
    shutil.copy(table.parent / "a.wav", table.parent / "gone.wav")


def a_folder_in_the_place_of_a_missing_file(table):
    (table.parent / "gone.wav").mkdir()


def a_file_disappears(table):
    (table.parent / "a.wav").unlink()


def a_file_becomes_a_folder(table):
    (table.parent / "a.wav").unlink()
    (table.parent / "a.wav").mkdir()


def a_file_is_exchanged(table):
    shutil.copy(table.parent / "a.wav", table.parent / "new.wav")
    os.replace(table.parent / "new.wav", table.parent / "a.wav")


CHANGES = [
    edited_in_place,
    a_row_more,
    a_missing_file_appears,
    a_folder_in_the_place_of_a_missing_file,
    a_file_disappears,
    a_file_becomes_a_folder,
    a_file_is_exchanged,
]


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_of_the_table_or_of_the_files_is_a_new_scan(change, table, config_of, scans):
    config = config_of()
    scan_once(*arguments(config))
    change(table)
    assert same(scan_once(*arguments(config)), scan(*arguments(config)))
    assert len(scans) == 2
    assert same(scan_once(*arguments(config)), scan(*arguments(config)))
    assert len(scans) == 2  # the new scan is kept in its turn


def test_a_link_that_makes_two_rows_one_file_is_refused_as_on_a_first_start(table, config_of):
    config = config_of()
    scan_once(*arguments(config))
    (table.parent / "a.wav").unlink()
    os.link(table.parent / "caf\u00e9" / "d.wav", table.parent / "a.wav")
    for _ in range(2):
        with pytest.raises(DataError, match="the same file"):
            scan_once(*arguments(config))


@pytest.mark.parametrize(
    "settings",
    [
        {"columns": {"mood": None}},
        {"encoding": "utf-8"},
        {"styles": ("speech", "song")},
        {"corpora": ("ravdess",)},
        {"audio_root": "."},
    ],
)
def test_other_settings_are_a_new_scan(settings, table, config_of, scans, monkeypatch):
    monkeypatch.chdir(table.parent)
    scan_once(*arguments(config_of()))
    scan_once(*arguments(config_of(**settings)))
    assert len(scans) == 2
    scan_once(*arguments(config_of()))
    scan_once(*arguments(config_of(**settings)))
    assert len(scans) == 2  # each has a snapshot of its own


def other_version(monkeypatch, tmp_path):
    monkeypatch.setattr(serx, "__version__", "0.1.1")


def other_code(monkeypatch, tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "manifest.py").write_text("# mended\n")
    before = scan_snapshot._code_digest(tmp_path / "code")
    (tmp_path / "code" / "manifest.py").write_text("# Mended\n")
    assert scan_snapshot._code_digest(tmp_path / "code") != before
    monkeypatch.setattr(scan_snapshot, "_CODE", before)


def another_meaning_of_a_word(monkeypatch, tmp_path):
    monkeypatch.setitem(SYNONYMS, "bored", "calm")


def another_corpus(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "CORPORA", dict(registry.CORPORA))
    monkeypatch.setattr(scan_snapshot, "CORPORA", registry.CORPORA)
    registry.register_corpus("office", r"(?P<speaker>x+)_(?P<emotion>a)", {"a": "angry"})


@pytest.mark.parametrize("change", [other_version, other_code, another_meaning_of_a_word, another_corpus])
def test_another_version_or_another_registration_is_a_new_scan(change, config_of, scans, monkeypatch, tmp_path):
    scan_once(*arguments(config_of()))
    change(monkeypatch, tmp_path)
    scan_once(*arguments(config_of()))
    assert len(scans) == 2


DAMAGES = {
    "nothing": lambda content: b"",
    "cut": lambda content: content[:-5],
    "objects": lambda content: content[:32] + pickled(),
    "nested": lambda content: content[:32] + (200_000).to_bytes(8, "little") + b"[" * 200_000,
    "something else than what was seen": lambda content: content.replace(b'"states": {}', b'"states": 77'),
    "codes beyond the words": lambda content: content.replace(b'"happy"', b"null,9").replace(b'"sad"', b"1"),
    "of another table": lambda content: bytes(32) + content[32:],
}


@pytest.mark.parametrize("damage", [*DAMAGES, "flipped bit", "folder"])
def test_a_damaged_snapshot_is_made_again(damage, config_of, scans, tmp_path):
    config = config_of()
    first = scan_once(*arguments(config))
    (path,) = (tmp_path / "cache" / "scans").glob("*.sealed")
    content = unseal(path)
    if damage == "flipped bit":
        path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(seal(DAMAGES[damage](content)))
    assert same(scan_once(*arguments(config)), first)
    assert len(scans) == 2
    if damage != "folder":
        assert unseal(path) == content


def test_a_number_that_points_beyond_its_column_is_no_snapshot(config_of, scans, tmp_path):
    scan_once(*arguments(config_of()))
    (path,) = (tmp_path / "cache" / "scans").glob("*.sealed")
    content = unseal(path)
    words = content.replace(b'["happy", "sad", "angry"]', b'["happy", "sad"         ]')
    assert words != content
    path.write_bytes(seal(words))
    scan_once(*arguments(config_of()))
    assert len(scans) == 2


def test_a_snapshot_that_cannot_be_written_costs_nothing_but_the_next_scan(config_of, scans, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scan_snapshot, "write_atomically", refuse)
    first, second = scan_once(*arguments(config_of())), scan_once(*arguments(config_of()))
    assert len(scans) == 2 and same(first, second)


def test_a_table_that_changes_while_it_is_read_leaves_no_snapshot(table, config_of, monkeypatch, tmp_path):
    def changing(*a):
        found = scan(*a)
        edited_in_place(table)
        return found

    monkeypatch.setattr(scan_snapshot, "scan", changing)
    scan_once(*arguments(config_of()))
    assert not list(tmp_path.glob("cache/scans/*.sealed"))


def test_a_table_with_faults_is_refused_at_every_start_with_the_same_words(table, config_of):
    scan_once(*arguments(config_of()))
    table.write_text(ROWS.replace("angry,bob", "angry,"), encoding="utf-8")
    said = []
    for _ in range(2):
        with pytest.raises(DataError) as caught:
            scan_once(*arguments(config_of()))
        said.append(str(caught.value))
    assert said[0] == said[1] and "own.csv:4: no speaker" in said[0]


def test_changed_audio_is_decoded_again_and_the_table_is_not_parsed(table, config_of, scans):
    before = load_dataset(config_of(), progress=False)
    with (table.parent / "a.wav").open("r+b") as file:  # the same file, with another sample
        file.seek(-2, os.SEEK_END)
        file.write(b"\x39\x30")
    after = load_dataset(config_of(), progress=False)
    assert len(scans) == 1
    changed = [one != two for one, two in zip(before.digests, after.digests, strict=True)]
    paths = [clip.path.name for clip in after.utterances]
    assert [name for name, is_new in zip(paths, changed, strict=True) if is_new] == ["a.wav"]
    assert after.audio_cache.decoded == 1


def test_keys_of_a_snapshot_are_those_that_the_audio_cache_computes(config_of):
    for _ in range(2):
        clips = scan_once(*arguments(config_of())).utterances
        assert clips.audio_keys.tolist() == audio_keys([clip.segment for clip in clips]).tolist()


def test_files_that_are_found_by_name_are_searched_again_when_a_folder_has_others(table, config_of, scans):
    inner = table.parent / "deep" / "er"
    inner.mkdir(parents=True)
    os.replace(table.parent / "a.wav", inner / "a.wav")
    config = config_of(audio_root=str(table.parent))
    first, second = scan_once(*arguments(config)), scan_once(*arguments(config))
    assert len(scans) == 1 and same(first, second)
    assert inner / "a.wav" in [clip.path for clip in second.utterances]
    shutil.copy(inner / "a.wav", table.parent / "deep" / "a.wav")
    with pytest.raises(DataError, match="found 2 times"):
        scan_once(*arguments(config))


def test_a_folder_of_data_corpora_that_is_gone_is_refused_as_on_a_first_start(table, config_of):
    named = table.parent / "named"
    named.mkdir()
    config = config_of(corpora={str(named): "ravdess"})
    scan_once(*arguments(config))
    named.rmdir()
    with pytest.raises(ConfigError, match="no such folder"):
        scan_once(*arguments(config))


def a_folder_of_emotions(root):
    touch(root, [f"speaker_{n}/{word}/{n}.wav" for n in (1, 2) for word in ("angry", "sad")])
    touch(root, ["speaker_1/notes.mp3", "speaker_1/angry/._1.wav"])
    return root


def a_corpus_by_name(root):
    return touch(root, [*ravdess([1, 2]), *inside("copy", ravdess([1])), "holiday.wav"])


def a_corpus_with_label_files(root):
    return TREES["msppodcast"].build(root)


def a_label_file(root):
    return a_corpus_with_label_files(root) / "Labels" / "labels_consensus.csv"


def a_database(root):
    touch(root, ["wav/a.wav", "wav/b.wav", "wav/unlisted.wav"])
    header = {"name": "mine", "schemes": {"emotion": {}}, "tables": {"all": {"columns": {"emotion": {}}}}}
    (root / "db.yaml").write_text(json.dumps(header))
    (root / "db.all.csv").write_text("file,emotion\nwav/a.wav,anger\nwav/b.wav,joy\n")
    return root


def an_audio_folder(root):
    touch(root, ["train/a.wav", "test/b.wav", "test/unlisted.wav"])
    for part, name, word in (("train", "a", "sad"), ("test", "b", "happy")):
        (root / part / "metadata.csv").write_text(f"file_name,emotion\n{name}.wav,{word}\n")
    return root


def a_parquet_table(root, emotions=("sad", "happy", "sad")):
    touch(root, ["a.wav", "b.wav"])
    columns = {"path": ["a.wav", "b.wav", "gone.wav"], "emotion": emotions, "speaker": ["x", "y", "x"]}
    pyarrow.parquet.write_table(pyarrow.table(columns), root / "own.parquet")
    return root / "own.parquet"


def a_dataset_saved_to_disk(root, numbers=(0, 1, 2)):
    shutil.rmtree(root, ignore_errors=True)
    save_to_disk(root, numbers)
    return root


KINDS = [
    a_folder_of_emotions,
    a_corpus_by_name,
    a_corpus_with_label_files,
    a_label_file,
    a_database,
    an_audio_folder,
    a_parquet_table,
    a_dataset_saved_to_disk,
]


def audio_of(found) -> list:
    return [(clip.segment, clip.emotion, clip.votes, clip.dimensions) for clip in found.utterances]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_corpus_is_scanned_once_and_again_after_any_change(kind, tmp_path, config_of, scans):
    root = tmp_path / "data"
    config = config_of(root=str(kind(root)))
    first = scan_once(*arguments(config))
    assert same(first, scan(*arguments(config)))
    assert same(scan_once(*arguments(config)), first) and len(scans) == 1
    # A clip disappears; a file of the same name takes its place; a table or a label file is edited.
    (clip, *_), before = [clip.path for clip in first.utterances], len(scans)
    content = clip.read_bytes()
    clip.unlink()
    after = scan_once(*arguments(config))
    assert same(after, scan(*arguments(config))) and len(scans) == before + 1
    if not clip.exists():  # audio from tables is there again
        assert len(after.utterances) <= len(first.utterances) and audio_of(after) != audio_of(first)
        clip.write_bytes(content)
    assert same(scan_once(*arguments(config)), first)
    edited = 0
    for path in sorted(root.rglob("*")):
        if path.suffix in (".csv", ".yaml"):
            number, text = len(scans), path.read_bytes()
            path.write_bytes(text + b"\n")
            scan_once(*arguments(config))
            assert len(scans) == number + 1, path
            edited += 1
            path.write_bytes(text)
            assert same(scan_once(*arguments(config)), first)
    assert edited or kind in (a_folder_of_emotions, a_corpus_by_name, a_parquet_table, a_dataset_saved_to_disk)


@pytest.mark.parametrize(
    ("kind", "other"), [(a_parquet_table, ("sad", "angry", "sad")), (a_dataset_saved_to_disk, (0, 1, 3))]
)
def test_parquet_and_arrow_with_other_rows_are_read_again(kind, other, tmp_path, config_of, scans):
    config = config_of(root=str(kind(tmp_path / "data")))
    first = scan_once(*arguments(config))
    kind(tmp_path / "data", other)
    after = scan_once(*arguments(config))
    assert len(scans) == 2 and audio_of(after) != audio_of(first)
    assert same(after, scan(*arguments(config)))


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems do not allow such names")
def test_names_that_are_no_text_are_stored_as_well(tmp_path, config_of, scans):
    root = a_folder_of_emotions(tmp_path / "data")
    os.rename(root / "speaker_2" / "sad" / "2.wav", os.fsencode(root / "speaker_2" / "sad") + b"/\xff\xe9.wav")
    config = config_of(root=str(root))
    first, second = scan_once(*arguments(config)), scan_once(*arguments(config))
    assert same(first, second) and len(scans) == 1
    assert b"\xff\xe9.wav" in [os.fsencode(clip.path.name) for clip in second.utterances]


def test_a_clip_that_is_moved_to_the_folder_of_another_emotion_has_that_emotion(tmp_path, config_of, scans):
    root = a_folder_of_emotions(tmp_path / "data")
    config = config_of(root=str(root))
    scan_once(*arguments(config))
    (root / "speaker_1" / "angry" / "1.wav").rename(root / "speaker_1" / "sad" / "other.wav")
    found = {clip.path.name: clip.emotion for clip in scan_once(*arguments(config)).utterances}
    assert found["other.wav"] == "sad" and len(scans) == 2


def test_a_table_of_votes_that_appears_beside_the_folder_is_read(tmp_path, config_of):
    root = touch(tmp_path / "crema" / "AudioWAV", ["1001_IEO_HAP_HI.wav"])
    config = config_of(root=str(root))
    assert not scan_once(*arguments(config)).utterances[0].votes
    (root.parent / "processedResults").mkdir()
    header = '"","A","D","F","H","N","S","fileName","numResponses"\n'
    table = header + '"100004",2,0,0,6,2,0,"1001_IEO_HAP_HI",10\n'
    (root.parent / "processedResults" / "tabulatedVotes.csv").write_text(table)
    assert scan_once(*arguments(config)).utterances[0].votes == (("angry", 2), ("happy", 6), ("neutral", 2))


def test_touched_audio_of_a_folder_has_another_key_and_the_folder_is_not_scanned(tmp_path, config_of, scans):
    root = a_folder_of_emotions(tmp_path / "data")
    config = config_of(root=str(root))
    before = scan_once(*arguments(config)).utterances
    os.utime(root / "speaker_2" / "sad" / "2.wav", ns=(1, 1))
    after = scan_once(*arguments(config)).utterances
    changed = (before.audio_keys != after.audio_keys).tolist()
    assert [clip.path.parts[-3:] for clip, new in zip(after, changed, strict=True) if new] == [
        ("speaker_2", "sad", "2.wav")
    ]
    assert len(scans) == 1 and after.audio_keys.tolist() == audio_keys([clip.segment for clip in after]).tolist()


def test_audio_of_a_table_is_written_again_where_the_cache_has_another(tmp_path, config_of, scans):
    config = config_of(root=str(a_dataset_saved_to_disk(tmp_path / "data")))
    path = scan_once(*arguments(config)).utterances[0].path
    content = path.read_bytes()
    path.write_bytes(content[:-2])
    scan_once(*arguments(config))
    assert len(scans) == 2 and path.read_bytes() == content


def test_a_folder_in_which_names_become_ambiguous_is_refused_at_every_start(tmp_path, config_of):
    root = touch(tmp_path / "data", ["ESD/0001/Angry/0001_000351.wav"])
    config = config_of(root=str(root), corpora=("ravdess", "esd"))
    scan_once(*arguments(config))
    shutil.rmtree(root)
    touch(root, ["holiday.wav"])
    said = []
    for _ in range(2):
        with pytest.raises(DataError) as caught:
            scan_once(*arguments(config))
        said.append(str(caught.value))
    assert said[0] == said[1] and "no known clip among 1 audio files" in said[0]


def test_two_tables_are_one_snapshot(table, config_of, scans):
    other = table.with_name("more.csv")
    soundfile.write(table.parent / "f.wav", np.full(800, 0.1), RATE)
    other.write_text("path,emotion,speaker,corpus\nf.wav,sad,zoe,more\n")
    config = config_of(root=(str(table), str(other)))
    first, second = scan_once(*arguments(config)), scan_once(*arguments(config))
    assert len(scans) == 1 and same(first, second) and len(first.utterances) == 5
    other.write_text("path,emotion,speaker,corpus\nf.wav,sad,zoo,more\n")
    assert "more/zoo" in {clip.speaker_id for clip in scan_once(*arguments(config)).utterances}
