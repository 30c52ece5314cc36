"""The command line: every verb with good and with bad input."""

import csv
import io
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from serx.cli import sweep, verbs
from serx.cli.main import main
from serx.cli.parsing import make_parser, parse
from serx.data.synthetic.corpus import make_corpus
from serx.training.run_folder import lock_run_folder
from tests.conftest import RATE, speechlike
from tests.experiments.test_cross_validation import run_in_this_process
from tests.pages.test_evaluation_page import text_of

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
NO_VERBS = {"__init__", "main", "verbs", "interrupts", "parsing", "commands", "options", "output", "parts", "execution"}
MODULES = {path.stem for path in (ROOT / "serx" / "cli").glob("*.py")} - NO_VERBS
VERBS = sorted(name.replace("_", "-") for name in MODULES)


def run_process(name: str, *arguments: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess:
    """Runs `scripts/NAME.py` in a process of its own."""
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, **options)


def run_here(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """Runs `scripts/NAME.py` within this process, which saves five seconds of imports."""
    command = [str(ROOT / "scripts" / f"{name}.py"), *map(str, arguments)]
    out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.syspath_prepend(str(cwd))  # as --import does, but only for this run
        patch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(command[0], run_name="__main__")
    printed = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return subprocess.CompletedProcess(command, exit_.value.code, *printed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_root) -> Path:
    """A folder with a recipe, tiny.yaml, and a finished run in `run/`."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "tiny.yaml").write_text(
        f"data: {{root: {tiny_root}, protocol: speakers, test_speakers: [5, 6], valid_speakers: [3, 4]}}\n"
        "model: {kind: cnn1d, stem: 16, widths: [16, 16, 16]}\n"
        "optim: {lr: 1e-2}\n"
        "train: {epochs: 6, batch_size: 8, threads: 1, device: cpu}\n"
    )
    done = run_process("train", "--config", "tiny.yaml", "train.output=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "train.txt").write_text(done.stdout)
    return folder


def test_training_prints_protocol_speakers_epochs_and_the_next_command(folder):
    printed = (folder / "train.txt").read_text()
    assert "protocol: speakers, speaker-independent" in printed
    assert "24 train (2 speakers), 24 valid (2 speakers), 24 test (2 speakers)" in printed
    assert printed.count("/s  ETA ") == 6
    kept = r"^kept: epoch \d \(the best validation UAR\), validation UAR \d+\.\d \(speakers, speaker-independent"
    assert re.search(kept, printed, re.MULTILINE)
    assert "evaluate: python scripts/evaluate.py --checkpoint run/best.safetensors" in printed


def test_the_run_folder_holds_configuration_metrics_checkpoints_and_tensorboard_events(folder):
    names = {path.name for path in (folder / "run").iterdir()}
    assert {"config.yaml", "metrics.jsonl", "best.safetensors", "last.safetensors"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert (folder / "run/config.yaml").read_text().startswith("# protocol: speakers, speaker-independent\n")
    records = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == list(range(6))


def test_evaluation_needs_nothing_but_the_checkpoint(folder):
    done = run_process("evaluate", "--checkpoint", "run/best.safetensors", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "over 2 speakers" in done.stdout
    result = json.loads((folder / "run/evaluation.json").read_text())
    assert {"accuracy", "uar", "macro_f1", "weighted_f1", "protocol", "n_clips"} <= result.keys()
    assert result["n_clips"] == 24
    assert result["uar"] > 0.6  # the tiny corpus's emotion is its pitch
    rows = list(csv.DictReader((folder / "run/predictions.csv").open()))
    assert len(rows) == 24
    assert sum(row["target"] == row["prediction"] for row in rows) / 24 == pytest.approx(result["accuracy"])
    for picture in ("confusion", "report", "curves"):
        assert (folder / f"run/{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_the_stress_test_writes_a_table_a_json_file_and_a_figure(folder):
    done = run_here("stress", "--checkpoint", "run/best.safetensors", "--out", "stressed", cwd=folder)
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / "stressed/stress.json").read_text())
    assert result["protocol"].startswith("speakers, speaker-independent") and result["part"] == "test"
    assert all(row["condition"] in done.stdout for row in result["conditions"])
    assert "written: stressed/stress.json" in done.stdout
    assert (folder / "stressed/stress.png").read_bytes().startswith(b"\x89PNG")


def test_the_exported_file_gives_the_probabilities_of_the_checkpoint(folder, tiny_root):
    import onnxruntime

    file = sorted((tiny_root / "Actor_05").iterdir())[0]
    done = run_process("export", "--checkpoint", "run/best.safetensors", file, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("run/best.onnx: ") and "on 9 clips" in done.stdout
    waveform, _ = soundfile.read(file, dtype="float32")
    [probabilities] = onnxruntime.InferenceSession(folder / "run/best.onnx").run(None, {"waveform": waveform[None]})
    predicted = run_here("predict", "--checkpoint", "run/best.safetensors", "--json", file, cwd=folder)
    np.testing.assert_allclose(
        probabilities[0], [*json.loads(predicted.stdout)[0]["probabilities"].values()], atol=1e-5
    )


@pytest.mark.usefixtures("trusted")
def test_evaluation_and_prediction_adapt_to_a_speaker(folder, tiny_root):
    done = run_here("evaluate", "--checkpoint", "run/best.safetensors", "--adapt", "--out", "known", cwd=folder)
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / "known/evaluation.json").read_text())
    assert (
        "ADAPTED to each speaker with 12 unlabeled clips" in result["protocol"]
        and result["without_adaptation"]["uar"] > 0.6
    )
    assert "without speaker adaptation: UAR" in done.stdout
    mine, other = tiny_root / "Actor_05", tiny_root / "Actor_06"
    file = str(sorted(mine.iterdir())[0])
    runs = [["--adapt-to", str(mine), file], ["--adapt-to", str(other), file], [file]]
    done = [run_here("predict", "--checkpoint", "run/best.safetensors", "--json", *run, cwd=folder) for run in runs]
    assert len({run.stdout for run in done}) == 3
    few = run_here("predict", "--checkpoint", "run/best.safetensors", "--adapt-to", file, file, cwd=folder)
    assert few.returncode == 6 and "give two or more" in few.stderr


def test_a_broken_file_for_adaptation_is_reported_and_the_others_are_used(folder, tiny_root):
    mine = sorted((tiny_root / "Actor_05").iterdir())
    for name, clips in (("whole", mine[:4]), ("mixed", mine[:4]), ("poor", mine[:1])):
        (folder / name).mkdir()
        for clip in clips:
            shutil.copy(clip, folder / name)
        if name != "whole":
            (folder / name / "b.wav").write_text("no audio")
    whole, mixed, poor = (
        run_here(
            "predict", "--checkpoint", "run/best.safetensors", "--json", "--adapt-to", recordings, mine[5], cwd=folder
        )
        for recordings in ("whole", "mixed", "poor")
    )
    assert (whole.returncode, mixed.returncode, poor.returncode) == (0, 1, 6)
    assert mixed.stdout == whole.stdout
    assert mixed.stderr.startswith("mixed/b.wav: not used for adaptation: not_audio: ")
    assert mixed.stderr.count("\n") == 1
    assert "poor/b.wav: not used" in poor.stderr and "give two or more" in poor.stderr


def test_prediction_prints_a_table_or_json(folder, tiny_root):
    files = [str(path) for path in sorted((tiny_root / "Actor_05").iterdir())[:2]]
    table = run_process("predict", "--checkpoint", "run/best.safetensors", *files, cwd=folder)
    assert table.returncode == 0, table.stderr
    assert all(file in table.stdout for file in files)
    done = run_here("predict", "--checkpoint", "run/best.safetensors", "--json", *files, cwd=folder)
    rows = json.loads(done.stdout)
    assert [row["path"] for row in rows] == files
    assert all(set(row["probabilities"]) == {"neutral", "happy", "angry"} for row in rows)


def test_a_prediction_below_the_minimum_confidence_is_unsure(folder, tiny_root):
    files = sorted(tiny_root.glob("Actor_0[56]/*"))
    done = run_here(
        "predict", "--checkpoint", "run/best.safetensors", "--json", "--min-confidence", "0.8", *files, cwd=folder
    )
    rows = json.loads(done.stdout)
    for row in rows:
        best = max(row["probabilities"], key=row["probabilities"].get)
        assert row["label"] == (best if row["probabilities"][best] >= 0.8 else "unsure")
    assert 0 < sum(row["label"] == "unsure" for row in rows) < len(files)
    for wrong in ("2", "high", "nan"):
        done = run_here("predict", "--checkpoint", "x", "--min-confidence", wrong, files[0], cwd=folder)
        expected = f"argument --min-confidence: '{wrong}' is not a probability; give a number from 0 to 1, such as 0.6"
        assert done.returncode == 2 and done.stderr.splitlines()[-1].endswith(expected)


@pytest.fixture(scope="module")
def recording(folder) -> Path:
    """Three synthetic utterances with pauses, at another sample rate than the model's."""
    make_corpus(folder / "voices", 1, 1, 0)
    clips = [soundfile.read(path)[0] for path in sorted((folder / "voices").rglob("*.wav"))[:3]]
    quiet = 1e-4 * np.random.default_rng(0).standard_normal(RATE)
    parts = [part for clip in clips for part in (quiet, clip)]
    path = folder / "talk.flac"
    soundfile.write(path, soxr.resample(np.concatenate([*parts, quiet]), RATE, 44_100), 44_100)
    return path


def test_every_utterance_of_a_recording_is_predicted_with_its_time(folder, recording):
    table = run_here("listen", "--checkpoint", "run/best.safetensors", recording, cwd=folder)
    assert table.returncode == 0, table.stderr
    assert [line.split()[0] for line in table.stdout.splitlines()] == ["1.0", "3.0", "5.2"]
    objects = run_here("listen", "--checkpoint", "run/best.safetensors", "--json", recording, cwd=folder)
    rows = [json.loads(line) for line in objects.stdout.splitlines()]
    for row, line in zip(rows, table.stdout.splitlines(), strict=True):
        assert 0.7 < row["end"] - row["start"] < 1.7
        assert set(row["probabilities"]) == {"neutral", "happy", "angry"}
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get) == line.split()[4]


def test_samples_from_standard_input_give_the_predictions_of_a_file(folder, recording, tiny_root, monkeypatch):
    samples, rate = soundfile.read(recording, dtype="int16")
    raw = folder / "talk.raw"
    raw.write_bytes(samples.astype("<i2").tobytes())
    arguments = ["--checkpoint", "run/best.safetensors", "--adapt-to", str(tiny_root / "Actor_05")]
    with raw.open("rb") as pipe:
        piped = run_process("listen", *arguments, "--sample-rate", str(rate), "-", cwd=folder, stdin=pipe)
    file = run_here("listen", *arguments, recording, cwd=folder)
    assert piped.returncode == file.returncode == 0, piped.stderr
    assert piped.stdout == file.stdout
    plain = run_here("listen", *arguments[:2], recording, cwd=folder).stdout
    monkeypatch.setattr("serx.speaker_model._trust", lambda *_: 1.0)
    assert run_here("listen", *arguments, recording, cwd=folder).stdout != plain  # adaptation has an effect


PLAYER = """
import signal, threading
import soundfile
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored
wave, rate = soundfile.read("talk.flac", dtype="float32")
PortAudioError = OSError
def query_devices(device=None, kind=None):
    return {"default_samplerate": float(rate)}
class InputStream:
    def __init__(self, samplerate, blocksize, device, channels, dtype, callback):
        self.size, self.callback = blocksize, callback
    def __enter__(self):
        threading.Thread(target=self.play).start()
    def __exit__(self, *_):
        pass
    def play(self):
        for start in range(0, len(wave), self.size):
            self.callback(wave[start : start + self.size, None], self.size, None, None)
"""


def test_listening_to_a_microphone_ends_with_ctrl_c(folder, recording):
    (folder / "fake").mkdir()
    (folder / "fake/sounddevice.py").write_text(PLAYER)
    environment = {**os.environ, "PYTHONPATH": f"{folder / 'fake'}:{ROOT}"}
    file = run_here("listen", "--checkpoint", "run/best.safetensors", recording, cwd=folder).stdout
    command = [sys.executable, str(ROOT / "scripts/listen.py"), "--checkpoint", "run/best.safetensors"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    live = subprocess.Popen(command, **pipes, text=True, cwd=folder, env=environment)
    watch = threading.Timer(120, live.kill)
    watch.start()
    lines = [live.stdout.readline() for _ in file.splitlines()]
    live.send_signal(signal.SIGINT)
    rest, err = live.communicate()
    watch.cancel()
    assert (live.returncode, rest) == (0, ""), err
    listening, note = err.splitlines()
    assert listening == "listening; a prediction follows each pause; Ctrl-C stops"
    assert note.startswith("note: unlike the recordings it was trained on? unknown: fitted on 2 speakers; 8 are needed")
    assert "".join(lines) == file


def test_a_recording_that_is_silent_or_truncated_is_reported(folder, recording):
    noise = np.random.default_rng(0).standard_normal(3 * RATE)
    for level, message in ((0, "silent: all samples are equal"), (10**-4.5, "silent: its loudest 25 ms have a level")):
        soundfile.write(folder / "still.wav", level * noise, RATE, subtype="FLOAT")
        still = run_here("listen", "--checkpoint", "run/best.safetensors", "--json", "still.wav", cwd=folder)
        assert (still.returncode, still.stdout) == (1, "") and still.stderr.startswith(f"still.wav: {message}")
        assert still.stderr.count("\n") == 1
    soundfile.write(folder / "noise.wav", 0.01 * noise, RATE)
    spoken = run_here("listen", "--checkpoint", "run/best.safetensors", "--json", "noise.wav", cwd=folder)
    assert (spoken.returncode, spoken.stdout, spoken.stderr) == (1, "", "noise.wav: no speech was found\n")
    samples, rate = soundfile.read(recording)
    soundfile.write(folder / "whole.wav", samples, rate)
    (folder / "cut.wav").write_bytes((folder / "whole.wav").read_bytes()[: 2 * 6 * rate])
    cut = run_here("listen", "--checkpoint", "run/best.safetensors", "cut.wav", cwd=folder)
    assert cut.returncode == 6
    assert "cut.wav: truncated" in cut.stderr
    assert len(cut.stdout.splitlines()) == 2  # of the utterances before the cut


def test_one_bad_file_is_reported_and_gives_exit_code_1(folder, tiny_root):
    (folder / "bad.wav").write_text("x")
    good = str(next((tiny_root / "Actor_05").iterdir()))
    done = run_here("predict", "--checkpoint", "run/best.safetensors", "bad.wav", good, cwd=folder)
    assert done.returncode == 1
    assert "not_audio" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_folder_without_audio_is_reported_and_the_other_arguments_are_predicted(folder, tiny_root):
    (folder / "none").mkdir()
    good = str(next((tiny_root / "Actor_05").iterdir()))
    done = run_here("predict", "--checkpoint", "run/best.safetensors", "--json", "none", good, cwd=folder)
    assert done.returncode == 1
    first, second = json.loads(done.stdout)
    assert first["path"] == good and first["error"] is None
    assert second["path"] == "none" and second["error"] == "no audio files in this folder; name another one"
    assert done.stderr == "none: no audio files in this folder; name another one\n"
    alone = run_here("predict", "--checkpoint", "run/best.safetensors", "none", cwd=folder)
    assert alone.returncode == 6 and "none: no audio files in this folder" in alone.stderr


def test_a_recording_longer_than_the_limit_is_predicted_segment_by_segment(folder, recording):
    speech, rate = soundfile.read(recording)
    soundfile.write(folder / "long.wav", np.concatenate([speech, 1e-3 * np.resize(speech, 62 * rate)]), rate)
    table = run_here("predict", "--checkpoint", "run/best.safetensors", "long.wav", cwd=folder)
    assert table.returncode == 0, table.stderr
    name, whole, mean, *segments = table.stdout.splitlines()
    assert name == "long.wav" and mean.startswith("    the mean of ") and len(segments) >= 3
    heard = run_here("listen", "--checkpoint", "run/best.safetensors", "long.wav", cwd=folder).stdout.splitlines()
    assert [row.removeprefix("    ") for row in segments] == heard
    [row] = json.loads(
        run_here("predict", "--checkpoint", "run/best.safetensors", "--json", "long.wav", cwd=folder).stdout
    )
    assert row["path"] == "long.wav" and row["label"] == whole.split()[0] and len(row["segments"]) == len(segments)
    assert row["segments"][0]["start"] == pytest.approx(float(segments[0].split()[0]), abs=0.06)


def test_an_almost_silent_file_is_not_predicted(folder):
    noise = np.random.default_rng(0).standard_normal(RATE)
    soundfile.write(folder / "still.wav", 10**-4.5 * noise, RATE, subtype="PCM_24")
    done = run_here("predict", "--checkpoint", "run/best.safetensors", "still.wav", cwd=folder)
    assert done.returncode == 1 and done.stdout.count("not used: silent: its loudest 25 ms have a level of -") == 1


def test_each_side_of_a_call_is_predicted_apart_and_inverted_channels_with_a_warning(folder):
    left, right = speechlike(1.0, 120, 0), speechlike(1.0, 260, 1)
    for name, channels in {
        "call": (left, right),
        "left": (left,),
        "right": (right,),
        "inverted": (left, -left),
    }.items():
        soundfile.write(folder / f"{name}.wav", np.stack(channels, 1), RATE, subtype="FLOAT")
    (folder / "calls").mkdir()
    (folder / "call.wav").rename(folder / "calls" / "call.wav")
    (folder / "calls" / "notes.txt").touch()

    def predict(*words):
        done = run_here("predict", "--checkpoint", "run/best.safetensors", "--json", *words, cwd=folder)
        assert done.returncode == 0
        return json.loads(done.stdout), done.stderr

    [alone_left, alone_right, inverted], _ = predict("left.wav", "right.wav", "inverted.wav")
    for channel, alone in (("left", alone_left), ("right", alone_right)):
        [row], stderr = predict("--channel", channel, "calls")
        assert row["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-4)
        assert stderr == "calls/notes.txt: passed over: .txt is not audio or video\n"
    assert inverted["probabilities"] == pytest.approx(alone_left["probabilities"], abs=1e-4)
    assert "its 2 channels cancel each other" in inverted["warning"] and alone_left["warning"] is None
    done = run_here("listen", "--checkpoint", "run/best.safetensors", "--channel", "left", "-", cwd=folder)
    assert done.returncode == 2 and "--channel: the microphone and standard input are mono" in done.stderr


def test_resuming_a_finished_run_changes_nothing(folder):
    before = (folder / "run/metrics.jsonl").read_text()
    done = run_here("train", "--config", "tiny.yaml", "train.output=run", "--resume", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "run/metrics.jsonl").read_text() == before


def test_overwrite_replaces_a_run(folder):
    for _ in range(2):
        done = run_here(
            "train", "--config", "tiny.yaml", "train.output=again", "train.epochs=1", "--overwrite", cwd=folder
        )
        assert done.returncode == 0, done.stderr
    assert len((folder / "again/metrics.jsonl").read_text().splitlines()) == 1
    both = run_here("train", "--config", "tiny.yaml", "--overwrite", "--resume", cwd=folder)
    assert both.returncode == 2 and "not allowed with argument" in both.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--config", "absent.yaml"], 2, "absent.yaml"),
        (["train", "--config", "tiny.yaml", "optim.rl=3"], 2, "did you mean optim.lr"),
        (["train", "--config", "tiny.yaml", "train.output=run"], 2, "--resume"),
        (["train", "--config", "tiny.yaml", "data.root=/nowhere"], 6, "/nowhere"),
        (["train", "--config", "tiny.yaml", "train.device=cuda:99", "train.output=x"], 2, "train.device cuda:99"),
        (["evaluate", "--checkpoint", "run/best.safetensors", "--device", "cudaa"], 2, "error: --device cudaa: "),
        (
            ["predict", "--checkpoint", "run/best.safetensors", "--device", "cudaa", "a.wav"],
            2,
            "error: --device cudaa: ",
        ),
        (["leakage", "--config", "tiny.yaml", "--out", "."], 2, "error: --out .: holds a leakage lesson"),
        (["train", "--config", "tiny.yaml", "train.output=/proc/nowhere"], 5, "/proc/nowhere"),
        (["train", "--config", "tiny.yaml", "train.output=wild", "optim.lr=1e6"], 4, "03-01-0"),
        (["evaluate", "--checkpoint", "tiny.yaml"], 7, "not a checkpoint"),
        (["evaluate", "--checkpoint", "run/best.safetensors", "--part", "all"], 6, "--allow-seen"),
        (["predict", "--checkpoint", "absent.safetensors", "a.wav"], 7, "absent.safetensors"),
        (["listen", "--adapt", "--adapt-to", "mine/", "a.wav"], 2, "--adapt and --adapt-to: both adapt"),
        (["listen", "--checkpoint", "run/best.safetensors", "absent.wav"], 6, "absent.wav: unreadable"),
    ],
    ids=lambda value: " ".join(value[:1] + value[-1:]) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_line_and_its_exit_code(arguments, code, message, folder):
    run = run_process if code == 4 else run_here
    done = run(*arguments, cwd=folder)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_run_folder_in_use_gives_exit_code_3_and_names_the_process(folder):
    with lock_run_folder(folder / "held"):
        done = run_here("train", "--config", "tiny.yaml", "train.output=held", cwd=folder)
    assert done.returncode == 3
    assert f"process {os.getpid()} is running a training here" in done.stderr and done.stderr.count("\n") == 1


def test_a_file_whose_name_is_not_text_is_printed_with_its_bytes(folder, tiny_root):
    good = next((tiny_root / "Actor_05").iterdir())
    odd = os.fsencode(folder / "odd") + b"\xff.wav"
    shutil.copy(good, os.fsdecode(odd))
    command = [sys.executable, str(ROOT / "scripts/predict.py"), "--checkpoint", "run/best.safetensors", odd]
    done = subprocess.run(command, capture_output=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert b"odd\\udcff.wav" in done.stdout


def test_a_corpus_in_a_folder_whose_name_is_not_text_trains_and_evaluates(folder, tiny_root):
    corpus = folder / "corpus"
    shutil.copytree(tiny_root, corpus / os.fsdecode(b"n\xff"))
    (corpus / os.fsdecode(b"n\xff/Actor_01") / "03-01-03-02-02-01-01.wav").write_text("x")  # a broken file is skipped
    done = run_process(
        "train", "--config", "tiny.yaml", f"data.root={corpus}", "train.epochs=1", "train.output=odd", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert "n\\udcff/Actor_01/03-01-03-02-02-01-01.wav" in done.stdout and "TensorBoard stops" not in done.stdout
    done = run_process("evaluate", "--checkpoint", "odd/best.safetensors", cwd=folder)
    assert done.returncode == 0, done.stderr
    paths = [row["path"] for row in csv.DictReader((folder / "odd/predictions.csv").open())]
    assert len(paths) == 24 and all("corpus/n\\udcff/Actor_0" in path for path in paths)
    assert len(json.loads((folder / "odd/evaluation.json").read_text())["per_speaker"]) == 2


def test_debug_shows_the_traceback(folder):
    done = run_here("train", "--config", "tiny.yaml", "optim.rl=3", "--debug", cwd=folder)
    assert done.returncode == 2
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "scripts").glob("*.py")))
def test_help_has_examples_and_exit_codes(name, tmp_path):
    done = run_process(name, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "examples:" in done.stdout
    assert "exit codes:" in done.stdout


def test_the_overview_lists_every_verb_without_importing_torch(tmp_path):
    program = "import sys; from serx.cli.main import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("False\n")
    assert set(VERBS) == set(re.findall(r"^  (\S+) +[A-Z]", done.stdout, re.MULTILINE))


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_imports_no_torch(verb, tmp_path):
    program = "import sys; from serx.cli.main import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program, verb, "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("False\n") and "examples:" in done.stdout


def test_a_verb_that_computes_nothing_starts_without_torch(tmp_path):
    assert set(verbs.WITHOUT_TORCH) <= set(VERBS)
    program = "import sys; from serx.cli.main import main\ntry: main('corpora')\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("False\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepare", "--config", "x"], "error: prepare is now called audit: serx audit"),
        (["trian"], "error: trian: no such command; did you mean train?"),
        (["predict", "--voice", "mine/", "a.wav"], "--voice is now called --adapt-to"),
        (["predict", "--sure=0.5", "a.wav"], "--sure is now called --min-confidence"),
        (["evaluate", "--enrol"], "--enrol is now called --adapt"),
        (["listen", "--rate", "8000", "-"], "--rate is now called --sample-rate"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_old_names_are_errors_that_name_the_new_ones(words, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["serx", *words])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(message)


def test_overrides_may_stand_anywhere_on_the_command_line():
    parser = make_parser("", "")
    sweep.add_arguments(parser)
    words = ["--config", "x", "--seeds", "0", "1", "augment.waveform.2.p=0", "--try", "optim.lr=[1, 2]",
             "--devices", "cpu", "features=[mfcc]", "data.root=a=b", "--out", "a.b=c"]  # fmt: skip
    arguments = parse(parser, words)
    assert arguments.overrides == ["augment.waveform.2.p=0", "features=[mfcc]", "data.root=a=b"]
    assert (arguments.seeds, arguments.tried, arguments.out) == ([0, 1], ["optim.lr=[1, 2]"], "a.b=c")
    assert arguments.devices == ["cpu"]


MY_MODEL = """
from typing import Literal
import torch
from serx.models import BaseModelConfig, register_model

class MyConfig(BaseModelConfig):
    kind: Literal["my_mean"] = "my_mean"

@register_model(MyConfig)
class MyMean(torch.nn.Module):
    def __init__(self, config, bins, classes):
        super().__init__()
        self.linear = torch.nn.Linear(bins, classes)

    def forward(self, features, frames):
        return self.linear(features.sum(-1) / frames[:, None])
"""


def test_a_model_of_the_users_module_trains_cross_validates_and_predicts(folder, tiny_root, tmp_path):
    (tmp_path / "my_models.py").write_text(MY_MODEL)
    shutil.copy(folder / "tiny.yaml", tmp_path)
    words = ["--config", "tiny.yaml", "--import", "my_models", "model={kind: my_mean}", "train.epochs=1"]
    lacking = run_process("train", *words[:2], *words[4:], cwd=tmp_path)
    assert lacking.returncode == 2 and "unknown model kind 'my_mean'" in lacking.stderr
    trained = run_process("train", *words, "train.output=run", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    folds = ["data.protocol=kfold", "data.folds=2", "data.test_speakers=[]", "data.valid_speakers=[]"]
    done = run_process("cross_validate", *words, *folds, "--folds", "0", "--baseline", "none", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    file = str(next((tiny_root / "Actor_05").iterdir()))
    arguments = ["--checkpoint", "run/best.safetensors", file]
    assert run_process("predict", "--import", "my_models", *arguments, cwd=tmp_path).returncode == 0
    refused = run_process("predict", *arguments, cwd=tmp_path)
    assert refused.returncode == 7 and "--import" in refused.stderr and refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "error: --import absent: no such module in "),
        ("broken", "error: --import broken: NameError: name 'nothing' is not defined"),
        ("needy", "error: --import needy: it imports absent_package, which is not installed"),
        ("broken.py", "write --import broken"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line_and_exit_code_2(name, message, tmp_path):
    (tmp_path / "broken.py").write_text("nothing\n")
    (tmp_path / "needy.py").write_text("import absent_package\n")
    done = run_here("train", "--config", "mlp", "--import", name, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_the_last_epoch_is_printed_as_kept_and_not_as_best(folder):
    done = run_here(
        "train", "--config", "tiny.yaml", "train.output=kept", "train.select=last", "train.epochs=2", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^kept: epoch 2 \(the last\), validation UAR", done.stdout, re.MULTILINE)
    assert "best: " not in done.stdout


def test_the_help_of_the_leakage_lesson_shows_how_to_use_a_recipe_with_a_random_split(tmp_path):
    printed = run_process("leakage", "--help", cwd=tmp_path).stdout
    assert "--config published/ravdess_mlp data.root=DIR data.protocol=luna5" in printed


def test_an_evaluation_can_be_written_as_a_page_and_a_wrong_name_is_refused_before_it_begins(folder, tmp_path):
    words = ["--checkpoint", "run/best.safetensors", "--out", tmp_path / "out"]
    done = run_here("evaluate", *words, "--report", tmp_path / "pages/report.html", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"written: {tmp_path / 'pages/report.html'}" in done.stdout
    scores, page = (
        json.loads((tmp_path / "out/evaluation.json").read_text()),
        (tmp_path / "pages/report.html").read_text(),
    )
    text = text_of(page)
    assert scores["data_sha256"] in text and scores["protocol"] in text and f"{100 * scores['uar']:.1f} % UAR" in text
    assert "evaluate.py --checkpoint run/best.safetensors" in text and "train.py --config run/config.yaml" in text
    assert (
        page.count("<audio") == min(10, round(24 * (1 - scores["accuracy"])))
        and "map-speaker" in page
        and "raises" in page
    )
    for name in ("report.txt", str(tmp_path)):
        refused = run_here("evaluate", *words[:-1], "never", "--report", name, cwd=folder)
        assert refused.returncode == 2 and "report.html" in refused.stderr and not (folder / "never").exists()


def test_evaluated_runs_are_compared_in_the_terminal_as_a_table_and_as_a_page(folder, tmp_path):
    model = ["--checkpoint", "run/best.safetensors"]
    for name, words in (("plain", []), ("adapted", ["--adapt"]), ("valid", ["--part", "valid"])):
        done = run_here("evaluate", *model, *words, "--out", tmp_path / name, cwd=folder)
        assert done.returncode == 0, done.stderr
    plain, adapted, valid = (str(tmp_path / name) for name in ("plain", "adapted", "valid"))
    done = run_here("compare", plain, adapted, valid, "--report", tmp_path / "page.html", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "only B is adapted" in done.stdout and "C - A: not compared" in done.stdout
    shutil.copytree(folder / "run", tmp_path / "moved")
    (tmp_path / "moved/config.yaml").unlink()  # the checkpoint knows its settings
    assert "Validation UAR by epoch, %" in done.stdout and "settings that differ: none" in done.stdout
    assert f"compare.py {plain} {adapted}" in text_of((tmp_path / "page.html").read_text())
    apart = run_here("evaluate", "--checkpoint", tmp_path / "moved/best.safetensors", cwd=folder)
    assert apart.returncode == 0
    assert "settings that differ: none" in run_here("compare", plain, tmp_path / "moved", cwd=folder).stdout
    table = run_here("compare", plain, adapted, "--markdown", cwd=folder).stdout.splitlines()
    assert sum(line.startswith("| ") for line in table) == 4 and "another protocol" in table[-1] + table[-3]
    other_clips = run_here("compare", plain, valid, cwd=folder)
    assert other_clips.returncode == 6 and "can be compared with no other run" in other_clips.stderr
    both = run_here("compare", plain, adapted, "--markdown", "--json", cwd=folder)
    assert both.returncode == 2 and "not allowed with" in both.stderr
    alone = run_here("compare", plain, cwd=folder)
    assert alone.returncode == 6 and "two or more" in alone.stderr
    moved = run_here("cross_validate", "--compare", plain, adapted, cwd=folder)
    assert moved.returncode == 2 and "--compare is now called serx compare" in moved.stderr


def strict(text: str) -> Any:
    """The value of a text that is one strict JSON document, ends with a line end, and holds nothing else."""
    assert text.endswith("\n")

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


LESSON = {"epochs": 1, "cases": [{"title": "t", "case": "c", "protocol": "p", "accuracy": float("nan"), "uar": 0.5,
                                  "n_train": 1, "n_test": 1}]}  # fmt: skip
# What each verb is run with; `{x}` stands for a path in `names` of the test.
JSON_WORDS = {
    "audit": "--config tiny.yaml",
    "compare": "{new}/a {new}/b",
    "corpora": "ravdess",
    "cross-validate": "--config folds.yaml --folds 0 --baseline none --out {new}/cv",
    "download": "ravdess --root {new}",
    "ensemble": "run/best.safetensors {new}/other/best.safetensors --output {new}/both.safetensors",
    "evaluate": "--checkpoint run/best.safetensors --out {new}/evaluated",
    "explain": "--checkpoint run/best.safetensors --out {new}/why --steps 8 {clip}",
    "export": "--checkpoint run/best.safetensors --out {new}/x.onnx",
    "leakage": "--config tiny.yaml --out {new}/leakage",
    "predict": "--checkpoint run/best.safetensors {clip}",
    "stress": "--checkpoint run/best.safetensors --out {new}/stressed",
    "sweep": "--config tiny.yaml --try optim.lr=[1e-3] --out {new}/sweep",
    "synthesize": "--root {new}/made --speakers 1 --clips 1",
    "train": "--config tiny.yaml train.epochs=1 train.output={new}/trained",
}
# `listen` prints an object for each utterance, as soon as it ends; the other two serve pages and have no result.
NO_DOCUMENT = {"listen", "demo", "tensorboard"}


@pytest.fixture(scope="module")
def new_folder(tmp_path_factory, folder) -> Path:
    """A folder for what the verbs write, with another run and two evaluations."""
    new = tmp_path_factory.mktemp("json")
    model = ["--checkpoint", "run/best.safetensors"]
    for words in (
        ["train", "--config", "tiny.yaml", "train.epochs=1", f"train.output={new / 'other'}"],
        ["evaluate", *model, "--out", new / "a"],
        ["evaluate", *model, "--adapt", "--out", new / "b"],
    ):
        assert run_here(*words, cwd=folder).returncode == 0
    return new


def test_every_verb_can_print_json():
    assert set(JSON_WORDS) | NO_DOCUMENT == set(VERBS)


@pytest.mark.parametrize("verb", JSON_WORDS)
def test_with_json_standard_output_is_one_strict_document_and_messages_go_elsewhere(
    verb, folder, new_folder, tiny_root, monkeypatch
):
    monkeypatch.setattr("serx.data.download.sources.download", lambda corpus, root: root / corpus)
    exported = SimpleNamespace(n_bytes=8, n_clips=3, max_difference=1e-7)
    monkeypatch.setattr("serx.inference.export.export_onnx", lambda *_: exported)
    monkeypatch.setattr("serx.experiments.leakage.run_leakage_lesson", lambda *_: (LESSON, 0))
    monkeypatch.setattr(
        import_module("serx.experiments.sweep"), "sweep", lambda *_: ({"settings": [{"nll": np.float64("inf")}]}, 0)
    )
    (folder / "folds.yaml").write_text(
        f"data: {{root: {tiny_root}, protocol: kfold, folds: 2}}\nfeatures: {{statistics: [mean]}}\n"
        "model: {kind: mlp, widths: [8]}\ntrain: {epochs: 1, batch_size: 8, threads: 1, device: cpu}\n"
    )
    monkeypatch.setattr("serx.experiments.fold_runs.run_in_parallel", run_in_this_process)
    names = {"new": new_folder, "clip": sorted((tiny_root / "Actor_05").iterdir())[0]}
    words = [word.format(**names) for word in JSON_WORDS[verb].split()]
    done = run_here(verb.replace("-", "_"), *words, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    document = strict(done.stdout)
    written = {
        "cross-validate": "cv/cross_validation.json",
        "evaluate": "evaluated/evaluation.json",
        "stress": "stressed/stress.json",
    }
    if verb in written:
        assert document.get("cross_validation", document) == json.loads((new_folder / written[verb]).read_text())
    checks = {
        "audit": lambda d: (d["clips"], d["folds"][0]["test"]["speakers"]) == (72, ["ravdess/05", "ravdess/06"]),
        "compare": lambda d: [run["run"] for run in d["runs"]] == words[:2] and len(d["comparisons"]) == 1,
        "corpora": lambda d: d["name"] == "ravdess",
        "download": lambda d: d["folder"] == str(new_folder / "ravdess") and "CC BY-NC" in d["license"],
        "ensemble": lambda d: [voter["share"] for voter in d["voters"]] == [0.5, 0.5],
        "explain": lambda d: d == json.loads((new_folder / "why/saliency.json").read_text()),
        "export": lambda d: (d["bytes"], d["clips_compared"], d["max_difference"]) == (8, 3, 1e-7),
        "sweep": lambda d: d == {"settings": [{"nll": None}]},
        "leakage": lambda d: d["cases"][0]["accuracy"] is None,
        "predict": lambda d: sum(d[0]["probabilities"].values()) == pytest.approx(1),
        "synthesize": lambda d: d["clips"] == len(list((new_folder / "made").rglob("*.wav"))) and d["made"],
        "train": lambda d: d["checkpoint"] == str(new_folder / "trained/best.safetensors") and d["kept"]["epoch"] == 0,
    }  # fmt: skip
    assert verb in written or checks[verb](document), document
    assert "written:" not in done.stdout and "note:" not in done.stdout


def test_with_json_an_error_leaves_standard_output_empty(folder):
    done = run_here("evaluate", "--checkpoint", "missing/best.safetensors", "--json", cwd=folder)
    assert (done.returncode, done.stdout) == (7, "") and done.stderr.startswith("error: ")
