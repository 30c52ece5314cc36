"""A probe says how well the corpus of a clip is told from its embedding, for speakers that the probe has not seen."""

import numpy as np
import pytest

from serx.metrics.corpus_probe import corpus_probe


def clips(speakers: dict[str, int], each: int = 20, width: int = 5, seed: int = 0):
    """Noise `(n, width)`, corpora and speakers of as many speakers of each corpus."""
    ids = [f"{corpus}/{i}" for corpus, number in speakers.items() for i in range(number) for _ in range(each)]
    noise = np.random.default_rng(seed).standard_normal((len(ids), width))
    return noise, np.array([name.partition("/")[0] for name in ids]), np.array(ids)


def test_noise_gives_chance_and_a_shift_of_the_corpus_gives_what_two_normal_distributions_allow():
    noise, corpora, speakers = clips({"a": 10, "b": 10, "c": 10}, each=100)
    found = corpus_probe(noise, corpora, speakers)
    assert found["balanced_accuracy"] == pytest.approx(1 / 3, abs=0.03) and found["chance"] == pytest.approx(1 / 3)
    two = corpora != "c"
    shifted = noise[two] + 2.0 * (corpora[two] == "a")[:, None] * np.eye(5)[0]
    found = corpus_probe(shifted, corpora[two], speakers[two])
    assert found["balanced_accuracy"] == pytest.approx(0.8413, abs=0.02)  # the normal distribution at 1
    assert found["recall"].keys() == {"a", "b"} and found["n_clips"] == 2000 and found["n_speakers"] == 20


def test_voices_that_say_nothing_about_other_speakers_are_chance():
    """Every speaker has an offset that identifies it. A probe that knew the speakers would be right every time."""
    noise, corpora, speakers = clips({"a": 20, "b": 20}, width=4)
    voice = {who: 30 * np.random.default_rng(i).standard_normal(4) for i, who in enumerate(np.unique(speakers))}
    found = corpus_probe(noise + np.stack([voice[who] for who in speakers]), corpora, speakers)
    assert abs(found["balanced_accuracy"] - 0.5) < 0.2


def test_corpora_weigh_alike_whatever_their_size():
    noise, corpora, speakers = clips({"large": 30, "small": 3})
    assert corpus_probe(noise, corpora, speakers)["balanced_accuracy"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_offsets_and_the_order_of_clips_change_nothing(scale):
    noise, corpora, speakers = clips({"a": 4, "b": 4})
    told = noise + (corpora == "a")[:, None]
    order = np.random.default_rng(1).permutation(len(told))
    expected = corpus_probe(told, corpora, speakers)
    assert corpus_probe(scale * (told + 3)[order], corpora[order], speakers[order]) == expected


def test_more_dimensions_than_clips_and_constant_ones_are_allowed():
    noise, corpora, speakers = clips({"a": 3, "b": 3}, each=5, width=200)
    told = np.concatenate([noise, np.ones((30, 2)), 20.0 * (corpora == "a")[:, None] * np.ones((30, 60))], axis=1)
    assert corpus_probe(told, corpora, speakers)["balanced_accuracy"] == 1.0


def test_a_corpus_with_one_speaker_is_left_out_and_fewer_than_two_give_none():
    noise, corpora, speakers = clips({"a": 3, "b": 3, "alone": 1})
    assert corpus_probe(noise, corpora, speakers)["recall"].keys() == {"a", "b"}
    assert corpus_probe(*clips({"a": 3, "alone": 1})) is None
    assert corpus_probe(*clips({"a": 3})) is None
