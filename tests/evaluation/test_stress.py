"""Disturbances are what they say, the same for every model; the first row is the evaluation itself."""

import numpy as np
import pytest
import soundfile
import torch

from serx.augment.compose import augment
from serx.data.batches import make_batch_source
from serx.data.dataset import load_dataset
from serx.errors import DataError
from serx.evaluation.held_out import evaluate_checkpoint, held_out
from serx.evaluation.stress import Disturbed, conditions, format_stress, stress
from serx.metrics.classification import score
from serx.plots.experiments import stress_figure
from serx.plots.style import GAP, figure_array
from tests.conftest import RATE

CPU = torch.device("cpu")
LEARNT = ("train.epochs=3", "optim.lr=0.01")


def clean(tiny_config):
    dataset = load_dataset(tiny_config().data, progress=False)
    return make_batch_source(dataset.audio_cache, CPU)


def condition(name: str):
    return next(each for each in conditions() if f"{each.disturbance}, {each.amount}" == name)


def test_clips_as_recorded_score_as_in_the_evaluation_and_every_change_is_from_there(trained):
    path = trained(*LEARNT)
    result = stress(held_out(path, None, "test", CPU, progress=False), progress=False)
    plain = evaluate_checkpoint(path, None, "test", CPU, progress=False)
    first, *others = result["conditions"]
    p = plain.predictions
    expected = score(p.targets, p.probabilities.argmax(1), p.labels)
    assert (first["uar"], first["accuracy"]) == (expected.uar, expected.accuracy)
    assert first["change"] == 0 and first["interval"] is None
    assert result["protocol"] == plain.stamp and (result["n_clips"], result["n_speakers"]) == (24, 2)
    for row in others:
        assert row["change"] == pytest.approx(row["uar"] - first["uar"])
        low, high = row["interval"]
        assert low <= row["change"] <= high  # both speakers once is one of the draws
    assert len({row["uar"] for row in others}) > 3  # an emotion that is a pitch is lost in noise, and at other pitches


def test_a_disturbed_clip_is_the_same_alone_and_among_others_and_every_time(tiny_config):
    for each in conditions():
        if each.transform is None:
            continue
        corpus = Disturbed(clean(tiny_config), [each.transform], RATE)
        together, lengths = corpus.batch([7, 30, 55])
        alone, length = corpus.batch([30])
        assert int(length) == int(lengths[1])
        heard = alone[0, : int(length)]
        torch.testing.assert_close(together[1, : int(length)], heard, atol=1e-5, rtol=0)
        torch.testing.assert_close(corpus.batch([30])[0], alone, atol=0, rtol=0)


@pytest.mark.parametrize(("name", "snr"), [("white noise, 20 dB below", 20), ("pink noise, as loud", 0)])
def test_noise_is_as_far_below_the_clip_as_the_table_says(tiny_config, name, snr):
    corpus = clean(tiny_config)
    x, lengths = corpus.batch([3, 40])
    noisy, _ = Disturbed(corpus, [condition(name).transform], RATE).batch([3, 40])
    for row, other, n in zip(x, noisy, lengths.tolist(), strict=True):
        power = row[:n].square().mean() / (other - row)[:n].square().mean()
        assert 10 * torch.log10(power) == pytest.approx(snr, abs=0.05)


def test_levels_are_levels_and_two_clips_have_different_noise(tiny_config):
    corpus = clean(tiny_config)
    x, _ = corpus.batch([3, 40])
    soft, _ = Disturbed(corpus, [condition("level, -20 dB").transform], RATE).batch([3, 40])
    torch.testing.assert_close(soft, 0.1 * x)
    noisy, _ = Disturbed(corpus, [condition("white noise, as loud").transform], RATE).batch([3, 3, 40])
    assert torch.equal(noisy[0], noisy[1])
    a, b = (noisy - corpus.batch([3, 3, 40])[0])[1:, :4000]
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.1


def test_recorded_noise_is_mixed_in_and_a_folder_without_any_is_refused(trained, tmp_path):
    (tmp_path / "street").mkdir()
    held = held_out(trained(*LEARNT), None, "test", CPU, progress=False)
    with pytest.raises(DataError, match="street holds no audio file"):
        stress(held, str(tmp_path / "street"), progress=False)
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE)
    soundfile.write(tmp_path / "street" / "cars.wav", noise, RATE)
    result = stress(held, str(tmp_path / "street"), progress=False)
    amounts = [row["amount"] for row in result["conditions"] if row["disturbance"] == "recorded noise"]
    assert amounts == ["20 dB below", "10 dB below", "as loud"]


def test_a_recipe_that_enrols_voices_does_so_under_every_disturbance(trained):
    path = trained(*LEARNT, "model.adapt=true")
    result = stress(held_out(path, None, "test", CPU, progress=False), progress=False)
    assert "ADAPTED to each speaker with 12 unlabeled clips" in result["protocol"]
    p = evaluate_checkpoint(path, None, "test", CPU, progress=False).predictions
    assert result["conditions"][0]["uar"] == score(p.targets, p.probabilities.argmax(1), p.labels).uar


def test_the_table_names_every_condition_with_its_change():
    rows = [
        {"disturbance": "as recorded", "amount": "", "uar": 0.725, "accuracy": 0.7, "change": 0.0, "interval": None,
         "unlike": None},
        {"disturbance": "telephone", "amount": "", "uar": 0.4, "accuracy": 0.4, "change": -0.325, "interval": None,
         "unlike": 0.95},
        {"disturbance": "level", "amount": "-20 dB", "uar": 0.7, "accuracy": 0.7, "change": -0.025,
         "interval": [-0.05, 0.01], "unlike": 0.0},
    ]  # fmt: skip
    told = format_stress({"protocol": "luna5 fold 0", "n_clips": 60, "n_speakers": 2, "conditions": rows})
    assert "60 clips of 2 speakers [luna5 fold 0]" in told
    lines = told.splitlines()
    assert any(line.split() == ["telephone", "40.0", "-32.5", "95"] for line in lines)
    assert any(line.split() == ["level", "-20", "dB", "70.0", "-2.5", "-5.0", "to", "+1.0", "0"] for line in lines)
    assert max(map(len, lines)) <= 100
    figure = stress_figure({"conditions": rows}, 0.125, "a title")
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == pytest.approx([72.5, 40, 70])
    red = torch.tensor([int(GAP[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    found = [bool(np.allclose(bar.get_facecolor()[:3], red, atol=0.01)) for bar in bars]
    assert found == [False, True, False]
    assert figure_array(figure).std() > 0


def test_a_transform_without_chance_is_what_every_condition_has(tiny_config):
    """Were one drawn with p below 1, some clips would be left as they are."""
    corpus = clean(tiny_config)
    clips = np.arange(24)
    x, lengths = corpus.batch(clips)
    for each in conditions():
        if each.transform is not None:
            y, _ = augment([each.transform], x, lengths, torch.from_numpy(clips), float(RATE), 0, 0)
            same = [torch.equal(a[: x.shape[1]], b[: y.shape[1]]) for a, b in zip(y, x, strict=True)]
            assert not any(same), each
