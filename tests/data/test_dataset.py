"""Everything before the first batch, together: clips, targets, notes, splits, and errors."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from serx.data.copies import search as copy_search
from serx.data.dataset import load_dataset, split_dataset
from serx.errors import DataError, LeakError
from serx.files import seal, unseal
from tests.conftest import RATE
from tests.data.cache.test_audio_cache import pickled


@pytest.fixture
def root(tiny_root, tmp_path):
    return shutil.copytree(tiny_root, tmp_path / "corpus")


@pytest.fixture
def data_of(tiny_config, root):
    return lambda *overrides: tiny_config(f"data.root={root}", *overrides).data


def test_utterances_targets_and_audio_have_the_same_order(data_of):
    dataset = load_dataset(data_of(), progress=False)
    assert dataset.labels == ("neutral", "happy", "angry")
    assert len(dataset.utterances) == len(dataset.targets) == len(dataset.audio_cache.lengths) == 72
    for i in (0, 31, 71):
        samples, _ = soundfile.read(dataset.utterances[i].path, dtype="int16")
        assert dataset.audio_cache.lengths[i] == len(samples)
        assert dataset.labels[dataset.targets[i]] == dataset.utterances[i].emotion


def test_a_duplicate_folder_is_skipped_and_counted(data_of, root):
    shutil.copytree(root / "Actor_01", root / "audio_speech" / "Actor_01")
    dataset = load_dataset(data_of(), progress=False)
    assert len(dataset.utterances) == 72
    assert any(note.startswith("skipped (duplicate): ") and "and 7 more" in note for note in dataset.notes)


def test_broken_files_are_listed_and_the_others_are_used(data_of, root):
    broken = sorted((root / "Actor_02").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:500])
    dataset = load_dataset(data_of(), progress=False)
    assert len(dataset.utterances) == 71
    assert any("truncated" in note and broken.name in note for note in dataset.notes)
    assert all(u.path != broken for u in dataset.utterances)


def test_an_error_without_any_readable_file_lists_the_reasons(data_of, root):
    for path in root.rglob("*.wav"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 72 files"):
        load_dataset(data_of(), progress=False)


def test_one_speaker_name_in_two_manifests_without_a_corpus_raises(data_of, root):
    def write(name: str, actor: int, speaker: str, corpus: str = "") -> str:
        clip = root / f"{name}.wav"
        shutil.copy(sorted((root / f"Actor_{actor:02d}").iterdir())[0], clip)
        (root / name).write_text(f"path,emotion,speaker,corpus\n{clip},happy,{speaker},{corpus}\n")
        return str(root / name)

    monday, tuesday = write("monday.csv", 1, "Ann"), write("tuesday.csv", 2, "ann")
    both = data_of().model_copy(update={"root": (monday, tuesday)})
    with pytest.raises(DataError, match="one person or two.*monday/Ann and tuesday/ann.*column corpus"):
        load_dataset(both, progress=False)
    for corpus in ("lab", "monday"):  # declared as another person, then as the same one
        write("monday.csv", 1, "Ann", corpus), write("tuesday.csv", 2, "Ann", "monday")
        speaker_ids = {u.speaker_id for u in load_dataset(both, progress=False).utterances}
        assert speaker_ids == {f"{corpus}/Ann", "monday/Ann"}
    write("tuesday.csv", 2, "1")  # the number of another person in a published corpus
    joined = data_of().model_copy(update={"root": (str(root), tuesday)})
    assert {"ravdess/01", "tuesday/01"} <= {u.speaker_id for u in load_dataset(joined, progress=False).utterances}


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_a_root_that_cannot_be_a_folder_raises_one_line(name, data_of):
    with pytest.raises(DataError, match="check the spelling") as caught:
        load_dataset(data_of().model_copy(update={"root": name}), progress=False)
    assert "\n" not in str(caught.value)


def test_an_emotion_without_a_label_raises(data_of):
    with pytest.raises(DataError, match="angry"):
        load_dataset(data_of("data.labels=[neutral, happy]"), progress=False)
    kept = load_dataset(data_of("data.labels=[neutral, happy]", "data.label_map={angry: null}"), progress=False)
    assert len(kept.utterances) == 48
    assert any("24 x angry" in note for note in kept.notes)


def test_fingerprints_and_copies_of_the_leak_check_are_cached(data_of, monkeypatch):
    config = data_of()
    dataset = load_dataset(config, progress=False)
    split = split_dataset(dataset, config, progress=False)
    assert dataset.speaker_ids(split.test) == ["ravdess/05", "ravdess/06"]
    for step in ("fingerprints", "nominate", "copies_among"):
        monkeypatch.setattr(copy_search, step, lambda *a: pytest.fail("computed again"))
    assert split_dataset(dataset, config, progress=False) == split


@pytest.mark.parametrize("file", ["fingerprints", "copies"])
@pytest.mark.parametrize(
    "damage",
    ["objects", "nothing", "cut", "not finite", "of other audio", "pipe", "missing", "nested"],
)
def test_damaged_results_of_the_leak_check_are_computed_again_and_never_unpickled(damage, file, data_of):
    config = data_of()
    dataset = load_dataset(config, progress=False)
    split = split_dataset(dataset, config, progress=False)
    (copies,) = dataset.audio_cache.folder.glob("copies-*.sealed")
    (fingerprints,) = dataset.audio_cache.folder.glob("fingerprints-*.sealed")
    path = {"fingerprints": fingerprints, "copies": copies}[file]
    content = unseal(path)
    copies.unlink()  # otherwise no fingerprint is read
    path.unlink(missing_ok=True)
    if damage == "pipe":
        os.mkfifo(path)
    elif damage != "missing":
        wrong = {
            "objects": pickled(),
            "nothing": b"",
            "cut": content[:-2],
            "not finite": content[:-2] + b"\xff\xff",
            "of other audio": bytes(32) + bytes(len(content) - 32),
            "nested": b"[" * 100_000,
        }
        path.write_bytes(seal(wrong[damage]))
    assert split_dataset(dataset, config, progress=False) == split
    assert unseal(path) == content


@pytest.mark.parametrize("disguise", ["renamed", "softer", "ogg"])
def test_a_copy_of_a_training_clip_in_the_test_part_raises(disguise, data_of, root):
    source = root / "Actor_01" / "03-01-03-01-01-01-01.wav"
    samples, _ = soundfile.read(source)
    target = root / "Actor_05" / "03-01-03-01-01-01-05.wav"
    target.unlink()
    if disguise == "renamed":
        shutil.copy(source, target)
    elif disguise == "softer":
        soundfile.write(target, samples * 0.3, RATE)
    else:
        soundfile.write(target.with_suffix(".ogg"), samples, RATE)
    config = data_of()
    with pytest.raises(LeakError) as caught:
        split_dataset(load_dataset(config, progress=False), config, progress=False)
    assert source.name in str(caught.value) and target.stem in str(caught.value)


@pytest.fixture
def two_corpora(root, tess_root, data_of):
    """The tiny corpus (neutral, happy, angry) and one named as TESS (happy, angry, sad)."""
    return lambda *overrides: data_of(f"data.root=[{root}, {tess_root}]", "data.protocol=cross_corpus", *overrides)


def test_shared_labels_drop_other_emotions_with_a_note(two_corpora):
    dataset = load_dataset(two_corpora("data.labels=shared"), progress=False)
    assert dataset.labels == ("happy", "angry")
    assert {u.emotion for u in dataset.utterances} == {"happy", "angry"}
    assert "dropped by data.labels: shared: 24 x neutral" in dataset.notes
    assert "dropped by data.labels: shared: 2 x sad" in dataset.notes


def test_labels_of_a_checkpoint_override_shared_labels(two_corpora):
    dataset = load_dataset(two_corpora("data.labels=shared"), ("angry", "neutral"), progress=False)
    assert dataset.labels == ("angry", "neutral")
    assert {u.emotion for u in dataset.utterances} == {"angry", "neutral"}


def test_each_fold_of_cross_corpus_tests_on_one_corpus(two_corpora):
    for fold, (test_corpus, valid_corpus) in enumerate([("ravdess", "tess"), ("tess", "ravdess")]):
        config = two_corpora("data.labels=shared", f"data.fold={fold}")
        dataset = load_dataset(config, progress=False)
        split = split_dataset(dataset, config, progress=False)
        assert {dataset.utterances[i].corpus for i in split.test} == {test_corpus}
        assert {dataset.utterances[i].corpus for i in (*split.train, *split.valid)} == {valid_corpus}
        # TESS has two speakers, too few for a validation speaker
        assert split.validation_independent == (valid_corpus == "ravdess")


@pytest.mark.speech
def test_real_corpora_split_across_corpora_by_their_shared_emotions(speech_root, data_of):
    roots = f"data.root=[{speech_root}/ravdess16k, {speech_root}/tess16k]"
    config = data_of(roots, "data.protocol=cross_corpus", "data.labels=shared", "data.fold=1")
    dataset = load_dataset(config, progress=False)
    assert dataset.labels == ("neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised")
    assert any("160 x calm" in note for note in dataset.notes)
    split = split_dataset(dataset, config, progress=False)
    assert {dataset.utterances[i].corpus for i in split.test} == {"tess"} and len(split.test) == 1400


@pytest.mark.speech
def test_real_corpora_join_and_split_without_a_false_alarm(speech_root, data_of):
    config = data_of(f"data.root=[{speech_root}/ravdess16k, {speech_root}/tess16k]", "data.protocol=luna5")
    dataset = load_dataset(config, progress=False)
    assert len(dataset.utterances) == 2600
    split = split_dataset(dataset, config, progress=False)
    assert len(split.test) == 300 and len(split.valid) == 120
    assert {dataset.utterances[i].corpus for i in split.test} == {"ravdess"}


@pytest.fixture
def doubled(root):
    """The tiny corpus with one recording of speaker 01, filtered and softer, under speaker 05 as well."""
    source = root / "Actor_01" / "03-01-03-01-01-01-01.wav"
    target = root / "Actor_05" / "03-01-03-01-01-01-05.wav"
    samples, _ = soundfile.read(source)
    soundfile.write(target, 0.3 * np.append(0, np.diff(samples)) + 0.01, RATE)
    return source, target


def test_a_corpus_with_a_recording_under_two_speakers_is_refused_and_the_error_names_the_setting(doubled, data_of):
    config = data_of()
    with pytest.raises(LeakError, match="data.duplicates=drop_one") as caught:
        split_dataset(load_dataset(config, progress=False), config, progress=False)
    assert all(path.name in str(caught.value) for path in doubled)


@pytest.mark.parametrize(("setting", "left_out"), [("drop_one", [1]), ("drop_all", [0, 1])])
def test_duplicates_are_left_out_with_a_note_and_the_rest_is_split(setting, left_out, doubled, data_of):
    whole = load_dataset(data_of(), progress=False)
    config = data_of(f"data.duplicates={setting}")
    dataset = load_dataset(config, progress=False)
    dropped = [str(doubled[i]) for i in left_out]
    assert list(dataset.duplicates) == dropped
    kept = [i for i, u in enumerate(whole.utterances) if str(u.path) not in dropped]
    assert dataset.utterances == tuple(whole.utterances[i] for i in kept)
    assert dataset.targets.tolist() == whole.targets[kept].tolist()
    assert dataset.digests == tuple(whole.digests[i] for i in kept)
    (note,) = (note for note in dataset.notes if note.startswith(f"left out by data.duplicates: {setting} ("))
    assert all(path in note for path in dropped)
    split_dataset(dataset, config, progress=False)


def test_without_duplicates_the_setting_changes_nothing(data_of):
    whole, dataset = (load_dataset(data_of(*o), progress=False) for o in ((), ("data.duplicates=drop_all",)))
    assert dataset.utterances == whole.utterances and dataset.notes == whole.notes and dataset.duplicates == ()


def test_silence_under_two_speakers_is_left_out_too(root, data_of):
    for actor in ("01", "05"):
        soundfile.write(root / f"Actor_{actor}" / f"03-01-03-01-01-01-{actor}.wav", quiet_click(), RATE)
    dataset = load_dataset(data_of("data.duplicates=drop_one"), progress=False)
    assert [Path(path).name for path in dataset.duplicates] == ["03-01-03-01-01-01-05.wav"]


def quiet_click() -> np.ndarray:
    """Silence with one sample of sound, which is too little for a fingerprint."""
    samples = np.zeros(RATE)
    samples[8_000] = 0.01
    return samples


def test_fingerprints_are_computed_of_new_clips_only(data_of, monkeypatch):
    config = data_of()
    dataset = load_dataset(config, progress=False)
    monkeypatch.setattr(copy_search, "StreamedAudio", (counting := _counting(copy_search.StreamedAudio)))
    some = replace(dataset.audio_cache, **_part(dataset.audio_cache, range(10)))
    first = copy_search.segments_of(some, RATE, False)
    assert sorted(counting.read) == list(range(10))
    counting.read.clear()
    everything = copy_search.segments_of(dataset.audio_cache, RATE, False)
    assert sorted(counting.read) == list(range(10, len(dataset.digests)))
    counting.read.clear()
    again = copy_search.segments_of(dataset.audio_cache, RATE, False)
    assert not counting.read
    for one, two, three in zip(first, everything[:10], again[:10], strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)
    assert all(torch.equal(one, two) for one, two in zip(everything, again, strict=True))


def _part(audio_cache, clips):
    chosen = list(clips)
    fields = {name: getattr(audio_cache, name)[chosen] for name in ("shard", "starts", "lengths", "scales")}
    return {**fields, "digests": tuple(audio_cache.digests[i] for i in chosen)}


def _counting(source_class):
    class Counting(source_class):
        def host_batch(self, clips):
            self.read.extend(np.asarray(clips).tolist())
            return super().host_batch(clips)

    Counting.read = []
    return Counting
