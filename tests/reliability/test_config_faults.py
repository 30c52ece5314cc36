"""Damages every key of every recipe, one at a time, and makes thirty edits between a save and its resume."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from serx import checkpoint
from serx.config.loader import load_config
from serx.config.yaml_lines import read
from serx.errors import ConfigError
from serx.training.resume import differences
from serx.training.run_folder import LAST
from tests.conftest import TINY

CONFIGS = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))


def block_style(path: Path) -> list[str]:
    """The lines of the same configuration in YAML's block style, one key per line."""
    text = yaml.safe_dump(_lists(read(path)[0]), sort_keys=False, default_flow_style=False, width=10_000)
    return text.splitlines()


def _lists(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _lists(value) for key, value in tree.items()}
    return [_lists(item) for item in tree] if isinstance(tree, tuple) else tree


def damages(lines: list[str]) -> list[tuple[int, str, list[str]]]:
    """Every damage to every key and list item: (line number, description, all lines after the damage)."""
    made = []
    free = -1  # indentation of a label_map, whose keys may be any words
    for i, line in enumerate(lines):
        depth = len(line) - len(line.lstrip(" -"))
        if free >= 0 and depth > free:
            continue
        key, colon, value = line.partition(":")
        free = depth if key.strip() == "label_map" else -1
        start = line[: len(line) - len(line.lstrip(" "))]

        def with_line(*new: str, i: int = i) -> list[str]:
            return [*lines[:i], *new, *lines[i + 1 :]]

        if not colon:  # an item of a list
            head = line[: line.index("-") + 1]
            made += [(i, "a map for an item", with_line(f"{head} {{deep: 1}}")), (i, "NaN", with_line(f"{head} .nan"))]
            continue
        made.append((i, "misspelled", with_line(f"{key}x:{value}")))
        if value:
            made.append((i, "a map", with_line(f"{key}: {{deep: [1]}}")))
            made.append((i, "NaN", with_line(f"{key}: .nan")))
            made.append((i, "a date", with_line(f"{key}: 2001-01-01")))
            second = f"{start}  {key.strip(' -')}:{value}" if "- " in key else line
            made.append((i, "twice", with_line(line, second)))
    return made


def error_of(path: Path) -> str:
    """The error message of a configuration; empty if it is accepted."""
    try:
        load_config(path)
    except ConfigError as error:
        return str(error)
    return ""


def is_text(line: str) -> bool:
    value = yaml.safe_load(line.strip(" -"))
    return isinstance(next(iter(value.values())) if isinstance(value, dict) else value, str)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_no_damaged_key_of_a_recipe_is_accepted(path, tmp_path, record_figure):
    lines, broken = block_style(path), tmp_path / "broken.yaml"
    broken.write_text("\n".join(lines))
    assert load_config(broken) == load_config(path)
    accepted, tried = [], 0
    for i, damage, text in damages(lines):
        broken.write_text("\n".join(text))
        if damage == "a date" and is_text(lines[i]):
            continue  # a date is a valid name of a folder or a fold
        tried += 1
        if "broken.yaml:" not in error_of(broken):
            accepted.append((lines[i], damage))
    assert not accepted
    assert tried > 2 * len(lines)
    record_figure(f"{path.stem}: {tried} damaged keys, {len(accepted)} accepted")


def test_contradictory_settings_are_refused_with_their_line(tmp_path):
    for text, message in (
        ("{kind: cnn1d, widths: [8, 8], strides: [2]}", "2 widths and 1 strides"),
        ("{kind: cnn2d, widths: [8, 0]}", "greater than or equal to 1"),
        ("{kind: cnn2d, stem_stride: [0, 1]}", "greater than or equal to 1"),
        ("{kind: mlp, widths: [-3]}", "greater than or equal to 1"),
    ):
        path = tmp_path / "c.yaml"
        path.write_text(f"data: {{root: x}}\nmodel: {text}\n")
        with pytest.raises(ConfigError, match=rf"c\.yaml:2: .*{message}"):
            load_config(path)
    path.write_text("data: {root: x}\nmodel: {kind: mlp}\noptim: {betas: [0.9, 1.5]}\n")
    with pytest.raises(ConfigError, match=r"c\.yaml:3: optim\.betas\.1"):
        load_config(path)


BREAKING = [
    "optim.lr=0.5", "optim.weight_decay=0", "optim.betas=[0.8, 0.9]", "optim.schedule=plateau", "optim.warmup_ratio=0",
    "train.seed=1", "train.epochs=9", "train.batch_size=4", "train.accumulation_steps=2", "train.ema_decay=0.5",
    "train.label_smoothing=0.2", "train.sampling=class_balanced", "train.class_weights=balanced", "train.select=loss",
    "train.clip_grad_norm=null", "train.precision=fp16", "features.n_mels=32", "features.hop_length=128",
    "features.normalize=clip", "model.dropout=0", "model.widths=[16, 16, 8]", "augment.mixup=0.5",
    "augment.waveform=[{kind: noise}]", "data.label_map={angry: happy}", "data.sample_rate=8000",
]  # fmt: skip
HARMLESS = ["train.threads=2", "train.patience=50", "data.cache=elsewhere", "data.placement=stream", "train.output=x"]


def test_edits_between_a_save_and_its_resume_are_listed_and_those_that_change_results_are_refused(trained):
    saved = checkpoint.load(trained / "run" / LAST).metadata
    assert len(BREAKING) + len(HARMLESS) == 30

    def compare(*edits: str) -> list[str]:
        config = load_config(trained / "tiny.yaml", [*TINY, "train.epochs=8", *edits])
        return differences(saved, {**saved, "config": config.model_dump(mode="json")}, trained / "run")

    assert compare() == []
    for edit in HARMLESS:
        assert [line.split(":")[0] for line in compare(edit)] == [edit.split("=")[0]]
    for edit in BREAKING:
        with pytest.raises(ConfigError) as caught:
            compare(edit)
        assert re.search(rf"(\n  |--resume: ){re.escape(edit.split('=')[0])}", str(caught.value)), edit
        assert " -> " in str(caught.value)
    together = [edit for edit in BREAKING if edit != "train.class_weights=balanced"]  # which contradicts train.sampling
    with pytest.raises(ConfigError) as caught:
        compare(*together)
    assert str(caught.value).count(" -> ") >= len(together) - 1  # a plateau has no end: train.epochs may differ
