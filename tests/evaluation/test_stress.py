"""Stress test: conditions disturb as their names say, the same for every model; the first row equals the evaluation."""

import json

import numpy as np
import pytest
import soundfile
import torch
from matplotlib.colors import to_hex

from serx.augment.compose import augment
from serx.data.batches import make_batch_source
from serx.data.dataset import load_dataset
from serx.errors import DataError
from serx.evaluation import evaluate
from serx.evaluation.held_out import load_held_out
from serx.evaluation.stress import DisturbedAudio, conditions, format_stress_test, stress_test, write_stress_test
from serx.plots import figure_array, stress_figure
from serx.plots.style import RED
from tests.conftest import RATE

CPU = torch.device("cpu")
TRAINED = ("train.epochs=3", "optim.lr=0.01")


def clean_source(tiny_config):
    dataset = load_dataset(tiny_config().data, progress=False)
    return make_batch_source(dataset.audio_cache, CPU)


def condition(name: str):
    return next(c for c in conditions() if f"{c.name}, {c.strength}" == name)


def test_clips_as_recorded_score_as_in_the_evaluation_and_changes_are_differences_from_them(trained):
    path = trained(*TRAINED)
    result = stress_test(load_held_out(path, device=CPU, progress=False), progress=False)
    evaluation = evaluate(path, device=CPU, progress=False)
    first, *others = result["conditions"]
    assert (first["uar"], first["accuracy"]) == (evaluation.uar, evaluation.accuracy)
    assert first["change"] == 0 and first["interval"] is None
    assert result["protocol"] == evaluation.protocol and (result["n_clips"], result["n_speakers"]) == (24, 2)
    for row in others:
        assert row["change"] == pytest.approx(row["uar"] - first["uar"])
        low, high = row["interval"]
        assert low <= row["change"] <= high  # the resample with both speakers once gives the change itself
    assert (
        len({row["uar"] for row in others}) > 3
    )  # noise and pitch shifts hide the pitch that distinguishes the emotions


def test_a_disturbed_clip_is_the_same_in_every_batch_and_every_time(tiny_config):
    for condition in conditions():
        if condition.transform is None:
            continue
        source = DisturbedAudio(clean_source(tiny_config), [condition.transform], RATE)
        together, lengths = source.batch([7, 30, 55])
        alone, length = source.batch([30])
        assert int(length) == int(lengths[1])
        expected = alone[0, : int(length)]
        torch.testing.assert_close(together[1, : int(length)], expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(source.batch([30])[0], alone, atol=0, rtol=0)


@pytest.mark.parametrize(("name", "snr"), [("white noise, 20 dB SNR", 20), ("pink noise, 0 dB SNR", 0)])
def test_noise_has_the_signal_to_noise_ratio_of_its_condition(tiny_config, name, snr):
    source = clean_source(tiny_config)
    x, lengths = source.batch([3, 40])
    noisy, _ = DisturbedAudio(source, [condition(name).transform], RATE).batch([3, 40])
    for row, disturbed, n in zip(x, noisy, lengths.tolist(), strict=True):
        power = row[:n].square().mean() / (disturbed - row)[:n].square().mean()
        assert 10 * torch.log10(power) == pytest.approx(snr, abs=0.05)


def test_gain_is_exact_and_two_clips_have_different_noise(tiny_config):
    source = clean_source(tiny_config)
    x, _ = source.batch([3, 40])
    soft, _ = DisturbedAudio(source, [condition("gain, -20 dB").transform], RATE).batch([3, 40])
    torch.testing.assert_close(soft, 0.1 * x)
    noisy, _ = DisturbedAudio(source, [condition("white noise, 0 dB SNR").transform], RATE).batch([3, 3, 40])
    assert torch.equal(noisy[0], noisy[1])
    a, b = (noisy - source.batch([3, 3, 40])[0])[1:, :4000]
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.1


def test_recorded_noise_adds_conditions_and_a_folder_without_audio_is_refused(trained, tmp_path):
    (tmp_path / "street").mkdir()
    held = load_held_out(trained(*TRAINED), device=CPU, progress=False)
    with pytest.raises(DataError, match="street: no audio files"):
        stress_test(held, str(tmp_path / "street"), progress=False)
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE)
    soundfile.write(tmp_path / "street" / "cars.wav", noise, RATE)
    result = stress_test(held, str(tmp_path / "street"), progress=False)
    strengths = [row["strength"] for row in result["conditions"] if row["condition"] == "background noise"]
    assert strengths == ["20 dB SNR", "10 dB SNR", "0 dB SNR"]


def test_a_recipe_with_speaker_adaptation_adapts_under_every_condition(trained):
    path = trained(*TRAINED, "model.adapt=true")
    result = stress_test(load_held_out(path, device=CPU, progress=False), progress=False)
    assert "ADAPTED to each speaker with 12 unlabeled clips" in result["protocol"]
    assert result["conditions"][0]["uar"] == evaluate(path, device=CPU, progress=False).uar


CLEAN = {"condition": "as recorded", "strength": "", "uar": 0.725, "accuracy": 0.7, "change": 0.0, "interval": None}
TELEPHONE = {"condition": "telephone", "strength": "", "uar": 0.4, "accuracy": 0.4, "change": -0.325, "interval": None}
GAIN = {
    "condition": "gain",
    "strength": "-20 dB",
    "uar": 0.7,
    "accuracy": 0.7,
    "change": -0.025,
    "interval": [-0.05, 0.01],
}
RESULT = {
    "checkpoint": "run/best.safetensors",
    "part": "test",
    "protocol": "luna5 fold 0",
    "n_clips": 60,
    "n_speakers": 2,
    "chance": 0.125,
    "conditions": [
        {**CLEAN, "ood_fraction": None},
        {**TELEPHONE, "ood_fraction": 0.95},
        {**GAIN, "ood_fraction": 0.0},
    ],
}


def test_the_report_names_the_protocol_once_and_every_condition_with_its_change():
    lines = format_stress_test(RESULT).splitlines()
    assert lines[:2] == ["run/best.safetensors, test: 60 clips of 2 speakers", "protocol: luna5 fold 0"]
    rows = [line.split() for line in lines]
    assert ["as", "recorded", "72.5"] in rows
    assert ["telephone", "40.0", "-32.5", "95"] in rows
    assert ["gain", "-20", "dB", "70.0", "-2.5", "-5.0", "to", "+1.0", "0"] in rows
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(("speakers", "few"), [(1, False), (2, True), (14, True), (15, False)])
def test_a_stress_test_of_few_speakers_warns_of_narrow_intervals(speakers, few):
    text = format_stress_test({**RESULT, "n_speakers": speakers})
    assert (f"With {speakers} speakers the intervals are narrower than they should be" in text) == few
    assert ("there are no intervals" in text) == (speakers == 1)


def test_a_stress_test_says_why_clips_that_are_not_flagged_may_be_out_of_distribution():
    text = format_stress_test({**RESULT, "ood_unknown": "unknown: fitted on 3 speakers; 8 are needed"})
    assert "Whether clips that are not flagged are out-of-distribution is unknown: fitted on 3 speakers" in text


def test_the_figure_has_a_bar_for_each_condition_and_large_losses_in_red(tmp_path):
    figure = stress_figure(RESULT, RESULT["chance"], "a title")
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == pytest.approx([72.5, 40, 70])
    assert [to_hex(bar.get_facecolor()) == RED for bar in bars] == [False, True, False]
    assert figure_array(figure).std() > 0
    write_stress_test(tmp_path, RESULT)
    assert json.loads((tmp_path / "stress.json").read_text()) == RESULT
    assert (tmp_path / "stress.png").read_bytes().startswith(b"\x89PNG")


def test_every_condition_disturbs_every_clip(tiny_config):
    """A transform with p below 1 would leave some clips as they are."""
    source = clean_source(tiny_config)
    clips = np.arange(24)
    x, lengths = source.batch(clips)
    for condition in conditions():
        if condition.transform is not None:
            y, _ = augment([condition.transform], x, lengths, torch.from_numpy(clips), float(RATE), 0, 0)
            same = [torch.equal(a[: x.shape[1]], b[: y.shape[1]]) for a, b in zip(y, x, strict=True)]
            assert not any(same), condition
