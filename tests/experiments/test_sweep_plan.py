"""The settings of a sweep: which combinations are tried, in which folders, and what is refused before any training."""

from dataclasses import replace
from pathlib import Path

import pytest

from serx.data.dataset import load_dataset
from serx.errors import ConfigError
from serx.experiments.sweep_plan import AS_IT_IS, group_speakers, plan_sweep


def plan_settings(path, tried, **options):
    return plan_sweep(path, [], tried, Path("out"), **options).settings


def test_all_combinations_of_values_are_planned_and_a_sample_is_the_same_each_time(tiny_config, tmp_path):
    path = tmp_path / "tiny.yaml"
    tried = ["optim.lr=[1e-3, 2e-3]", "model=[{kind: mlp}, {kind: cnn1d}]"]
    names = [setting.name for setting in plan_settings(path, tried)]
    assert names == [
        AS_IT_IS,
        *(f'optim.lr={lr} model={{"kind": "{kind}"}}' for lr in (0.001, 0.002) for kind in ("mlp", "cnn1d")),
    ]
    few = [setting.name for setting in plan_settings(path, tried, trials=2)]
    assert len(few) == 3 and set(few) < set(names)
    assert few == [setting.name for setting in plan_settings(path, tried, trials=2)]
    folders = [setting.folder for setting in plan_settings(path, tried)]
    assert len(set(folders)) == 5 and not any(set("/ {}") & set(folder) for folder in folders)


def test_an_ablation_changes_one_setting_at_a_time(tiny_config, tmp_path):
    tried = ["optim.lr=[3e-3, 2e-3]", "train.ema_decay=[0.5]"]
    names = [s.name for s in plan_settings(tmp_path / "tiny.yaml", tried, one_at_a_time=True)]
    assert names == [AS_IT_IS, "optim.lr=0.003", "optim.lr=0.002", "train.ema_decay=0.5"]


def test_settings_whose_names_look_alike_have_different_folders(tiny_config, tmp_path):
    recipe, *others = plan_settings(tmp_path / "tiny.yaml", ["model.widths=[[8, 32], [83, 2]]"])
    assert recipe.folder == "as_it_is" and len({setting.folder for setting in others}) == 2
    similar = [replace(recipe, overrides=(f"a={text}",)).folder for text in ("x y", "x  y", "x_y")]
    assert len(set(similar)) == 3 and not any(" " in name for name in similar)


@pytest.mark.parametrize(
    ("tried", "message"),
    [
        (["optim.lr=1e-3"], r"--try optim.lr=1e-3: give a list of values"),
        (["optim.lr=[]"], "give a list of values"),
        (["optim.lr=[1e-3]", "optim.lr=[1e-2]"], "--try optim.lr occurs twice"),
        (["optim.rl=[1e-3]"], r"unknown key optim.rl; did you mean optim.lr\?"),
        (["train.seed=[0, 1]"], "--seeds"),
        (["data.fold=[0, 1]"], "changes the speakers"),
        (["train.device=[cpu]"], "changes the speakers or where"),
    ],
)
def test_a_setting_that_cannot_be_tried_is_refused_before_any_training(tried, message, tiny_config, tmp_path):
    with pytest.raises(ConfigError, match=message) as caught:
        plan_settings(tmp_path / "tiny.yaml", tried)
    assert "\n" not in str(caught.value)


def test_settings_of_the_decoding_can_be_tried(tiny_config, tmp_path):
    recipe, variant = plan_settings(tmp_path / "tiny.yaml", ["data.trim_db=[25]"])
    assert (recipe.config.data.trim_db, variant.config.data.trim_db) == (None, 25)


def test_more_groups_than_speakers_and_leaky_protocols_are_refused(tiny_config):
    config = tiny_config("data.protocol=kfold", "data.folds=3")
    dataset = load_dataset(config.data)
    with pytest.raises(ConfigError, match="--groups 5: 4 speakers are outside the test part; give 2 to 4"):
        group_speakers(dataset, config.data, 5)
    assert [len(group) for group in group_speakers(dataset, config.data, 4).groups] == [1, 1, 1, 1]
    with pytest.raises(ConfigError, match="LEAKY.*add data.protocol=kfold"):
        group_speakers(dataset, tiny_config("data.protocol=random").data, 2)
