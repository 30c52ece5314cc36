"""How often each clip is drawn from classes and corpora of unequal size."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from serx.data.cache import clip_reader
from serx.training import epoch as epoch_module
from serx.training import fit, training_clips
from serx.training.sampling import TrainingClips, plan_epoch, sampling_weights

TARGETS = np.array([0] * 60 + [1] * 20 + [0] * 3 + [1] * 5 + [2] * 2)
CORPORA = np.array([0] * 80 + [1] * 10)


def expected_counts(mode: str) -> np.ndarray:
    """`(2, 3)`: expected clips of each corpus and class in an epoch of 90."""
    shares = sampling_weights(mode, TARGETS, CORPORA)
    table = np.zeros((2, 3))
    np.add.at(table, (CORPORA, TARGETS), 90 * shares / shares.sum())
    return table


def test_class_balanced_draws_every_class_equally_often():
    np.testing.assert_allclose(expected_counts("class_balanced").sum(0), [30, 30, 30])


def test_corpus_balanced_draws_every_corpus_equally_often_and_its_clips_evenly():
    table = expected_counts("corpus_balanced")
    np.testing.assert_allclose(table.sum(1), [45, 45])
    np.testing.assert_allclose(table[1], np.array([3, 5, 2]) * 4.5)


def test_corpus_and_class_balanced_draws_every_class_of_a_corpus_equally_often():
    np.testing.assert_allclose(expected_counts("corpus_and_class_balanced"), [[22.5, 22.5, 0], [15, 15, 15]])


@pytest.mark.parametrize("mode", ["corpus_balanced", "corpus_and_class_balanced"])
def test_half_of_the_clips_come_from_each_of_two_corpora_and_an_epoch_is_reproducible(mode, tiny_config):
    part = TrainingClips(np.arange(90), TARGETS, torch.ones(3), corpora=CORPORA)
    config = tiny_config(f"train.sampling={mode}")
    epochs = [np.concatenate([b for step in plan_epoch(part, config, epoch) for b in step]) for epoch in range(40)]
    share = np.mean([CORPORA[order].mean() for order in epochs])
    assert abs(share - 0.5) < 0.03  # three standard deviations of 3600 draws
    again = np.concatenate([b for step in plan_epoch(part, config, 3) for b in step])
    assert np.array_equal(again, epochs[3]) and not np.array_equal(epochs[2], epochs[3])


@pytest.mark.parametrize("mode", ["shuffle", "corpus_balanced"])
def test_a_large_corpus_is_taken_by_windows_without_changing_which_clips_are_drawn(mode, tiny_config, monkeypatch):
    monkeypatch.setattr(clip_reader, "BLOCK_BYTES", 100)
    monkeypatch.setattr(clip_reader, "WINDOW_BYTES", 300)
    config, blocks = tiny_config(f"train.sampling={mode}"), np.arange(90) // 5
    small = TrainingClips(np.arange(90), TARGETS, torch.ones(3), corpora=CORPORA)
    large = replace(small, blocks=blocks)

    def order(part: TrainingClips, epoch: int) -> np.ndarray:
        return np.concatenate([batch for step in plan_epoch(part, config, epoch) for batch in step])

    for epoch in range(3):
        assert np.array_equal(order(large, epoch), order(large, epoch))
        assert np.array_equal(np.sort(order(large, epoch)), np.sort(order(small, epoch)))
        windows = [set(blocks[clips]) for clips in np.array_split(order(large, epoch), 6)]
        assert mode != "shuffle" or all(len(window) == 3 for window in windows)
    assert not np.array_equal(order(large, 0), order(large, 1))


@pytest.mark.slow
def test_streamed_and_resident_training_of_a_large_corpus_are_the_same(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(clip_reader, "BLOCK_BYTES", 100_000)
    for module in (clip_reader, training_clips):
        monkeypatch.setattr(module, "WINDOW_BYTES", 300_000)
    lines = []
    for placement in ("stream", "device"):
        config = tiny_config(f"data.placement={placement}", "train.epochs=1")
        fit(config, tmp_path / placement, progress=False)
        line = json.loads((tmp_path / placement / "metrics.jsonl").read_text())
        lines.append((line["train"], line["valid"]))
    assert lines[0] == lines[1]


@pytest.mark.slow
def test_a_run_on_two_corpora_balances_them(tiny_config, tiny_root, tess_root, tmp_path, monkeypatch):
    drawn = []

    def plan(part, config, epoch):
        steps = original(part, config, epoch)
        drawn.append(part.corpora[np.concatenate([batch for step in steps for batch in step])])
        return steps

    original = epoch_module.plan_epoch
    monkeypatch.setattr(epoch_module, "plan_epoch", plan)
    roots = f"data.root=[{tiny_root}, {tess_root}]"
    config = tiny_config(roots, "data.labels=shared", "train.sampling=corpus_and_class_balanced", "train.epochs=10")
    fit(config, tmp_path / "run", progress=False)
    # 4 of the 20 training clips are TESS's, and half of those drawn: 3 standard deviations of 200 draws are 0.11
    assert abs(np.concatenate(drawn).mean() - 0.5) < 0.11
