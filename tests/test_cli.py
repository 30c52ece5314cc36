"""The command line as a user meets it: train, evaluate, predict, and what bad input gets."""

import csv
import io
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from serx.data.synthetic.corpus import make_corpus
from serx.training.run_folder import lock_run_folder
from tests.conftest import RATE

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


def script(name: str, *arguments: str, cwd: Path, **how: Any) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, **how)


def here(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """`script` within this process, which has imported already what would take each of its own five seconds."""
    command = [str(ROOT / "scripts" / f"{name}.py"), *map(str, arguments)]
    out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as left:
            runpy.run_path(command[0], run_name="__main__")
    said = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return subprocess.CompletedProcess(command, left.value.code, *said)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, tiny_root) -> Path:
    """A folder with a trained run in `run/`."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "tiny.yaml").write_text(
        f"data: {{root: {tiny_root}, protocol: speakers, test_speakers: [5, 6], valid_speakers: [3, 4]}}\n"
        "model: {kind: cnn1d, stem: 16, widths: [16, 16, 16]}\n"
        "optim: {lr: 1e-2}\n"
        "train: {epochs: 6, batch_size: 8, threads: 1, device: cpu}\n"
    )
    done = script("train", "--config", "tiny.yaml", "train.output=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "train.txt").write_text(done.stdout)
    return folder


def test_training_says_protocol_speakers_epochs_and_what_next(workplace):
    said = (workplace / "train.txt").read_text()
    assert "protocol: speakers, speaker-independent" in said
    assert "24 train (2 speakers), 24 valid (2 speakers), 24 test (2 speakers)" in said
    assert said.count("clips/s") == 6
    assert "evaluate: python scripts/evaluate.py --checkpoint run/best.safetensors" in said


def test_the_run_folder_holds_what_scripts_rely_on(workplace):
    names = {path.name for path in (workplace / "run").iterdir()}
    assert {"config.yaml", "metrics.jsonl", "best.safetensors", "last.safetensors"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert (workplace / "run/config.yaml").read_text().startswith("# protocol: speakers, speaker-independent\n")
    records = [json.loads(line) for line in (workplace / "run/metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == list(range(6))


def test_evaluation_needs_nothing_but_the_checkpoint(workplace):
    done = script("evaluate", "--checkpoint", "run/best.safetensors", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert "over 2 speakers" in done.stdout
    result = json.loads((workplace / "run/evaluation.json").read_text())
    assert {"accuracy", "uar", "macro_f1", "weighted_f1", "protocol", "n_clips"} <= result.keys()
    assert result["n_clips"] == 24
    assert result["uar"] > 0.6  # the tiny corpus's emotion is its pitch
    rows = list(csv.DictReader((workplace / "run/predictions.csv").open()))
    assert len(rows) == 24
    assert sum(row["target"] == row["prediction"] for row in rows) / 24 == pytest.approx(result["accuracy"])
    for picture in ("confusion", "report", "curves"):
        assert (workplace / f"run/{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_what_noise_and_rooms_leave_of_a_figure_stands_in_a_table_a_file_and_a_picture(workplace):
    done = here("stress", "--checkpoint", "run/best.safetensors", "--out", "stressed", cwd=workplace)
    assert done.returncode == 0, done.stderr
    result = json.loads((workplace / "stressed/stress.json").read_text())
    assert result["protocol"].startswith("speakers, speaker-independent") and result["part"] == "test"
    assert all(row["condition"] in done.stdout for row in result["conditions"])
    assert "written: stressed/stress.json" in done.stdout
    assert (workplace / "stressed/stress.png").read_bytes().startswith(b"\x89PNG")


def test_a_checkpoint_becomes_a_file_for_other_programs(workplace, tiny_root):
    import onnxruntime

    file = sorted((tiny_root / "Actor_05").iterdir())[0]
    done = script("export", "--checkpoint", "run/best.safetensors", file, cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("run/best.onnx: ") and "on 7 clips" in done.stdout
    waveform, _ = soundfile.read(file, dtype="float32")
    [found] = onnxruntime.InferenceSession(workplace / "run/best.onnx").run(None, {"waveform": waveform[None]})
    said = here("predict", "--checkpoint", "run/best.safetensors", "--json", file, cwd=workplace)
    np.testing.assert_allclose(found[0], [*json.loads(said.stdout)[0]["probabilities"].values()], atol=1e-5)


def test_a_voice_may_be_enrolled_for_evaluation_and_prediction(workplace, tiny_root):
    done = here("evaluate", "--checkpoint", "run/best.safetensors", "--adapt", "--out", "known", cwd=workplace)
    assert done.returncode == 0, done.stderr
    result = json.loads((workplace / "known/evaluation.json").read_text())
    assert "ADAPTED to each speaker with 12 unlabeled clips" in result["protocol"] and result["without_adaptation"]["uar"] > 0.6
    assert "without speaker adaptation: UAR" in done.stdout
    mine, other = tiny_root / "Actor_05", tiny_root / "Actor_06"
    file = str(sorted(mine.iterdir())[0])
    runs = [["--adapt-to", str(mine), file], ["--adapt-to", str(other), file], [file]]
    said = [here("predict", "--checkpoint", "run/best.safetensors", "--json", *run, cwd=workplace) for run in runs]
    assert len({run.stdout for run in said}) == 3
    few = here("predict", "--checkpoint", "run/best.safetensors", "--adapt-to", file, file, cwd=workplace)
    assert few.returncode == 6 and "give two or more" in few.stderr


def test_a_broken_file_of_a_voice_is_named_and_the_others_enrol_it(workplace, tiny_root):
    mine = sorted((tiny_root / "Actor_05").iterdir())
    for name, clips in (("whole", mine[:4]), ("mixed", mine[:4]), ("poor", mine[:1])):
        (workplace / name).mkdir()
        for clip in clips:
            shutil.copy(clip, workplace / name)
        if name != "whole":
            (workplace / name / "b.wav").write_text("no audio")
    whole, mixed, poor = (
        here("predict", "--checkpoint", "run/best.safetensors", "--json", "--adapt-to", voice, mine[5], cwd=workplace)
        for voice in ("whole", "mixed", "poor")
    )
    assert (whole.returncode, mixed.returncode, poor.returncode) == (0, 1, 6)
    assert mixed.stdout == whole.stdout
    assert mixed.stderr.startswith("mixed/b.wav: not used for the voice: not_audio: ")
    assert mixed.stderr.count("\n") == 1
    assert "poor/b.wav: not used" in poor.stderr and "give two or more" in poor.stderr


def test_prediction_prints_a_table_or_json(workplace, tiny_root):
    files = [str(path) for path in sorted((tiny_root / "Actor_05").iterdir())[:2]]
    table = script("predict", "--checkpoint", "run/best.safetensors", *files, cwd=workplace)
    assert table.returncode == 0, table.stderr
    assert all(file in table.stdout for file in files)
    done = here("predict", "--checkpoint", "run/best.safetensors", "--json", *files, cwd=workplace)
    rows = json.loads(done.stdout)
    assert [row["path"] for row in rows] == files
    assert all(set(row["probabilities"]) == {"neutral", "happy", "angry"} for row in rows)


def test_a_verdict_below_the_asked_probability_is_told_as_unsure(workplace, tiny_root):
    files = sorted(tiny_root.glob("Actor_0[56]/*"))
    done = here(
        "predict", "--checkpoint", "run/best.safetensors", "--json", "--min-confidence", "0.8", *files, cwd=workplace
    )
    rows = json.loads(done.stdout)
    for row in rows:
        likeliest = max(row["probabilities"], key=row["probabilities"].get)
        assert row["label"] == (likeliest if row["probabilities"][likeliest] >= 0.8 else "unsure")
    assert 0 < sum(row["label"] == "unsure" for row in rows) < len(files)
    for wrong in ("2", "often"):
        refused = here(
            "predict", "--checkpoint", "run/best.safetensors", "--min-confidence", wrong, files[0], cwd=workplace
        )
        assert refused.returncode == 2 and "argument --min-confidence" in refused.stderr


@pytest.fixture(scope="module")
def recording(workplace) -> Path:
    """Three made-up utterances with pauses, at another rate than the model's."""
    make_corpus(workplace / "voices", 1, 1, 0)
    clips = [soundfile.read(path)[0] for path in sorted((workplace / "voices").rglob("*.wav"))[:3]]
    quiet = 1e-4 * np.random.default_rng(0).standard_normal(RATE)
    parts = [part for clip in clips for part in (quiet, clip)]
    path = workplace / "talk.flac"
    soundfile.write(path, soxr.resample(np.concatenate([*parts, quiet]), RATE, 44_100), 44_100)
    return path


def test_every_utterance_of_a_recording_is_told_with_its_time(workplace, recording):
    table = here("listen", "--checkpoint", "run/best.safetensors", recording, cwd=workplace)
    assert table.returncode == 0, table.stderr
    assert [line.split()[0] for line in table.stdout.splitlines()] == ["1.0", "3.0", "5.2"]
    objects = here("listen", "--checkpoint", "run/best.safetensors", "--json", recording, cwd=workplace)
    rows = [json.loads(line) for line in objects.stdout.splitlines()]
    for row, line in zip(rows, table.stdout.splitlines(), strict=True):
        assert 0.7 < row["end"] - row["start"] < 1.7
        assert set(row["probabilities"]) == {"neutral", "happy", "angry"}
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get) == line.split()[4]


def test_what_another_program_pipes_in_is_heard_like_a_file(workplace, recording, tiny_root):
    samples, rate = soundfile.read(recording, dtype="int16")
    raw = workplace / "talk.raw"
    raw.write_bytes(samples.astype("<i2").tobytes())
    arguments = ["--checkpoint", "run/best.safetensors", "--adapt-to", str(tiny_root / "Actor_05")]
    with raw.open("rb") as pipe:
        piped = script("listen", *arguments, "--sample-rate", str(rate), "-", cwd=workplace, stdin=pipe)
    file = here("listen", *arguments, recording, cwd=workplace)
    assert piped.returncode == file.returncode == 0, piped.stderr
    assert piped.stdout == file.stdout
    assert file.stdout != here("listen", *arguments[:2], recording, cwd=workplace).stdout  # the voice counts


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


def test_a_microphone_is_listened_to_until_ctrl_c(workplace, recording):
    (workplace / "fake").mkdir()
    (workplace / "fake/sounddevice.py").write_text(PLAYER)
    environment = {**os.environ, "PYTHONPATH": f"{workplace / 'fake'}:{ROOT}"}
    file = here("listen", "--checkpoint", "run/best.safetensors", recording, cwd=workplace).stdout
    command = [sys.executable, str(ROOT / "scripts/listen.py"), "--checkpoint", "run/best.safetensors"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    live = subprocess.Popen(command, **pipes, text=True, cwd=workplace, env=environment)
    watch = threading.Timer(120, live.kill)
    watch.start()
    told = [live.stdout.readline() for _ in file.splitlines()]
    live.send_signal(signal.SIGINT)
    rest, err = live.communicate()
    watch.cancel()
    assert (live.returncode, rest) == (0, ""), err
    assert err == "listening; an utterance is told when a pause follows; Ctrl-C ends\n"
    assert "".join(told) == file


def test_a_recording_without_speech_or_cut_short_says_so(workplace, recording):
    soundfile.write(workplace / "still.wav", np.zeros(3 * RATE), RATE)
    still = here("listen", "--checkpoint", "run/best.safetensors", "still.wav", cwd=workplace)
    assert (still.returncode, still.stdout, still.stderr) == (1, "", "still.wav: no speech was found\n")
    samples, rate = soundfile.read(recording)
    soundfile.write(workplace / "whole.wav", samples, rate)
    (workplace / "cut.wav").write_bytes((workplace / "whole.wav").read_bytes()[: 2 * 6 * rate])
    cut = here("listen", "--checkpoint", "run/best.safetensors", "cut.wav", cwd=workplace)
    assert cut.returncode == 6
    assert "cut.wav: truncated" in cut.stderr
    assert len(cut.stdout.splitlines()) == 2  # what was heard before is told


def test_one_bad_file_is_reported_and_the_exit_code_says_so(workplace, tiny_root):
    (workplace / "bad.wav").write_text("x")
    good = str(next((tiny_root / "Actor_05").iterdir()))
    done = here("predict", "--checkpoint", "run/best.safetensors", "bad.wav", good, cwd=workplace)
    assert done.returncode == 1
    assert "not_audio" in done.stdout
    assert "Traceback" not in done.stderr


def test_resuming_a_finished_run_changes_nothing(workplace):
    before = (workplace / "run/metrics.jsonl").read_text()
    done = here("train", "--config", "tiny.yaml", "train.output=run", "--resume", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert (workplace / "run/metrics.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
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
        (["leakage", "--config", "tiny.yaml", "--out", "."], 2, "error: --out .: a lesson is there already"),
        (["train", "--config", "tiny.yaml", "train.output=/proc/nowhere"], 5, "/proc/nowhere"),
        (["train", "--config", "tiny.yaml", "train.output=wild", "optim.lr=1e30"], 4, "03-01-0"),
        (["evaluate", "--checkpoint", "tiny.yaml"], 7, "not a checkpoint"),
        (["evaluate", "--checkpoint", "run/best.safetensors", "--part", "all"], 6, "--allow-seen"),
        (["predict", "--checkpoint", "absent.safetensors", "a.wav"], 7, "absent.safetensors"),
        (["listen", "--checkpoint", "run/best.safetensors", "absent.wav"], 6, "absent.wav: unreadable"),
    ],
    ids=lambda value: " ".join(value[:1] + value[-1:]) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_line_and_its_exit_code(arguments, code, told, workplace):
    run = script if code == 4 else here
    done = run(*arguments, cwd=workplace)
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_run_folder_in_use_is_exit_3_and_names_its_holder(workplace):
    with lock_run_folder(workplace / "held"):
        done = here("train", "--config", "tiny.yaml", "train.output=held", cwd=workplace)
    assert done.returncode == 3
    assert f"process {os.getpid()} is training here" in done.stderr and done.stderr.count("\n") == 1


def test_a_file_whose_name_is_no_text_is_told_by_its_bytes(workplace, tiny_root):
    good = next((tiny_root / "Actor_05").iterdir())
    odd = os.fsencode(workplace / "odd") + b"\xff.wav"
    shutil.copy(good, os.fsdecode(odd))
    command = [sys.executable, str(ROOT / "scripts/predict.py"), "--checkpoint", "run/best.safetensors", odd]
    done = subprocess.run(command, capture_output=True, cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert b"odd\\udcff.wav" in done.stdout


def test_a_corpus_in_a_folder_whose_name_is_no_text_is_trained_on_and_evaluated(workplace, tiny_root):
    corpus = workplace / "corpus"
    shutil.copytree(tiny_root, corpus / os.fsdecode(b"n\xff"))
    (corpus / os.fsdecode(b"n\xff/Actor_01") / "03-01-01-02-02-01-01.wav").write_text("x")  # set aside by its name
    done = script(
        "train", "--config", "tiny.yaml", f"data.root={corpus}", "train.epochs=1", "train.output=odd", cwd=workplace
    )
    assert done.returncode == 0, done.stderr
    assert "n\\udcff/Actor_01/03-01-01-02-02-01-01.wav" in done.stdout and "TensorBoard stops" not in done.stdout
    done = script("evaluate", "--checkpoint", "odd/best.safetensors", cwd=workplace)
    assert done.returncode == 0, done.stderr
    paths = [row["path"] for row in csv.DictReader((workplace / "odd/predictions.csv").open())]
    assert len(paths) == 24 and all("corpus/n\\udcff/Actor_0" in path for path in paths)
    assert len(json.loads((workplace / "odd/evaluation.json").read_text())["per_speaker"]) == 2


def test_debug_shows_the_traceback(workplace):
    done = here("train", "--config", "tiny.yaml", "optim.rl=3", "--debug", cwd=workplace)
    assert done.returncode == 2
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "scripts").glob("*.py")))
def test_help_has_examples_and_exit_codes(name, tmp_path):
    done = script(name, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "examples:" in done.stdout
    assert "exit codes:" in done.stdout


def test_the_leakage_lesson_shows_how_a_random_recipe_is_taught(tmp_path):
    told = script("leakage", "--help", cwd=tmp_path).stdout
    assert "--config configs/published/ravdess_mlp.yaml data.root=DIR data.protocol=luna5" in told
