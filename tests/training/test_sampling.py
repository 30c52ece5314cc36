"""How often each clip is drawn, where classes and corpora are of unequal size."""

import numpy as np
import pytest
import torch

from serx.training import loop
from serx.training.plan import TrainingClips, plan_epoch, sampling_shares, voice_batches

TARGETS = np.array([0] * 60 + [1] * 20 + [0] * 3 + [1] * 5 + [2] * 2)
CORPORA = np.array([0] * 80 + [1] * 10)


def drawn(mode: str) -> np.ndarray:
    """Expected clips of each corpus and class in an epoch of 90."""
    shares = sampling_shares(mode, TARGETS, CORPORA)
    table = np.zeros((2, 3))
    np.add.at(table, (CORPORA, TARGETS), 90 * shares / shares.sum())
    return table


def test_balanced_draws_every_class_equally_often():
    np.testing.assert_allclose(drawn("balanced").sum(0), [30, 30, 30])


def test_corpus_balanced_draws_every_corpus_equally_often_and_its_clips_evenly():
    table = drawn("corpus_balanced")
    np.testing.assert_allclose(table.sum(1), [45, 45])
    np.testing.assert_allclose(table[1], np.array([3, 5, 2]) * 4.5)


def test_both_draws_every_class_of_every_corpus_equally_often_where_it_is_there():
    np.testing.assert_allclose(drawn("both"), [[22.5, 22.5, 0], [15, 15, 15]])


@pytest.mark.parametrize("mode", ["corpus_balanced", "both"])
def test_an_epoch_of_a_joined_corpus_is_drawn_so_and_repeats(mode, tiny_config):
    part = TrainingClips(np.arange(90), TARGETS, torch.ones(3), corpora=CORPORA)
    config = tiny_config(f"train.sampling={mode}")
    epochs = [np.concatenate([b for step in plan_epoch(part, config, epoch) for b in step]) for epoch in range(40)]
    share = np.mean([CORPORA[order].mean() for order in epochs])
    assert abs(share - 0.5) < 0.03  # three deviations of 3600 draws
    again = np.concatenate([b for step in plan_epoch(part, config, 3) for b in step])
    assert np.array_equal(again, epochs[3]) and not np.array_equal(epochs[2], epochs[3])


PERSONS = np.array([0] * 40 + [1] * 41 + [2] * 7 + [3] * 2)


def by_voice(sampling: str, epoch: int, tiny_config) -> list[np.ndarray]:
    part = TrainingClips(np.arange(90), TARGETS, torch.ones(3), corpora=CORPORA, persons=PERSONS)
    steps = plan_epoch(part, tiny_config(f"train.sampling={sampling}", "train.batches=voice"), epoch)
    return [batch for step in steps for batch in step]


def test_batches_of_one_voice_take_each_clip_once_and_come_in_random_order(tiny_config):
    batches = by_voice("shuffle", 0, tiny_config)
    assert sorted(np.concatenate(batches)) == list(range(90))
    whose = [sorted({int(person) for person in PERSONS[batch]}) for batch in batches]
    assert whose.count([0]) == 5 and whose.count([1]) == 6  # 40 and 41 clips in batches of 8 and 7
    assert whose.count([2]) == 1 and all(len(batch) >= 2 for batch in batches)
    assert whose != sorted(whose)
    assert [list(b) for b in batches] == [list(b) for b in by_voice("shuffle", 0, tiny_config)]
    assert [list(b) for b in batches] != [list(b) for b in by_voice("shuffle", 1, tiny_config)]


def test_batches_of_one_voice_are_drawn_by_corpus_and_as_many_in_every_epoch(tiny_config):
    epochs = [by_voice("both", epoch, tiny_config) for epoch in range(20)]
    assert len({len(batches) for batches in epochs}) == 1  # the learning rate counts steps
    assert abs(np.mean([CORPORA[np.concatenate(batches)].mean() for batches in epochs]) - 0.5) < 0.06
    assert all(len(set(PERSONS[batch])) == 1 for batches in epochs for batch in batches if max(PERSONS[batch]) < 2)


def test_voices_of_few_clips_share_their_batches_and_none_is_lost():
    random = torch.Generator().manual_seed(0)
    for persons in (np.arange(30), np.array([0] * 16 + [1]), np.array([0, 0, 0, 1, 1]), np.array([0, 1])):
        batches = voice_batches(None, persons, 16, random)
        assert sorted(np.concatenate(batches)) == list(range(len(persons)))
        assert all(len(batch) >= 2 for batch in batches)


@pytest.mark.slow
def test_a_run_on_joined_corpora_knows_which_clip_is_of_which(tiny_config, tiny_root, tess_root, tmp_path, monkeypatch):
    drawn = []

    def plan(part, config, epoch):
        steps = original(part, config, epoch)
        drawn.append(part.corpora[np.concatenate([batch for step in steps for batch in step])])
        return steps

    original = loop.plan_epoch
    monkeypatch.setattr(loop, "plan_epoch", plan)
    roots = f"data.root=[{tiny_root}, {tess_root}]"
    config = tiny_config(roots, "data.labels=shared", "train.sampling=both", "train.epochs=10")
    loop.fit(config, tmp_path / "run", progress=False)
    # 4 of the 20 training clips are TESS's, and half of those drawn: 3 deviations of 200 draws are 0.11
    assert abs(np.concatenate(drawn).mean() - 0.5) < 0.11
