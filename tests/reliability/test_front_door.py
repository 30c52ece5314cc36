"""Python calls with wrong arguments: one line that names the argument, before anything is read or written."""

from pathlib import Path

import numpy as np
import pytest
import torch

import serx
from serx.errors import ConfigError, SerxError
from serx.features import LogMel
from serx.training.run_folder import BEST

WRONG_PATHS = {"bytes": b"run", "a number": 7, "empty": "", "a zero byte": "a\0b", "a list": ["run"]}


@pytest.mark.parametrize("recipe", [None, 7, b"cnn2d", ["cnn2d"]])
def test_a_recipe_of_another_type_is_one_line(recipe):
    with pytest.raises(ConfigError, match="recipe: expected the name or the file of a recipe"):
        serx.load_config(recipe)


@pytest.mark.parametrize("override", [7, None, [1, 2], [["train.epochs=3"]], {7: 3}, {"": 3}, {None: 1}, 1.5, object()])
def test_overrides_of_another_type_are_one_line(override):
    with pytest.raises(ConfigError, match="is not section.key=value, such as train.epochs=20") as caught:
        serx.load_config("cnn2d", override)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", [None, "cnn2d", Path("tiny.yaml"), {"data": {"root": "x"}}])
def test_fit_without_a_configuration_names_load_config(config, tmp_path):
    with pytest.raises(ConfigError, match="config: expected what load_config.* returns"):
        serx.fit(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"folder": path}, "folder: ") for path in WRONG_PATHS.values()),
        ({"resume": "checkpoints/run"}, "resume: expected True or False, got 'checkpoints/run'"),
        ({"overwrite": 1}, "overwrite: expected True or False"),
        ({"resume": True, "overwrite": True}, "resume and overwrite"),
        ({"on_epoch": 7}, "on_epoch: expected a function, got int"),
    ],
)
def test_fit_refuses_wrong_arguments_before_it_writes(options, message, tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=message) as caught:
        serx.fit(tiny_config(), **{"folder": tmp_path / "run", "progress": False, **options})
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*.safetensors")) == [] and set(tmp_path.iterdir()) - set(before) <= {
        tmp_path / "tiny.yaml"
    }


def test_evaluate_and_load_refuse_wrong_arguments(trained):
    best = trained / "run" / BEST
    for part in ("tset", None, 7):
        with pytest.raises(ConfigError, match="no such part; give test, valid, all"):
            serx.evaluate(best, part=part)
    for path in WRONG_PATHS.values():
        with pytest.raises(ConfigError, match="checkpoint: "):
            serx.Predictor.load(path)
        with pytest.raises(ConfigError, match="root: "):
            serx.evaluate(best, root=path)
        with pytest.raises(ConfigError, match="cache: "):
            serx.evaluate(best, cache=path)


def test_samples_that_are_no_dense_numbers_or_have_no_rate_are_one_line(trained):
    predictor = serx.Predictor.load(trained / "run" / BEST, "cpu")
    noise = 0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    for rate in ("16000", None, 0, -1, float("nan"), True, 1e9, [16_000]):
        with pytest.raises(SerxError, match="bad_rate"):
            predictor(noise, rate)
    for samples in (noise.to_sparse(), torch.empty(16_000, device="meta"), noise.bool(), noise * 1j,
                    torch.quantize_per_tensor(noise, 0.1, 0, torch.qint8), noise.numpy().astype(str)):  # fmt: skip
        with pytest.raises(SerxError, match="not_audio"):
            predictor(samples, 16_000)
    assert predictor(noise, np.float64(16_000)).label in predictor.labels


@pytest.mark.parametrize(
    ("waveform", "lengths", "message"),
    [
        (torch.zeros(1, 2, 800), None, r"shape \(1, 2, 800\)"),
        (torch.zeros(1, 800, dtype=torch.int16), None, "floats with full scale 1"),
        (np.zeros(800), None, "got ndarray"),
        (torch.zeros(0, 800), None, "at least one clip"),
        (torch.zeros(2, 0), None, "at least one sample"),
        (torch.zeros(2, 800), [800, 800], "lengths: expected a tensor"),
        (torch.zeros(2, 800), torch.tensor([800]), "integers expected"),
        (torch.zeros(2, 800), torch.tensor([800.0, 1.0]), "integers expected"),
        (torch.zeros(2, 800), torch.tensor([801, 1]), "from 1 to 801"),
        (torch.zeros(2, 800), torch.tensor([800, -1]), "from -1 to 800"),
    ],
)
def test_features_and_augmentation_refuse_batches_that_do_not_fit(waveform, lengths, message):
    with pytest.raises(ValueError, match=message):
        LogMel(8_000, n_mels=16, n_fft=256)(waveform, lengths)
    if lengths is not None:
        with pytest.raises(ValueError, match=message):
            serx.augment.Compose([serx.augment.Gain(p=1)], sample_rate=8_000)(waveform, lengths)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), 1e12])
def test_augmentation_refuses_absurd_sample_rates(rate):
    with pytest.raises(ValueError, match="sample_rate"):
        serx.augment.Compose([serx.augment.Gain(p=1)], sample_rate=rate)
