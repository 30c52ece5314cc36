"""Parts of a cross-validation: one command each, which skips what is done, run by any scheduler."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from serx.errors import ConfigError
from serx.experiments import executors
from serx.experiments.executors import ClusterJob, PartCommand, run_on_cluster, write_script
from serx.experiments.parts import lock_part
from tests.experiments.test_cross_validation import NET, cross_validate

pytestmark = pytest.mark.slow
PYTHON = [sys.executable, "-c"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, tiny_root) -> Path:
    """A cross-validation of two folds, with a baseline and speaker adaptation, that was run part by part."""
    folder = tmp_path_factory.mktemp("parts")
    data = f"data: {{root: {tiny_root}, protocol: kfold, folds: 2, cache: {folder / 'cache'}}}\n"
    (folder / "net.yaml").write_text(data + NET.replace("train: {", "train: {loggers: [], "))
    (folder / "other.yaml").write_text(data + NET.replace("1e-2", "1e-9").replace("train: {", "train: {loggers: [], "))
    listed = run(folder, "--list-parts").stdout.splitlines()
    (folder / "listed").write_text("\n".join(listed))
    for line in listed:
        words = shlex.split(line)
        assert words[:4] == [sys.executable, "-m", "serx", "cross-validate"]
        done = cross_validate(*words[4:], cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def run(folder, *words):
    return cross_validate(
        "--config", "net.yaml", "--out", "out", "--baseline", "other.yaml", "--adapt", *words, cwd=folder
    )


def test_the_parts_together_are_the_whole_cross_validation(workplace):
    assert len((workplace / "listed").read_text().splitlines()) == 4  # two folds of the recipe, two of the baseline
    assert not (workplace / "out/cross_validation.json").exists()
    collected = run(workplace, "--collect", "--json")
    assert collected.returncode == 0, collected.stderr
    document = json.loads(collected.stdout)
    assert document["cross_validation"]["complete"] and document["baseline"]["complete"]
    assert document["adapted"]["complete"] and document["cross_validation"]["n_clips"] == 72
    assert {"adapted_comparison", "baseline_comparison"} <= document.keys()


def test_a_part_that_is_done_is_skipped_and_an_unknown_one_is_refused(workplace):
    kept = (workplace / "out/seed-0/fold-1/last.safetensors").stat().st_mtime_ns
    done = run(workplace, "--part", 1)
    assert done.returncode == 0 and "seed 0 fold 1: done before" in done.stdout
    assert (workplace / "out/seed-0/fold-1/last.safetensors").stat().st_mtime_ns == kept
    beyond = run(workplace, "--part", 4)
    assert beyond.returncode == 2 and "--part 4: there are parts 0 to 3" in beyond.stderr


def test_a_part_that_another_process_runs_is_refused_and_left_out_of_the_whole(workplace, tmp_path):
    out = shutil.copytree(workplace / "out", tmp_path / "out")
    shutil.rmtree(out / "seed-0/fold-1")
    words = ("--config", "net.yaml", "--out", out, "--baseline", "none")
    with lock_part(out, "seed-0-fold-1"):
        refused = cross_validate(*words, "--part", 1, cwd=workplace)
        assert refused.returncode == 3 and f"process {os.getpid()} on" in refused.stderr
        whole = cross_validate(*words, cwd=workplace)
        assert "seed-0-fold-1" in whole.stdout and "runs it" in whole.stdout
    result = json.loads((out / "cross_validation.json").read_text())
    assert result["missing"] == ["seed 0, fold 1"] and not (out / "seed-0/fold-1").exists()


def test_collecting_trains_nothing_and_names_what_is_missing(workplace, tmp_path):
    out = shutil.copytree(workplace / "out", tmp_path / "out")
    shutil.rmtree(out / "seed-0/fold-0")
    done = cross_validate("--config", "net.yaml", "--out", out, "--baseline", "none", "--collect", cwd=workplace)
    assert done.returncode == 0 and "missing: seed 0, fold 0" in done.stdout
    assert not (out / "seed-0/fold-0").exists()


@pytest.mark.parametrize("executor", ["submitit-debug", "submitit-local"])
def test_submitit_runs_every_part_and_returns_its_exit_code(executor, tmp_path, capsys):
    pytest.importorskip("submitit")
    parts = {
        "good": [*PYTHON, f"open({str(tmp_path / 'here')!r}, 'w')"],
        "failed": [*PYTHON, "import sys; sys.exit(6)"],
        "busy": [*PYTHON, "import sys; sys.exit(3)"],
    }
    if executor == "submitit-local":
        del parts["busy"]
    codes = run_on_cluster(executor, parts, tmp_path, ClusterJob(minutes=5))
    assert codes == {"good": 0, "failed": 6, "busy": 3} if "busy" in parts else codes == {"good": 0, "failed": 6}
    assert (tmp_path / "here").exists()
    out = capsys.readouterr().out
    assert "failed: FAILED with exit code 6" in out and "good: done" in out
    assert run_on_cluster(executor, {}, tmp_path, ClusterJob()) == {}


def test_a_job_whose_time_is_over_lets_the_part_save_and_is_submitted_again(tmp_path):
    pytest.importorskip("submitit")
    ready, saved = tmp_path / "ready", tmp_path / "saved"
    program = (
        "import signal, time, pathlib\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(saved)!r}).touch(), exit(143)))\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(60)"
    )
    job, again = PartCommand([*PYTHON, program], str(tmp_path)), []

    class LeftError(Exception):
        pass

    def warn(*_):  # as submitit does while the job waits for the part
        again.append(job.checkpoint())
        raise LeftError

    def slurm():
        while not ready.exists():
            time.sleep(0.01)
        os.kill(job._process.pid, signal.SIGUSR2)  # Slurm warns all processes of the job
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, warn)
    thread = threading.Thread(target=slurm)
    thread.start()
    try:
        with pytest.raises(LeftError):
            job()
    finally:
        signal.signal(signal.SIGUSR1, before)
        thread.join()
    assert saved.exists()
    assert again[0].function.words == job.words and again[0].function is not job


def test_the_script_for_sbatch_starts_the_part_of_its_task(tmp_path, monkeypatch):
    folder = tmp_path / "a folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    parts = [[*PYTHON, f"open('part {number}', 'w'); raise SystemExit({number})"] for number in range(3)]
    job = ClusterJob(90, "gpu", cpus=4, gpus=1, memory_gb=2.5, at_once=2, options={"account": "lab"})
    script = write_script(parts, tmp_path / "out", job)
    options = [line for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    assert options == [f"#SBATCH --{text}" for text in (
        "job-name=serx", "array=0-2%2", f"output={tmp_path / 'out/jobs'}/%A_%a.log", "time=90", "cpus-per-task=4",
        "signal=B:TERM@90", "partition=gpu", "gpus-per-task=1", "mem=2560M", "account=lab",
    )]  # fmt: skip
    assert (tmp_path / "out/jobs").is_dir()
    for number in (2, 1):
        environment = {**os.environ, "SLURM_ARRAY_TASK_ID": str(number)}
        assert subprocess.run(["bash", script], env=environment, cwd=tmp_path, check=False).returncode == number
        assert (folder / f"part {number}").exists()
    assert not (folder / "part 0").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sbatch", "account"), "--sbatch account: write OPTION=VALUE"),
        (("--time", 0), "--time 0: give at least 1"),
        (("--gpus", -1), "cannot be negative"),
    ],
)
def test_wrong_requests_to_a_cluster_are_refused(words, message, workplace):
    done = run(workplace, "--executor", "sbatch", *words)
    assert done.returncode == 2 and message in done.stderr


def test_a_cluster_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="--executor slurm: the cluster refuses the jobs") as caught:
        run_on_cluster("slurm", {"a": ["true"]}, tmp_path, ClusterJob())
    assert "\n" not in str(caught.value)


def test_without_submitit_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(executors, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--executor slurm needs submitit: pip install 'serx\[cluster\]'"):
        executors.check_executor("slurm")
    executors.check_executor("processes")
