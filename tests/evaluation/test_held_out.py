"""Evaluation chooses the held-out speakers by itself, and refuses training speakers and copies of training clips."""

import shutil

import numpy as np
import pytest
import soundfile
import torch

from serx.errors import DataError, LeakError
from serx.evaluation import evaluate
from serx.evaluation.report import report_head, report_tables
from serx.terminal import as_text
from serx.training.run_folder import BEST, LAST
from tests.conftest import RATE, speechlike

CPU = torch.device("cpu")


def speaker_ids(result) -> set[str]:
    return set(result.predictions.speaker_ids)


def test_by_default_the_test_speakers_of_the_protocol_are_evaluated(trained):
    result = evaluate(trained("train.epochs=1"), device=CPU, progress=False)
    assert speaker_ids(result) == {"ravdess/05", "ravdess/06"}
    assert len(result.predictions.paths) == 24
    assert "speaker-independent" in result.protocol
    np.testing.assert_allclose(result.predictions.probabilities.sum(1), 1, atol=1e-6)


def test_validation_speakers_are_named_in_the_protocol(trained):
    result = evaluate(trained("train.epochs=1"), part="valid", device=CPU, progress=False)
    assert speaker_ids(result) == {"ravdess/03", "ravdess/04"}
    assert "VALIDATION" in result.protocol


@pytest.mark.parametrize(
    ("settings", "name", "use"),
    [
        ((), BEST, "chose the epoch and fitted the temperature"),
        ((), LAST, "chose nothing"),
        (("train.select=last",), BEST, "fitted the temperature"),
        (("train.epochs=1",), BEST, "fitted the temperature"),
        (("train.patience=2",), LAST, "stopped the training"),
    ],
)
def test_the_stamp_says_what_validation_clips_did_for_the_checkpoint(settings, name, use, trained):
    path = trained(*settings).with_name(name)
    result = evaluate(path, part="valid", device=CPU, progress=False)
    assert result.protocol.endswith(f"; these VALIDATION clips {use}")
    result = evaluate(path, part="all", device=CPU, allow_seen=True, progress=False)
    assert f"24 VALIDATION clips among them {use}; CONTAINS" in result.protocol


def test_training_speakers_are_refused_unless_allowed_and_then_named_in_the_protocol(trained):
    path = trained("train.epochs=1")
    with pytest.raises(LeakError, match="ravdess/01, ravdess/02.*Use --part test, or"):
        evaluate(path, part="all", device=CPU, progress=False)
    result = evaluate(path, part="all", device=CPU, allow_seen=True, progress=False)
    assert "TRAINING SPEAKERS" in result.protocol and "24 VALIDATION clips among them" in result.protocol
    assert len(speaker_ids(result)) == 6


def test_clips_are_recognized_in_a_moved_corpus_and_under_another_speaker_name(trained, tiny_root, tmp_path):
    path = trained("train.epochs=1")
    moved = shutil.copytree(tiny_root, tmp_path / "elsewhere")
    assert speaker_ids(evaluate(path, str(moved), "test", CPU, progress=False)) == {
        "ravdess/05",
        "ravdess/06",
    }
    renamed = tmp_path / "renamed" / "Actor_09"
    renamed.mkdir(parents=True)
    for file in (moved / "Actor_01").iterdir():
        shutil.copy(file, renamed / file.name.replace("-01.wav", "-09.wav"))
    with pytest.raises(LeakError, match="Actor_09"):
        evaluate(path, str(renamed.parent), "test", CPU, progress=False)


def test_new_speakers_of_another_root_are_evaluated_under_their_own_protocol(trained, tmp_path):
    path = trained("train.epochs=1")
    for i, code in enumerate(("01", "03", "05")):
        soundfile.write(tmp_path / f"03-01-{code}-01-01-01-11.wav", speechlike(0.5, 200, i), RATE)
    result = evaluate(path, str(tmp_path), "test", CPU, progress=False)
    assert speaker_ids(result) == {"ravdess/11"}
    assert "never met in training" in result.protocol
    with pytest.raises(DataError, match="ravdess/03"):
        evaluate(path, str(tmp_path), "valid", CPU, progress=False)


def manifest(folder, name: str, files, speaker: str, corpus: str = "") -> str:
    rows = [f"{file},{emotion},{speaker},{corpus}" for file, emotion in files]
    (folder / name).write_text("\n".join(["path,emotion,speaker,corpus", *rows]))
    return str(folder / name)


def test_copies_of_training_clips_under_another_name_and_level_are_refused(trained, tiny_root, tmp_path):
    path, files = trained("train.epochs=1"), []
    for emotion, code in (("neutral", "01"), ("happy", "03"), ("angry", "05")):
        source = next((tiny_root / "Actor_01").glob(f"03-01-{code}-*.wav"))
        soundfile.write(tmp_path / f"{emotion}.wav", 0.5 * soundfile.read(source)[0], RATE, "FLOAT")
        files.append((f"{emotion}.wav", emotion))
    root = manifest(tmp_path, "new.csv", files, "voice01", "mine")
    with pytest.raises(LeakError, match=r"happy.wav \(a copy of 03-01-03.*Take them out, or"):
        evaluate(path, root, "test", CPU, progress=False)
    result = evaluate(path, root, "test", CPU, allow_seen=True, progress=False)
    assert "CONTAINS TRAINING" in result.protocol and result.details["warnings"]


def test_a_note_says_how_many_training_clips_are_missing_for_the_search_for_copies(trained, tiny_root, tmp_path):
    moved = shutil.copytree(tiny_root, tmp_path / "moved")
    path = trained("train.epochs=1", f"data.root={moved}")
    shutil.rmtree(moved / "Actor_01")
    (tmp_path / "new").mkdir()
    soundfile.write(tmp_path / "new/03-01-03-01-01-01-11.wav", speechlike(0.5, 200, 1), RATE)
    result = evaluate(path, str(tmp_path / "new"), "test", CPU, progress=False)
    assert [note for note in result.notes if note.startswith("12 of 24 training clips are not at")]
    shutil.rmtree(moved)
    result = evaluate(path, str(tmp_path / "new"), "test", CPU, progress=False)
    assert [note for note in result.notes if note.startswith("24 of 24 training clips are not at")]


def test_a_speaker_name_in_two_manifests_without_corpus_is_the_same_speaker(trained, tmp_path):
    files = {}
    for i, (emotion, speaker) in enumerate([(e, s) for s in "abcdef" for e in ("neutral", "happy", "angry")]):
        soundfile.write(tmp_path / f"{i}.wav", speechlike(0.5, 150 + 40 * (i % 3), i), RATE)
        files.setdefault(speaker, []).append((f"{i}.wav", emotion))
    rows = [f"{file},{emotion},{speaker}" for speaker, clips in files.items() for file, emotion in clips]
    (tmp_path / "monday.csv").write_text("\n".join(["path,emotion,speaker", *rows]))
    for name in ("neutral", "happy", "angry"):
        soundfile.write(tmp_path / f"{name}.wav", speechlike(0.5, 260, 90), RATE)
    again = [(f"{name}.wav", name) for name in ("neutral", "happy", "angry")]
    speakers = ("data.test_speakers=[a]", "data.valid_speakers=[b]")
    path = trained("train.epochs=1", f"data.root={tmp_path / 'monday.csv'}", *speakers)
    with pytest.raises(DataError, match="say so in a column corpus"):
        evaluate(path, manifest(tmp_path, "tuesday.csv", again, "C"), "test", CPU, progress=False)
    with pytest.raises(LeakError, match="tuesday/C"):
        evaluate(path, manifest(tmp_path, "tuesday.csv", again, "C"), "all", CPU, progress=False)
    others = manifest(tmp_path, "tuesday.csv", again, "c", "tuesday")
    assert speaker_ids(evaluate(path, others, "test", CPU, progress=False)) == {"tuesday/c"}


def test_clips_of_unknown_speakers_are_never_called_new_speakers_and_adaptation_refuses_them(trained, tmp_path):
    rows = []
    for i, emotion in enumerate(("neutral", "happy", "angry")):
        soundfile.write(tmp_path / f"{i}.wav", speechlike(0.5, 150 + 40 * i, i), RATE)
        rows.append(f"{i}.wav,{emotion}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["path,emotion", *rows]))
    path = trained("train.epochs=1")
    for part in ("test", "all"):
        result = evaluate(path, str(table), part, CPU, progress=False)
        assert "speakers unknown: they may be those of the training" in result.protocol
        assert "never met" not in result.protocol
        assert result.scores["n_speakers"] == 0 and result.scores["intervals"]["uar"] is None
        text = " ".join(as_text([*report_head(result.scores), *report_tables(result.scores)]).split())
        assert "3 clips of unknown speakers" in text and "the speakers are unknown" in text
    with pytest.raises(DataError, match=r"table\.csv:2: speaker adaptation needs to know who speaks.*--no-adapt"):
        evaluate(path, str(table), "test", CPU, progress=False, adapt=True)


def test_missing_held_out_clips_are_counted_in_the_protocol(trained, tiny_root, tmp_path):
    path = trained("train.epochs=1")
    part = shutil.copytree(tiny_root / "Actor_05", tmp_path / "part" / "Actor_05")
    result = evaluate(path, str(part.parent), "test", CPU, progress=False)
    assert "12 of its 24 clips are not in this root" in result.protocol


def test_a_random_split_evaluates_its_test_clips_under_a_leaky_protocol(trained):
    result = evaluate(trained("train.epochs=1", "data.protocol=random"), device=CPU, progress=False)
    assert "LEAKY" in result.protocol
    assert 0 < len(result.predictions.paths) < 30
