"""Cross-validation from the command line: every fold runs once, finished folds are kept, settings are never mixed."""

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from serx.config.loader import load_config
from serx.data.dataset import load_dataset
from serx.data.labels import EMOTIONS
from serx.data.scanning.scanner import scan
from serx.data.utterances import Utterances
from serx.errors import ConfigError
from serx.evaluation import evaluate
from serx.evaluation.finished_runs import read_cross_validation
from serx.experiments.cross_validation import fold_commands
from serx.experiments.fold_runs import Workers
from serx.experiments.folds import plan_folds
from serx.inference.explanation import explain_clip
from serx.inference.prediction import Prediction
from serx.inference.predictor import Predictor
from serx.metrics import ccc
from serx.pages import Reproduction, cross_validation_page
from serx.pages.clips import SALIENCY_STEPS
from serx.pages.cross_validation_page import _explainer
from serx.training.run_folder import lock_run_folder
from tests.conftest import speechlike
from tests.pages.test_evaluation_page import text_of

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
NET = (
    "features: {n_mels: 16, n_fft: 512, statistics: [mean, std]}\n"
    "model: {kind: mlp, widths: [16]}\n"
    "optim: {lr: 1e-2}\n"
    "train: {epochs: 3, batch_size: 8, threads: 1, device: cpu}\n"
)


def run_script(command: list[str]) -> SimpleNamespace:
    """Runs a command of serx in this process, which has imported everything; returns its output and exit code."""
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        module = command[1] == "-m"
        patch.setattr(sys, "argv", command[2:] if module else command[1:])
        with pytest.raises(SystemExit) as end:
            (runpy.run_module if module else runpy.run_path)(command[2 if module else 1], run_name="__main__")
    return SimpleNamespace(returncode=end.value.code, stdout=out.getvalue(), stderr=err.getvalue())


def run_in_this_process(jobs, slots, threads, on_end) -> None:
    """`run_in_parallel` without the start of an interpreter for each command."""
    for slot, job in enumerate(jobs):
        commands, code = deque(job.commands(slot % slots)), 0
        while commands and code == 0:
            done = run_script(commands.popleft())
            code = done.returncode
            job.log.parent.mkdir(parents=True, exist_ok=True)
            with job.log.open("a") as log:
                log.write(done.stdout + done.stderr)
        on_end(job, code, 1.0)


def cross_validate(*arguments, cwd: Path) -> SimpleNamespace:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr("serx.experiments.fold_runs.run_in_parallel", run_in_this_process)
        return run_script([sys.executable, str(ROOT / "scripts/cross_validate.py"), *map(str, arguments)])


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, tiny_root) -> Path:
    """Two finished folds of the tiny corpus, with another small network as the baseline."""
    folder = tmp_path_factory.mktemp("folds")
    data = f"data: {{root: {tiny_root}, protocol: kfold, folds: 2, cache: {folder / 'cache'}}}\n"
    (folder / "net.yaml").write_text(data + NET)
    (folder / "other.yaml").write_text(f"data: {{root: elsewhere}}\n{NET.replace('1e-2', '1e-9')}")
    done = cross_validate(
        "--config", "net.yaml", "--out", "out", "--baseline", "other.yaml", "--report", "page.html", cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


def test_every_clip_is_predicted_once_by_a_model_not_trained_on_its_speaker(workplace, tiny_root):
    result = json.loads((workplace / "out/cross_validation.json").read_text())
    assert {"accuracy", "uar", "macro_f1", "intervals", "folds", "per_fold", "per_sex", "protocol"} <= result.keys()
    assert result["complete"] and result["n_clips"] == 72 and result["n_speakers"] == 6
    assert result["protocol"] == "kfold folds 0-1, speaker-independent"
    assert result["uar"] > 0.6  # the tiny corpus's emotion is its pitch
    results = read_cross_validation(workplace / "out")
    assert sorted(path for r in results for path in r.predictions.paths) == sorted(map(str, tiny_root.rglob("*.wav")))
    for r in results:
        folder = workplace / f"out/seed-0/fold-{r.fold}"
        own = json.loads((folder / "test/evaluation.json").read_text())
        assert set(own["per_speaker"]) == set(r.predictions.speaker_ids)
        assert result["folds"][r.fold]["uar"] == pytest.approx(own["uar"])
    for name in ("confusion.png", "speakers.png"):
        assert (workplace / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_a_cross_validation_can_be_written_as_a_page_of_all_folds_with_sound(workplace):
    result, page = (
        json.loads((workplace / "out/cross_validation.json").read_text()),
        (workplace / "page.html").read_text(),
    )
    text = text_of(page)
    assert result["protocol"] in text and f"{100 * result['uar']:.1f} % UAR" in text
    assert all(f"{100 * fold['uar']:.1f}" in text for fold in result["folds"]) and "2 runs." in text
    wrong = sum(
        (r.predictions.predicted != r.predictions.targets).sum() for r in read_cross_validation(workplace / "out")
    )
    assert page.count("<audio") == page.count('<svg class="strip"') == min(10, wrong) > 0
    assert "Of seed 0 fold 0 alone: each fold has a network of its own." in text and "map-speaker" in page
    assert f"--checkpoint {Path('out/seed-0/fold-0/best.safetensors')}" in text


def test_the_page_of_a_cross_validation_has_the_stress_test_of_its_first_fold_and_says_what_is_gone(
    workplace, tmp_path
):
    out = tmp_path / "out"
    shutil.copytree(workplace / "out", out)
    config = load_config(out / "seed-0/fold-0/config.yaml")
    summary, dataset = json.loads((out / "cross_validation.json").read_text()), load_dataset(config.data)
    own = json.loads((out / "seed-0/fold-0/test/evaluation.json").read_text())
    conditions = [{"condition": "as recorded", "strength": "", "uar": own["uar"], "change": 0.0, "interval": None}]
    same = {key: own[key] for key in ("part", "protocol", "n_clips", "n_speakers")}
    (out / "seed-0/fold-0/stress.json").write_text(json.dumps(same | {"conditions": conditions}))
    (out / "seed-0/fold-0/best.safetensors").unlink()
    text = text_of(cross_validation_page(out, config, dataset, summary, Reproduction()))
    assert "as recorded" in text and "Of seed 0 fold 0 alone. One disturbance at a time" in text
    assert text.count("The checkpoint of seed 0 fold 0 cannot be read") == 2


def test_each_mistake_is_explained_by_the_network_of_its_fold(workplace):
    results = read_cross_validation(workplace / "out")
    explain = _explainer(results, [workplace / f"out/seed-0/fold-{r.fold}" for r in results])
    wave = speechlike(0.5, 150, 0)
    count = len(results[0].paths)
    for i, result, row in ((count - 1, results[0], count - 1), (count, results[1], 0)):
        predictor = Predictor.load(workplace / f"out/seed-0/fold-{result.fold}" / "best.safetensors", "cpu")
        label = result.predictions.labels[result.predictions.predicted[row]]
        expected = explain_clip(predictor.recognizer, wave, Prediction(probabilities={}), label, steps=SALIENCY_STEPS)
        np.testing.assert_allclose(explain(i, wave).frame_saliency, expected.frame_saliency, rtol=1e-4, atol=1e-6)


def test_the_baseline_has_the_same_data_and_is_compared(workplace):
    text = (workplace / "stdout.txt").read_text()
    theirs = load_config(workplace / "out/baseline/seed-0/fold-1/config.yaml")
    ours = load_config(workplace / "out/seed-0/fold-1/config.yaml")
    assert theirs.data == ours.data and theirs.optim != ours.optim
    assert (theirs.train.threads, theirs.train.device) == (1, "cpu")
    comparison = json.loads((workplace / "out/comparison.json").read_text())
    baseline = json.loads((workplace / "out/baseline/cross_validation.json").read_text())
    assert [run["run"] for run in comparison["runs"]] == ["out/baseline", "out"]
    assert comparison["comparisons"][0]["uar"]["b"] == pytest.approx(baseline["uar"])
    assert comparison["settings"]["optim.lr"] == [1e-9, 1e-2]
    assert "B - A" in text and "Wilcoxon" in text and "kfold folds 0-1" in text


def test_without_validation_the_baseline_keeps_its_own_share_of_validation_clips(workplace, tmp_path):
    arguments = ("--config", "net.yaml", "--baseline", "other.yaml", "--folds", 1, "--out", tmp_path / "out")
    done = cross_validate(*arguments, "data.valid_fraction=0", "train.select=last", cwd=workplace)
    assert done.returncode == 0, done.stdout + done.stderr
    ours, theirs = (load_config(tmp_path / name / "seed-0/fold-1/config.yaml").data for name in ("out", "out/baseline"))
    assert (ours.valid_fraction, theirs.valid_fraction) == (0, 0.15)
    assert theirs.model_copy(update={"valid_fraction": 0}) == ours
    assert "protocol: kfold fold 1, speaker-independent, no validation\n" in done.stdout


def test_finished_folds_are_kept_and_the_others_are_run(workplace, tmp_path):
    out = shutil.copytree(workplace / "out", tmp_path / "out")
    shutil.rmtree(out / "seed-0/fold-1")
    kept = (out / "seed-0/fold-0/last.safetensors").stat().st_mtime_ns
    (out / "seed-0/fold-0/test/predictions.csv").touch()
    done = cross_validate("--config", "net.yaml", "--out", out, "--baseline", "none", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert "1 finished, 1 to do" in done.stdout and "seed 0 fold 0:" not in done.stdout
    assert (out / "seed-0/fold-0/last.safetensors").stat().st_mtime_ns == kept
    again, before = (json.loads((p / "cross_validation.json").read_text()) for p in (out, workplace / "out"))
    assert again["confusion"] == before["confusion"]


def test_folds_of_earlier_calls_are_pooled_and_missing_folds_are_named(workplace, tmp_path):
    out = shutil.copytree(workplace / "out", tmp_path / "out")
    shutil.rmtree(out / "seed-0/fold-1")
    arguments = ("--config", "net.yaml", "--out", out, "--baseline", "none")
    one = cross_validate(*arguments, "--folds", 0, cwd=workplace)
    result = json.loads((out / "cross_validation.json").read_text())
    assert one.returncode == 0 and result["missing"] == ["seed 0, fold 1"] and not result["complete"]
    assert result["n_clips"] == 36 and "missing: seed 0, fold 1" in one.stdout
    cross_validate(*arguments, "--folds", 1, cwd=workplace)
    result = json.loads((out / "cross_validation.json").read_text())
    assert result["complete"] and result["n_clips"] == 72 and not result["missing"]
    # A second seed with one fold is not pooled with the first yet.
    two = cross_validate(*arguments, "--seeds", 1, "--folds", 1, cwd=workplace)
    result = json.loads((out / "cross_validation.json").read_text())
    assert [seed["seed"] for seed in result["seeds"]] == [0] and not result["complete"]
    assert result["missing"] == ["seed 1, fold 0"] and result["incomplete_seeds"] == [
        "seed 1, which has only fold 1 yet"
    ]
    assert "not pooled: seed 1, which has only fold 1 yet" in two.stdout
    both = cross_validate(*arguments, "--seeds", 1, cwd=workplace)
    result = json.loads((out / "cross_validation.json").read_text())
    assert [seed["seed"] for seed in result["seeds"]] == [0, 1] and result["complete"], both.stderr


def test_a_second_cross_validation_in_the_same_folder_is_refused(workplace):
    with lock_run_folder(workplace / "out"):
        done = cross_validate("--config", "net.yaml", "--out", "out", "--baseline", "none", cwd=workplace)
    assert done.returncode == 3 and f"process {os.getpid()}" in done.stderr


def test_other_settings_are_refused_even_if_only_other_folds_are_requested(workplace):
    arguments = ("--config", "net.yaml", "--out", "out", "--baseline", "none", "train.epochs=7")
    for others in (("--seeds", 5), ("--folds", 0)):
        done = cross_validate(*arguments, *others, cwd=workplace)
        assert done.returncode == 2 and "train.epochs: 3 -> 7" in done.stderr


@pytest.mark.parametrize("damage", ["rows", "evaluation"])
def test_an_incomplete_evaluation_is_repeated(damage, workplace, tmp_path):
    out = shutil.copytree(workplace / "out", tmp_path / "out")
    before = json.loads((out / "cross_validation.json").read_text())
    table = out / "seed-0/fold-1/test/predictions.csv"
    if damage == "rows":
        table.write_text("\n".join(table.read_text().splitlines()[:20]) + "\n")
    else:
        (table.parent / "evaluation.json").write_text("garbage")
    done = cross_validate("--config", "net.yaml", "--out", out, "--baseline", "none", cwd=workplace)
    assert done.returncode == 0 and "1 finished, 1 to do" in done.stdout, done.stderr
    after = json.loads((out / "cross_validation.json").read_text())
    assert after["confusion"] == before["confusion"] and after["complete"]


def test_a_damaged_checkpoint_fails_its_fold_only(workplace, tmp_path):
    out = shutil.copytree(workplace / "out", tmp_path / "out")
    (out / "seed-0/fold-1/best.safetensors").write_bytes(b"noise" * 600)
    shutil.rmtree(out / "seed-0/fold-0")
    done = cross_validate("--config", "net.yaml", "--out", out, "--baseline", "none", cwd=workplace)
    assert done.returncode == 7, done.stdout + done.stderr
    assert "seed 0 fold 1: FAILED with exit code 7: error:" in done.stdout and "damaged" in done.stdout
    result = json.loads((out / "cross_validation.json").read_text())
    assert [fold["fold"] for fold in result["folds"]] == [0] and result["missing"] == ["seed 0, fold 1"]


@pytest.mark.usefixtures("trusted")
def test_with_adapt_the_same_checkpoints_are_evaluated_again_adapted_to_each_speaker(workplace, tmp_path):
    out = shutil.copytree(workplace / "out", tmp_path / "out")
    arguments = ("--config", "net.yaml", "--out", out, "--baseline", "none", "--adapt")
    weights = [(out / f"seed-0/fold-{fold}/best.safetensors").read_bytes() for fold in (0, 1)]
    done = cross_validate(*arguments, cwd=workplace)
    assert done.returncode == 0 and "2 folds, 0 finished, 2 to do" in done.stdout, done.stdout + done.stderr
    assert "DIFFERENT PROTOCOLS: only B is adapted to each speaker" in done.stdout
    assert weights == [(out / f"seed-0/fold-{fold}/best.safetensors").read_bytes() for fold in (0, 1)]
    plain, adapted = (json.loads((folder / "cross_validation.json").read_text()) for folder in (out, out / "adapted"))
    assert adapted["complete"] and "ADAPTED" in adapted["protocol"] and "ADAPTED" not in plain["protocol"]
    assert [fold["without_adaptation"]["uar"] for fold in adapted["folds"]] == pytest.approx(plain["per_fold"]["uar"])
    before, after = (read_cross_validation(folder) for folder in (out, out / "adapted"))
    for a, b in zip(before, after, strict=True):
        assert a.predictions.paths == b.predictions.paths
        assert abs(a.predictions.probabilities - b.predictions.probabilities).max() > 1e-3
    comparison = json.loads((out / "adapted/comparison.json").read_text())
    uar = comparison["comparisons"][0]["uar"]
    assert (uar["a"], uar["b"]) == pytest.approx((adapted["uar"], plain["uar"]))

    later = (out / "seed-0/fold-1/adapted/evaluation.json").stat().st_mtime + 1
    os.utime(out / "seed-0/fold-1/best.safetensors", (later, later))  # trained again since
    (out / "seed-0/fold-0/adapted/evaluation.json").write_text("garbage")
    done = cross_validate(*arguments, cwd=workplace)
    assert "2 folds, 0 finished, 2 to do" in done.stdout
    os.utime(out / "seed-0/fold-1/best.safetensors", (later - 9, later - 9))
    assert "2 folds, 2 finished, 0 to do" in cross_validate(*arguments, cwd=workplace).stdout


def test_a_recipe_that_adapts_anyway_is_refused_before_any_training(workplace, tmp_path):
    arguments = ("--config", "net.yaml", "--out", tmp_path / "new", "--baseline", "none", "--adapt")
    done = cross_validate(*arguments, "model.adapt=true", cwd=workplace)
    assert done.returncode == 2 and "every fold is adapted already" in done.stderr and not (tmp_path / "new").exists()


@pytest.mark.parametrize("tasks", ["dimensions", "emotions, dimensions"])
def test_dimensions_are_cross_validated_alone_and_with_emotions(tasks, workplace, tiny_root, tmp_path):
    table = tmp_path / "rated.csv"
    clips = scan(tiny_root).utterances
    rated = {emotion: n for n, emotion in enumerate(sorted({clip.emotion for clip in clips}, key=EMOTIONS.index), 1)}
    rows = [f"{clip.path},{clip.emotion},{clip.speaker},{rated[clip.emotion]}\n" for clip in clips]
    table.write_text("path,emotion,speaker,arousal\n" + "".join(rows))
    out = tmp_path / "out"
    arguments = ("--config", "net.yaml", f"data.root={table}", f"data.tasks=[{tasks}]", "data.dimensions=[arousal]")
    baseline = ("--baseline", "other.yaml") if "emotions" in tasks else ()
    done = cross_validate(*arguments, "--out", out, *baseline, cwd=workplace)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((out / "cross_validation.json").read_text())
    folds = read_cross_validation(out)
    targets = np.concatenate([fold.ratings.targets[:, 0] for fold in folds])
    predicted = np.concatenate([fold.ratings.predicted[:, 0] for fold in folds])
    assert result["n_clips"] == 72 == len(targets) and "CCC" in done.stdout
    assert result["dimensions"]["arousal"]["ccc"] == pytest.approx(ccc(targets, predicted), abs=1e-6)
    assert result["dimensions"]["arousal"]["ccc"] > 0.3  # the tiny corpus's emotion is its pitch
    assert ("uar" in result) == ("emotions" in tasks) == (out / "comparison.json").exists()
    again = cross_validate(*arguments, "--out", out, *baseline, cwd=workplace)
    assert "2 finished, 0 to do" in again.stdout
    if "emotions" not in tasks:
        refused = cross_validate(*arguments, "--out", out, "--baseline", "other.yaml", cwd=workplace)
        assert refused.returncode == 2 and "--baseline is compared by its emotions" in refused.stderr


def test_fewer_than_one_process_is_refused(workplace):
    done = cross_validate("--config", "net.yaml", "--processes", -1, cwd=workplace)
    assert done.returncode == 2 and "--processes" in done.stderr


def test_a_folder_with_other_settings_is_refused_and_the_settings_are_named(workplace):
    done = cross_validate("--config", "net.yaml", "--out", "out", "optim.lr=0.5", "train.ema_decay=0.5", cwd=workplace)
    assert done.returncode == 2
    assert "optim.lr: 0.01 -> 0.5" in done.stderr and "train.ema_decay: 0.0 -> 0.5" in done.stderr
    assert "train.threads" not in done.stderr


def test_a_clip_that_was_added_or_removed_since_is_noticed(workplace, tiny_root, tmp_path):
    root = shutil.copytree(tiny_root, tmp_path / "tiny")
    config = load_config(workplace / "net.yaml")
    dataset = load_dataset(config.data, progress=False)
    assert [fold.state for fold in plan_folds(config, dataset, workplace / "out", [0])[0]] == ["finished"] * 2
    next((root / "Actor_03").iterdir()).unlink()
    fewer = load_dataset(config.data.model_copy(update={"root": str(root)}), progress=False)
    with pytest.raises(ConfigError, match=r"(train|valid|test) clips have changed"):
        plan_folds(config, fewer, workplace / "out", [0])


def test_a_fold_without_its_speakers_is_skipped_with_a_reason(workplace):
    config = load_config(workplace / "net.yaml", ["data.protocol=luna5"])
    dataset = load_dataset(config.data, progress=False)
    folds, skipped = plan_folds(config, dataset, workplace / "new", [0, 1])
    assert {fold.number for fold in folds} == {0, 4}  # of actors 1 to 6: fold 1 has no validation, 2 and 3 no test
    assert [(fold.seed, fold.number) for fold in folds] == sorted((fold.seed, fold.number) for fold in folds)
    assert len(skipped) == 3 and "fold 2: RAVDESS speakers 10 11 12 19 20 are all missing" in skipped[1]


@pytest.mark.parametrize(
    ("protocol", "count"), [("loso", 6), ("kfold", 2), ("emobox6", 4), ("random", 1), ("cross_corpus", 2), ("loco", 2)]
)
def test_every_protocol_has_its_number_of_folds(protocol, count, workplace, tiny_root):
    config = load_config(workplace / "net.yaml", [f"data.protocol={protocol}"])
    dataset = load_dataset(config.data, progress=False)
    if protocol in ("cross_corpus", "loco"):
        renamed = [replace(u, corpus="b" if u.speaker in "05 06" else "a") for u in dataset.utterances]
        dataset = replace(dataset, utterances=Utterances.of(renamed))
    folds, _ = plan_folds(config, dataset, workplace / "new", [0])
    assert len(folds) == count
    assert all(("LEAKY" in fold.protocol) == (protocol == "random") for fold in folds)


def test_leave_one_corpus_out_is_one_command_and_scores_what_the_other_corpora_taught(
    workplace, tiny_root, tess_root, tmp_path
):
    roots = f"data.root=[{tiny_root}, {tess_root}]"
    arguments = (
        "--config", "net.yaml", "--out", tmp_path, "--baseline", "none", "--adapt",
        roots, "data.protocol=loco", "train.epochs=1",
    )  # fmt: skip
    done = cross_validate(*arguments, cwd=workplace)
    assert done.returncode == 0, done.stdout + done.stderr
    result, adapted = (json.loads((tmp_path / name / "cross_validation.json").read_text()) for name in (".", "adapted"))
    # RAVDESS: neutral, happy, angry; TESS: happy, angry, sad
    assert [fold["n_clips"] for fold in result["folds"]] == [48, 4] == [fold["n_clips"] for fold in adapted["folds"]]
    assert result["fold_mean"]["uar"] == pytest.approx(sum(fold["uar"] for fold in result["folds"]) / 2)
    assert "24 test clips of it left out" in result["protocol"] and "2 test clips of it left out" in result["protocol"]
    assert "ravdess, tess held out, one in each fold" in adapted["protocol"] and "ADAPTED" in adapted["protocol"]
    table = done.stdout[done.stdout.index("By corpus left out, %") :].splitlines()
    assert [line.split()[0] for line in table[2:5]] == ["ravdess", "tess", "mean"]
    checkpoint = tmp_path / "seed-0/fold-1/best.safetensors"
    stamp = evaluate(checkpoint, progress=False, device="cpu", cache=tmp_path / "cache").protocol
    assert stamp == (
        "loco fold 1, speaker-independent, no training clip of sad, 2 test clips of it left out, tess held out; "
        "among the emotions of the test corpus"
    )


def test_each_process_has_its_device_and_its_share_of_the_cpu_cores(workplace, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(24)), raising=False)
    monkeypatch.setattr("torch.get_num_threads", lambda: 12)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    config = load_config(workplace / "net.yaml", ["train.threads=null"])
    out = tmp_path / "odd: #name"
    folds, _ = plan_folds(config, load_dataset(config.data, progress=False), out, [3])
    workers = Workers(5, ("cuda:0", "cuda:1"))
    for slot, device in enumerate(["cuda:0", "cuda:1", "cuda:0"]):
        train, evaluate = fold_commands(folds[1], out, workers, slot)
        own = load_config(workplace / "net.yaml", [setting for setting in train if "." in setting and "=" in setting])
        assert (own.train.device, own.train.threads, own.train.seed, own.data.fold) == (device, 2, 3, 1)
        assert own.train.output == str(out / "seed-3/fold-1")
        assert evaluate[-2:] == ["--device", device] and "--resume" not in train
    assert workers.threads(config) == (2, "cores of this process: 12")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "10")
    assert Workers(3).threads(config) == (3, "SLURM_CPUS_PER_TASK: 10")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert workers.threads(config) == (7, "OMP_NUM_THREADS")
    assert workers.threads(load_config(workplace / "net.yaml", ["train.threads=4"])) == (4, "train.threads")


def test_a_fold_that_fails_is_named_and_the_others_run(workplace, tmp_path):
    out = shutil.copytree(workplace / "out", tmp_path / "out")
    for number in (0, 1):
        shutil.rmtree(out / f"seed-0/fold-{number}/test")
    (out / "seed-0/fold-0/last.safetensors").write_bytes(b"damaged")
    (out / "seed-0/fold-0/previous.safetensors").write_bytes(b"damaged")
    done = cross_validate("--config", "net.yaml", "--out", out, "--baseline", "none", cwd=workplace)
    assert done.returncode == 7, done.stdout + done.stderr
    assert "seed 0 fold 0: FAILED with exit code 7: error:" in done.stdout
    assert "failed: seed 0 fold 0 (exit code 7" in done.stdout
    result = json.loads((out / "cross_validation.json").read_text())
    assert not result["complete"] and [fold["fold"] for fold in result["folds"]] == [1]
    assert result["protocol"] == "kfold fold 1, speaker-independent"


def test_a_signal_reaches_the_fold_which_saves_and_the_same_command_continues(workplace, tmp_path):
    settings = ["data.protocol=speakers", "data.test_speakers=[5, 6]", "data.valid_speakers=[3, 4]", "train.epochs=100"]
    arguments = ["--config", "net.yaml", "--out", str(tmp_path / "out"), "--baseline", "none", *settings]
    command = [sys.executable, str(ROOT / "scripts/cross_validate.py"), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=workplace)
    run = tmp_path / "out/seed-0/fold-0"
    while not (run / "last.safetensors").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 143, out + err
    assert "stopped with 1 of 1 runs to do; the same command continues" in out
    assert "stopped; continue with" in (run / "log.txt").read_text()  # it saved
    assert not _alive(int((run / ".owner").read_text().split()[0]))
    done = cross_validate(*arguments, cwd=workplace)
    assert done.returncode == 0, done.stdout + done.stderr
    epochs = [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(100))
    result = json.loads((tmp_path / "out/cross_validation.json").read_text())
    assert result["complete"] and result["protocol"] == "speakers, speaker-independent"


def _alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True
