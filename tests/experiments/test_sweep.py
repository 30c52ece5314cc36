"""A sweep validates on every speaker outside the test part, ranks the settings, and keeps finished runs."""

import json
import sys
from types import SimpleNamespace

import pytest

from serx.config.loader import load_config
from serx.data.dataset import load_dataset, split_dataset
from serx.evaluation.predictions import from_csv
from serx.experiments.sweep_plan import AS_IT_IS, plan_sweep
from tests.experiments.test_cross_validation import NET, ROOT, run_in_this_process, run_script

pytestmark = pytest.mark.slow


def run_sweep(*arguments, cwd) -> SimpleNamespace:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr("serx.experiments.fold_runs.run_in_parallel", run_in_this_process)
        return run_script([sys.executable, str(ROOT / "scripts/sweep.py"), *map(str, arguments)])


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, tiny_root):
    """A learning rate that learns nothing and that of the recipe, on two groups of the four development speakers."""
    folder = tmp_path_factory.mktemp("sweep")
    data = f"data: {{root: {tiny_root}, protocol: kfold, folds: 3, fold: 1, cache: {folder / 'cache'}}}\n"
    (folder / "net.yaml").write_text(data + NET.replace("train: {", "train: {loggers: [], "))
    swept = run_sweep(
        "--config", "net.yaml", "--out", "out", "--groups", 2, "--seeds", 3, "train.epochs=4", "--try",
        "optim.lr=[1e-9, 1e-2]", cwd=folder,
    )  # fmt: skip
    assert swept.returncode == 0, swept.stdout + swept.stderr
    (folder / "stdout.txt").write_text(swept.stdout)
    return folder


def test_each_speaker_outside_the_test_part_validates_once_a_model_not_trained_on_them(workplace):
    config = load_config(workplace / "net.yaml")
    dataset = load_dataset(config.data)
    test_speakers = set(dataset.speaker_ids(split_dataset(dataset, config.data).test))
    validated = []
    for group in (0, 1):
        run = workplace / f"out/optim.lr=1e-09/seed-3/group-{group}"
        data = load_config(run / "config.yaml").data
        split = split_dataset(dataset, data)
        [(_, rows)] = from_csv(run / "valid/predictions.csv")
        assert set(rows.speaker_ids) == set(dataset.speaker_ids(split.valid)) and len(set(rows.speaker_ids)) == 2
        assert set(dataset.speaker_ids(split.test)) == test_speakers
        assert not set(rows.speaker_ids) & {*dataset.speaker_ids(split.train), *test_speakers}
        assert not (run / "test").exists()
        validated += rows.speaker_ids
    assert {*validated} | test_speakers == {u.speaker_id for u in dataset.utterances}
    assert len(validated) == sum(u.speaker_id not in test_speakers for u in dataset.utterances)


def test_the_best_setting_comes_first_and_becomes_a_recipe_with_the_original_protocol(workplace):
    ranking = json.loads((workplace / "out/sweep.json").read_text())
    best, worst = ranking["settings"]
    # optim.lr=1e-2 is the recipe as it is and does not run twice.
    assert (best["name"], worst["name"]) == (AS_IT_IS, "optim.lr=1e-09")
    assert best["uar"] > worst["uar"] and worst["difference"] == pytest.approx(worst["uar"] - best["uar"])
    assert best["difference"] is None and len(best["folds"]) == 2
    plan = plan_sweep(
        workplace / "net.yaml", ["train.epochs=4"], ["optim.lr=[1e-9, 1e-2]"], workplace / "out", groups=2, seeds=(3,)
    )
    recorded = {trial.overrides: trial.value for trial in plan.study().parts().values()}
    assert recorded == {tuple(row["overrides"]): pytest.approx(row["uar"]) for row in ranking["settings"]}
    assert ranking["protocol"].startswith("4 speakers outside the test part of kfold fold 1")
    recipe = load_config(workplace / "out/best.yaml")
    assert recipe == load_config(workplace / "net.yaml", ["train.epochs=4"])
    text = (workplace / "stdout.txt").read_text()
    assert (
        "2 settings, 2 groups and 1 seed each: 0 finished, 2 to do" in text
        and "the recipe as it is was the best" in text
    )
    assert (workplace / "out/sweep.png").read_bytes().startswith(b"\x89PNG")
    rows = [line.split(" | ") for line in (workplace / "out/sweep.md").read_text().splitlines() if " | " in line]
    assert [row[0] for row in rows] == ["| setting", "| ---", f"| {AS_IT_IS}", "| `optim.lr=1e-09`"]
    assert rows[2][-1] == "- |" and rows[3][-1].startswith(f"{100 * worst['difference']:+.1f} (")


def test_a_larger_sweep_keeps_the_runs_of_a_smaller_one_and_a_failure_stops_no_other_run(workplace):
    kept = workplace / "out/optim.lr=1e-09/seed-3/group-0/last.safetensors"
    before = kept.stat().st_mtime_ns
    done = run_sweep(
        "--config", "net.yaml", "--out", "out", "--groups", 2, "--seeds", 3, "train.epochs=4",
        "--try", "optim.lr=[1e-9, 1e6, 3e-2]", cwd=workplace,
    )  # fmt: skip
    assert "4 settings, 2 groups and 1 seed each: 2 finished, 2 to do" in done.stdout
    assert kept.stat().st_mtime_ns == before
    ranking = json.loads((workplace / "out/sweep.json").read_text())
    assert {row["name"] for row in ranking["settings"]} == {AS_IT_IS, "optim.lr=1e-09", "optim.lr=0.03"}
    assert ranking["missing"] == ["optim.lr=1000000.0"] and done.returncode == 4
    assert "failed: optim.lr=1000000.0 (exit code 4: " in done.stdout


def test_a_folder_with_runs_of_other_settings_is_refused(workplace):
    arguments = ("--config", "net.yaml", "--out", "out", "--groups", 2, "--seeds", 3, "--try", "optim.lr=[1e-9]")
    done = run_sweep(*arguments, "train.epochs=5", cwd=workplace)
    assert done.returncode == 2 and "holds a run of other settings" in done.stderr
    assert "train.epochs" in done.stderr and done.stderr.count("error:") == 1
