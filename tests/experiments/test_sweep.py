"""A sweep hears every speaker but those of the test part, and ranks what came of it; what is finished is kept."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from serx.config.loader import load_config
from serx.data.dataset import load_dataset, split_dataset
from serx.errors import ConfigError
from serx.evaluation.predictions import from_csv
from serx.experiments.sweep import AS_IT_IS, group_speakers, plan_settings
from tests.experiments.test_cross_validation import NET, ROOT, one_after_the_other, run_script

pytestmark = pytest.mark.slow


def run_sweep(*arguments, cwd) -> SimpleNamespace:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr("serx.experiments.fold_runs.run_side_by_side", one_after_the_other)
        return run_script([sys.executable, str(ROOT / "scripts/sweep.py"), *map(str, arguments)])


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, tiny_root):
    """A rate that learns nothing beside the recipe's, in two groups of the four speakers beside the test part."""
    folder = tmp_path_factory.mktemp("sweep")
    data = f"data: {{root: {tiny_root}, protocol: kfold, folds: 3, fold: 1, cache: {folder / 'cache'}}}\n"
    (folder / "net.yaml").write_text(data + NET)
    swept = run_sweep(
        "--config", "net.yaml", "--out", "out", "--groups", 2, "--seeds", 3, "train.epochs=4", "--try",
        "optim.lr=[1e-9, 1e-2]", cwd=folder,
    )  # fmt: skip
    assert swept.returncode == 0, swept.stdout + swept.stderr
    (folder / "said.txt").write_text(swept.stdout)
    return folder


def test_everybody_beside_the_test_part_is_heard_once_by_a_model_that_never_met_them(workplace):
    config = load_config(workplace / "net.yaml")
    dataset = load_dataset(config.data)
    testers = set(dataset.speaker_ids(split_dataset(dataset, config.data).test))
    heard = []
    for group in (0, 1):
        run = workplace / f"out/optim.lr=1e-09/seed-3/group-{group}"
        data = load_config(run / "config.yaml").data
        split = split_dataset(dataset, data)
        [(_, rows)] = from_csv(run / "valid/predictions.csv")
        assert set(rows.speaker_ids) == set(dataset.speaker_ids(split.valid)) and len(set(rows.speaker_ids)) == 2
        assert set(dataset.speaker_ids(split.test)) == testers
        assert not set(rows.speaker_ids) & {*dataset.speaker_ids(split.train), *testers}
        assert not (run / "test").exists()
        heard += rows.speaker_ids
    assert {*heard} | testers == {u.speaker_id for u in dataset.utterances}
    assert len(heard) == sum(u.speaker_id not in testers for u in dataset.utterances)


def test_the_best_setting_leads_and_becomes_a_recipe_under_the_first_protocol(workplace):
    told = json.loads((workplace / "out/sweep.json").read_text())
    best, worst = told["settings"]
    # optim.lr=1e-2 is the recipe as it is, and does not run twice.
    assert (best["name"], worst["name"]) == (AS_IT_IS, "optim.lr=1e-09")
    assert best["uar"] > worst["uar"] and worst["difference"] == pytest.approx(worst["uar"] - best["uar"])
    assert best["difference"] is None and len(best["folds"]) == 2
    assert told["protocol"].startswith("4 speakers beside the test part of kfold fold 1")
    recipe = load_config(workplace / "out/best.yaml")
    assert recipe == load_config(workplace / "net.yaml", ["train.epochs=4"])
    said = (workplace / "said.txt").read_text()
    assert "2 settings, 4 runs: 0 finished, 4 to do" in said and "the recipe as it is was the best" in said
    assert (workplace / "out/sweep.png").read_bytes().startswith(b"\x89PNG")
    rows = [line.split(" | ") for line in (workplace / "out/sweep.md").read_text().splitlines() if " | " in line]
    assert [row[0] for row in rows] == ["| setting", "| ---", f"| {AS_IT_IS}", "| `optim.lr=1e-09`"]
    assert rows[2][-1] == "- |" and rows[3][-1].startswith(f"{100 * worst['difference']:+.1f} (")


def test_a_larger_sweep_keeps_what_a_smaller_one_has_done_and_one_that_fails_stops_no_other(workplace):
    kept = workplace / "out/optim.lr=1e-09/seed-3/group-0/last.safetensors"
    before = kept.stat().st_mtime_ns
    done = run_sweep(
        "--config", "net.yaml", "--out", "out", "--groups", 2, "--seeds", 3, "train.epochs=4",
        "--try", "optim.lr=[1e-9, 1e30, 3e-2]", cwd=workplace,
    )  # fmt: skip
    assert "4 settings, 8 runs: 4 finished, 4 to do" in done.stdout
    assert kept.stat().st_mtime_ns == before
    told = json.loads((workplace / "out/sweep.json").read_text())
    assert {row["name"] for row in told["settings"]} == {AS_IT_IS, "optim.lr=1e-09", "optim.lr=0.03"}
    assert told["missing"] == ["optim.lr=1e+30"] and done.returncode == 4
    assert "failed: optim.lr=1e+30, seed 3 group 0 (exit code 4; see out/optim.lr=1e+30" in done.stdout


def test_other_settings_in_its_folder_are_refused(workplace):
    arguments = ("--config", "net.yaml", "--out", "out", "--groups", 2, "--seeds", 3, "--try", "optim.lr=[1e-9]")
    done = run_sweep(*arguments, "train.epochs=5", cwd=workplace)
    assert done.returncode == 2 and "holds a run of other settings" in done.stderr
    assert "train.epochs" in done.stderr and done.stderr.count("error:") == 1


def test_every_value_of_one_setting_meets_every_value_of_another(tiny_config, tmp_path):
    path = tmp_path / "tiny.yaml"
    tried = ["optim.lr=[1e-3, 2e-3]", "model=[{kind: mlp}, {kind: cnn1d}]"]
    names = [setting.name for setting in plan_settings(path, [], tried)]
    assert names == [
        AS_IT_IS,
        *(f'optim.lr={lr} model={{"kind": "{kind}"}}' for lr in (0.001, 0.002) for kind in ("mlp", "cnn1d")),
    ]
    few = [setting.name for setting in plan_settings(path, [], tried, sample=2)]
    assert len(few) == 3 and set(few) < set(names)
    assert few == [setting.name for setting in plan_settings(path, [], tried, sample=2)]
    folders = [setting.folder for setting in plan_settings(path, [], tried)]
    assert len(set(folders)) == 5 and not any(set("/ {}") & set(folder) for folder in folders)


def test_an_ablation_changes_one_setting_at_a_time(tiny_config, tmp_path):
    tried = ["optim.lr=[3e-3, 2e-3]", "train.ema_decay=[0.5]"]
    names = [s.name for s in plan_settings(tmp_path / "tiny.yaml", [], tried, one_at_a_time=True)]
    assert names == [AS_IT_IS, "optim.lr=0.003", "optim.lr=0.002", "train.ema_decay=0.5"]


def test_names_that_would_be_one_folder_are_two(tiny_config, tmp_path):
    whole, *others = plan_settings(tmp_path / "tiny.yaml", [], ["model.widths=[[8, 32], [83, 2]]"])
    assert whole.folder == "as_it_is" and len({setting.folder for setting in others}) == 2
    alike = [replace(whole, overrides=(f"a={text}",)).folder for text in ("x y", "x  y", "x_y")]
    assert len(set(alike)) == 3 and not any(" " in name for name in alike)


@pytest.mark.parametrize(
    ("tried", "told"),
    [
        (["optim.lr=1e-3"], r"--try optim.lr=1e-3: give a list of values"),
        (["optim.lr=[]"], "give a list of values"),
        (["optim.lr=[1e-3]", "optim.lr=[1e-2]"], "--try optim.lr stands twice"),
        (["optim.rl=[1e-3]"], r"unknown key optim.rl; did you mean optim.lr\?"),
        (["train.seed=[0, 1]"], "--seeds"),
        (["data.fold=[0, 1]"], "changes who is heard"),
        (["train.device=[cpu]"], "changes who is heard, or where"),
    ],
)
def test_what_is_no_setting_to_try_is_refused_before_anything_is_trained(tried, told, tiny_config, tmp_path):
    with pytest.raises(ConfigError, match=told) as caught:
        plan_settings(tmp_path / "tiny.yaml", [], tried)
    assert "\n" not in str(caught.value)


def test_how_audio_is_decoded_may_be_tried(tiny_config, tmp_path):
    whole, other = plan_settings(tmp_path / "tiny.yaml", [], ["data.trim_db=[25]"])
    assert (whole.config.data.trim_db, other.config.data.trim_db) == (None, 25)


def test_more_groups_than_speakers_and_shared_speakers_are_refused(tiny_config):
    config = tiny_config("data.protocol=kfold", "data.folds=3")
    dataset = load_dataset(config.data)
    with pytest.raises(ConfigError, match="--groups 5: 4 speakers are beside the test part; give 2 to 4"):
        group_speakers(dataset, config.data, 5)
    assert [len(group) for group in group_speakers(dataset, config.data, 4).groups] == [1, 1, 1, 1]
    with pytest.raises(ConfigError, match="LEAKY.*add data.protocol=kfold"):
        group_speakers(dataset, tiny_config("data.protocol=random").data, 2)
