"""Fifty leaks planted in files on disk, one at a time: each raises with the offenders, and the clean corpus passes."""

import csv
import io
import shutil
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serx.config.loader import load_config
from serx.data.dataset import load_dataset, split_dataset
from serx.errors import LeakError
from tests.conftest import RATE

PARTS = {"01": "train", "02": "train", "03": "valid", "04": "valid", "05": "test", "06": "test"}
EMOTIONS = ("01", "03", "05")  # codes of the emotions of the tiny corpus


def clip(actor: str, emotion: str = "03", song: bool = False) -> Path:
    return Path(f"Actor_{actor}") / f"03-{'02' if song else '01'}-{emotion}-01-01-01-{actor}.wav"


def data_of(root: Path, cache: Path, *overrides: str):
    (cache / "c.yaml").write_text(f"data: {{root: {root}, cache: {cache}}}\nmodel: {{kind: mlp}}\n")
    speakers = ["data.protocol=speakers", "data.test_speakers=[5, 6]", "data.valid_speakers=[3, 4]"]
    return load_config(
        cache / "c.yaml", [*([] if "data.protocol=manifest" in overrides else speakers), *overrides]
    ).data


def check(config) -> None:
    split_dataset(load_dataset(config, progress=False), config, progress=False)


@pytest.fixture
def clean(tiny_root, tmp_path) -> Path:
    """Eighteen clips: six actors, three emotions."""
    for actor in PARTS:
        for emotion in EMOTIONS:
            target = tmp_path / "clean" / clip(actor, emotion)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tiny_root / clip(actor, emotion), target)
    return tmp_path / "clean"


def encoded(samples: np.ndarray, suffix: str, subtype: str, rate: int = RATE) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, samples, rate, format=suffix, subtype=subtype)
    return content.getvalue()


Disguise = Callable[[bytes, np.ndarray], tuple[str, bytes]]
DISGUISES: dict[str, Disguise] = {
    "the same bytes": lambda content, _: ("wav", content),
    "flac": lambda _, x: ("flac", encoded(x, "FLAC", "PCM_16")),
    "ogg": lambda _, x: ("ogg", encoded(x, "OGG", "VORBIS")),
    "mp3": lambda _, x: ("mp3", encoded(x, "MP3", "MPEG_LAYER_III")),
    "stereo, 24 bits": lambda _, x: ("wav", encoded(np.stack([x, x], 1), "WAV", "PCM_24")),
    "20 dB softer": lambda _, x: ("wav", encoded(0.1 * x, "WAV", "PCM_16")),
    "6 dB softer": lambda _, x: ("wav", encoded(0.5 * x, "WAV", "PCM_16")),
    "upside down": lambda _, x: ("wav", encoded(-x, "WAV", "PCM_16")),
    "a little louder": lambda _, x: ("wav", encoded(1.5 * x, "WAV", "FLOAT")),
}
PAIRS = [("01", "05"), ("02", "03"), ("04", "06"), ("06", "01")]  # copied from, copied to


def plant_copies(root: Path, config) -> int:
    """Replaces a clip of one actor by a copy of another actor's, in nine encodings."""
    planted = 0
    for disguise in DISGUISES.values():
        for source_actor, target_actor in PAIRS:
            source, target = root / clip(source_actor), root / clip(target_actor)
            original = target.read_bytes()
            suffix, content = disguise(source.read_bytes(), soundfile.read(source, dtype="float32")[0])
            target.unlink()
            copy = target.with_suffix(f".{suffix}")
            copy.write_bytes(content)
            with pytest.raises(LeakError) as caught:
                check(config)
            assert source.name in str(caught.value) and copy.name in str(caught.value)
            copy.unlink()
            target.write_bytes(original)
            planted += 1
    return planted


def plant_spellings(root: Path, folder: Path, cache: Path) -> int:
    """Manifests that list one actor under two spellings, or an actor's songs, in two parts."""
    planted = 0
    spellings = ("7", "07", "Actor_07", " actor 7 ")
    for (first, second), song in [*((pair, False) for pair in permutations(spellings, 2)), (("7", "07"), True),
                               (("07", "Actor_07"), True)]:  # fmt: skip
        names = {"01": first, "05": second}
        rows = [
            [root / clip(actor, emotion), ["neutral", "happy", "angry"][i], names.get(actor, actor), part,
             "song" if song and actor == "05" else "speech"]
            for actor, part in PARTS.items()
            for i, emotion in enumerate(EMOTIONS)
        ]  # fmt: skip
        table = folder / "own.csv"
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([["path", "emotion", "speaker", "split", "style"], *rows])
        with pytest.raises(LeakError, match=r"own/07 .*train and test"):
            check(data_of(table, cache, "data.protocol=manifest", "data.styles=[speech, song]"))
        planted += 1
    return planted


@pytest.mark.slow
def test_each_of_fifty_planted_leaks_raises_and_the_clean_corpus_passes(clean, tmp_path, record_figure):
    cache = tmp_path / "cache"
    cache.mkdir()
    check(data_of(clean, cache))
    planted = plant_copies(clean, data_of(clean, cache)) + plant_spellings(clean, tmp_path, cache)
    check(data_of(clean, cache))
    assert planted == 50
    record_figure(f"{planted} planted leaks: 0 passed; 0 false alarms")


def test_a_copied_folder_raises_under_another_actor_and_counts_once_under_the_same_one(clean, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    shutil.copytree(clean / "Actor_01", clean / "again" / "Actor_01")
    check(data_of(clean, cache))
    assert len(load_dataset(data_of(clean, cache), progress=False).utterances) == 18
    (clean / "again" / "Actor_01").rename(clean / "again" / "Actor_21")
    for path in (clean / "again" / "Actor_21").iterdir():
        path.rename(path.with_name(path.name.replace("-01.wav", "-21.wav")))
    with pytest.raises(LeakError, match="Actor_21"):
        check(data_of(clean, cache, "data.test_speakers=[21]"))


def test_the_known_irregularities_of_ravdess_pass(clean, tmp_path):
    """One clip occurs twice under two names, and some files are stereo."""
    cache = tmp_path / "cache"
    cache.mkdir()
    first = clean / clip("05", "03")
    shutil.copy(first, first.with_name("03-01-03-01-02-02-05.wav"))
    stereo = clean / clip("01", "05")
    samples, _ = soundfile.read(stereo, dtype="float32")
    before = load_dataset(data_of(clean, cache), progress=False)
    soundfile.write(stereo, np.stack([samples, samples], 1), RATE, subtype="PCM_16")
    check(data_of(clean, cache))
    after = load_dataset(data_of(clean, cache), progress=False)
    assert len(after.utterances) == 19
    assert after.digests == before.digests  # the mean of two equal channels equals each of them


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 90000\n"


def test_irregular_files_of_real_corpora_are_used_or_skipped_with_their_name(tiny_root, tmp_path):
    """CREMA-D's clip without audio and its misspelled one, git-lfs pointers, macOS side files, RAVDESS's songs."""
    root, cache = tmp_path / "irregular", tmp_path / "cache"
    root.mkdir(), cache.mkdir()
    good = (tiny_root / clip("01")).read_bytes()
    files = {
        "1076_MTI_SAD_XX.wav": encoded(np.zeros(0, np.float32), "WAV", "PCM_16"),
        "1040_ITH_SAD_X.wav": good,
        "1001_DFA_ANG_XX.wav": LFS_POINTER,
        "._03-01-03-01-01-01-07.wav": bytes(4096),
        "03-02-03-01-01-01-07.wav": good,
        "03-01-05-01-01-01-08.wav": good,
    }
    for name, content in files.items():
        (root / name).write_bytes(content)
    dataset = load_dataset(data_of(root, cache), progress=False)
    assert {u.path.name for u in dataset.utterances} == {"1040_ITH_SAD_X.wav", "03-01-05-01-01-01-08.wav"}
    notes = {note.split(": ")[0].removeprefix("skipped "): note for note in dataset.notes}
    assert "1076_MTI_SAD_XX.wav" in notes["(empty)"]
    assert "1001_DFA_ANG_XX.wav" in notes["(not_audio)"]
    assert "03-02-03-01-01-01-07.wav" in notes["(style)"]
    assert "._03-01-03-01-01-01-07.wav" in notes["(hidden)"]
