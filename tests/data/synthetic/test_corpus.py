"""The synthetic corpus on disk: the same bytes for the same arguments, and unseen speakers are harder."""

import json
import subprocess
import sys
import wave
from collections import Counter
from hashlib import sha256
from pathlib import Path

import librosa
import numpy as np
import pytest
from sklearn.metrics import recall_score
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from serx.data.scanning.scanner import scan
from serx.data.synthetic import corpus as synthetic
from serx.data.synthetic import speaking_styles
from serx.data.synthetic.corpus import STAMP, Take, holds_corpus, list_takes, make_corpus
from serx.data.synthetic.speaking_styles import EMOTIONS, EmotionStyle, synthesize_clip, synthesize_speaker
from serx.errors import ConfigError, DataError, DiskError

SCRIPT = Path(__file__).parents[3] / "scripts" / "synthesize.py"


def hashes(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*.wav"))}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two speakers, two clips of each emotion."""
    return make_corpus(tmp_path_factory.mktemp("corpus"), 2, 2, progress=False)


def test_the_bytes_depend_on_the_seed_only(corpus, tmp_path):
    again, other = make_corpus(tmp_path / "a", 2, 2, progress=False), make_corpus(tmp_path / "b", 2, 2, 1, False)
    assert hashes(again) == hashes(corpus)
    assert not set(hashes(other).values()) & set(hashes(corpus).values())


def test_a_smaller_corpus_is_a_subset_of_a_larger_one(corpus, tmp_path):
    smaller = make_corpus(tmp_path / "smaller", 1, 1, progress=False)
    assert hashes(smaller).items() < hashes(corpus).items()
    assert set(list_takes(3, 2)) < set(list_takes(24, 4)) < set(list_takes(24, 8))


def test_the_samples_are_those_of_the_current_version():
    # If the samples were changed on purpose, increase VERSION and write the new digest here.
    digest = sha256()
    for emotion in EMOTIONS:
        samples = synthesize_clip(synthesize_speaker(7, 0), emotion, emotion != "neutral", 2, 1, 0)
        digest.update((samples * 32768).astype("<i2").tobytes())
    assert (synthetic.VERSION, digest.hexdigest()[:16]) == (1, "410aa65bbbb82672")


def test_the_default_corpus_has_768_clips_and_the_largest_as_many_as_ravdess():
    takes = list_takes(24, 4)
    assert len({take.name for take in takes}) == len(takes) == 768
    assert set(Counter((take.speaker, take.emotion) for take in takes).values()) == {4}
    assert len(list_takes(24, 8)) == 1440
    assert Counter(take.emotion for take in list_takes(1, 8)) == dict.fromkeys(EMOTIONS, 8) | {"neutral": 4}


def test_file_names_are_ravdess_s_and_a_scan_reads_them_back(corpus):
    assert Take(7, "angry", True, 1, 2).name == "Actor_07/03-01-05-02-01-02-07.wav"
    found = scan(corpus)
    assert found.skipped == ()
    read = {(int(u.speaker), u.sex, u.emotion, u.intensity) for u in found.utterances}
    takes = list_takes(2, 2)
    made = {
        (t.speaker, synthesize_speaker(t.speaker, 0).sex, t.emotion, "strong" if t.strong else "normal") for t in takes
    }
    assert (len(found.utterances), read) == (len(takes), made)


def test_files_are_16_khz_mono_int16_and_hold_the_synthesized_clip(corpus):
    take = Take(2, "sad", False, 2, 1)
    with wave.open(str(corpus / take.name)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    np.testing.assert_array_equal(samples / 32768, synthesize_clip(synthesize_speaker(2, 0), "sad", False, 2, 1, 0))


def test_a_complete_corpus_is_not_written_again(corpus):
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*.*")}
    assert holds_corpus(corpus, 2, 2)
    make_corpus(corpus, 2, 2, progress=False)
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*.*")} == before
    assert not holds_corpus(corpus, 2, 1)


@pytest.mark.parametrize("damage", ["cut", "flip", "delete"])
def test_a_damaged_corpus_is_detected_and_written_again(tmp_path, damage):
    root = make_corpus(tmp_path / "corpus", 1, 1, progress=False)
    expected, path = hashes(root), root / list_takes(1, 1)[3].name
    content = path.read_bytes()
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(
            content[:-100] if damage == "cut" else content[:500] + bytes([content[500] ^ 1]) + content[501:]
        )
    assert not holds_corpus(root, 1, 1)
    make_corpus(root, 1, 1, progress=False)
    assert hashes(root) == expected


def test_an_interrupted_corpus_is_written_again(tmp_path, monkeypatch):
    write = synthetic._write_wave
    written: list[Path] = []

    def stop_after_three(path, samples):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        write(path, samples)

    monkeypatch.setattr(synthetic, "_write_wave", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        make_corpus(tmp_path / "corpus", 1, 1, progress=False)
    assert not holds_corpus(tmp_path / "corpus", 1, 1)
    monkeypatch.undo()
    assert len(hashes(make_corpus(tmp_path / "corpus", 1, 1, progress=False))) == len(EMOTIONS)


@pytest.mark.parametrize("content", ["notes.txt", STAMP])
def test_a_folder_with_other_files_is_not_touched(tmp_path, content):
    (tmp_path / content).write_text(json.dumps({"version": 1, "speakers": 3}))
    with pytest.raises(DataError, match=r"choose another folder, or empty this one$"):
        make_corpus(tmp_path, 1, 1, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == [content]


def test_corpora_of_different_settings_are_not_mixed(corpus):
    before = hashes(corpus)
    with pytest.raises(DataError, match="something else"):
        make_corpus(corpus, 2, 2, seed=5, progress=False)
    assert hashes(corpus) == before


@pytest.mark.parametrize("wrong", [(0, 4, 0), (25, 4, 0), (24, 0, 0), (24, 9, 0), (24, 4, -1)])
def test_arguments_out_of_range_raise_before_anything_is_written(tmp_path, wrong):
    speakers, clips, seed = wrong
    with pytest.raises(ConfigError, match="1 to 24 speakers, 1 to 8 clips"):
        make_corpus(tmp_path / "corpus", speakers, clips, seed, progress=False)
    assert not (tmp_path / "corpus").exists()


def test_a_full_disk_raises_with_path_and_free_space(tmp_path, monkeypatch):
    def fail(path, samples):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(synthetic, "_write_wave", fail)
    with pytest.raises(DiskError, match=r"cannot write .*-01\.wav: No space left .* free\); free some space$"):
        make_corpus(tmp_path / "corpus", 1, 1, progress=False)


def statistics(take: Take) -> np.ndarray:
    clip = take.samples(0)
    mfcc = librosa.feature.mfcc(y=clip, sr=16000, n_mfcc=20, n_mels=40, n_fft=512, hop_length=320)
    f0 = np.log2(librosa.yin(clip, fmin=60, fmax=650, sr=16000, frame_length=1024, hop_length=320))
    return np.hstack([mfcc.mean(axis=1), mfcc.std(axis=1), np.percentile(f0, [10, 50, 90]), len(clip) / 16000])


def measure_uar() -> tuple[float, float]:
    """UAR of a support vector machine on 8 speakers: in a random split, and split by speaker."""
    takes = list_takes(8, 4)
    x, y = np.stack([statistics(take) for take in takes]), [take.emotion for take in takes]
    model = make_pipeline(StandardScaler(), SVC(C=10))
    random_split = cross_val_predict(model, x, y, cv=StratifiedKFold(4, shuffle=True, random_state=0))
    by_speaker = cross_val_predict(model, x, y, cv=GroupKFold(4), groups=[take.speaker for take in takes])
    return recall_score(y, random_split, average="macro"), recall_score(y, by_speaker, average="macro")


def test_unseen_speakers_are_harder_because_of_the_speaker_deviations(monkeypatch):
    random_split, by_speaker = measure_uar()
    assert by_speaker > 2 / 8  # twice chance
    assert random_split > by_speaker + 0.2
    monkeypatch.setattr(speaking_styles, "SPEAKER_SD", EmotionStyle())
    assert measure_uar()[1] > by_speaker + 0.1


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)


def test_the_command_writes_the_corpus_once_and_prints_its_folder(tmp_path):
    arguments = ("--root", str(tmp_path / "demo"), "--speakers", "1", "--clips", "1", "--seed", "3")
    first, second = run_script(*arguments), run_script(*arguments)
    assert first.returncode == second.returncode == 0
    assert first.stdout == f"8 clips of 1 synthetic speakers are in {tmp_path / 'demo'}\n"
    assert second.stdout == f"{tmp_path / 'demo'} already holds this corpus\n"
    assert second.stderr == ""


def test_the_command_exits_with_the_code_of_the_error_and_one_line(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    result = run_script("--root", str(tmp_path))
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (DataError.exit_code, "", 1)
    assert str(tmp_path) in result.stderr
    assert run_script("--speakers", "25").returncode == ConfigError.exit_code
