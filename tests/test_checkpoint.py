"""Checkpoints: saving and loading, damage, failing disks, forged files, and files of format 1."""

import errno
import hashlib
import json
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from serx import checkpoint, files
from serx.checkpoint.metadata import FORMAT
from serx.config.loader import from_tree, tuples
from serx.errors import CheckpointError, DiskError
from serx.inference.predictor import Predictor
from serx.training.run_folder import LAST
from serx.training.trainer import fit


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "model.weight": torch.randn(7, 5),
        "model.count": torch.tensor(3),
        "epoch.finite": torch.tensor([True, False]),
        "ema.half": torch.randn(4).half(),
    }


@pytest.fixture
def saved(tensors, tmp_path):
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, tensors, {"labels": ["sad", "fröhlich"], "progress": {"epoch": 3}})
    return path


def test_tensors_and_metadata_come_back(saved, tensors):
    loaded = checkpoint.load(saved)
    assert loaded.metadata["labels"] == ["sad", "fröhlich"]
    assert loaded.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(loaded.tensors[name], tensor)
        assert loaded.tensors[name].dtype == tensor.dtype
    assert loaded.group("model").keys() == {"weight", "count"}


def test_the_same_run_gives_the_same_bytes(saved, tensors, tmp_path):
    checkpoint.save(tmp_path / "b.safetensors", tensors, {"labels": ["sad", "fröhlich"], "progress": {"epoch": 3}})
    assert saved.read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_plain_safetensors_reads_the_file(saved, tensors):
    from safetensors import safe_open

    with safe_open(saved, "pt") as file:
        assert torch.equal(file.get_tensor("model.weight"), tensors["model.weight"])
        assert json.loads(file.metadata()["serx"])["progress"] == {"epoch": 3}


def test_any_flipped_bit_is_refused_with_the_files_name(saved):
    content = saved.read_bytes()
    rng = random.Random(0)
    for position in [*range(16), *rng.sample(range(16, len(content)), 300)]:
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.randrange(8)
        saved.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="a.safetensors"):
            checkpoint.load(saved)


def test_a_file_cut_or_lengthened_anywhere_is_refused_with_its_name(saved):
    content = saved.read_bytes()
    for size in [*range(10), len(content) - 1, *random.Random(1).sample(range(10, len(content) - 1), 300)]:
        saved.write_bytes(content[:size])
        with pytest.raises(CheckpointError, match="a.safetensors"):
            checkpoint.load(saved)
    saved.write_bytes(content + b"x")
    with pytest.raises(CheckpointError, match="a.safetensors"):
        checkpoint.load(saved)


class Payload:
    """Unpickling this makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_is_refused_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    trace = tmp_path / "trace"
    raw, zipped = tmp_path / "raw.safetensors", tmp_path / "zip.safetensors"
    raw.write_bytes(pickle.dumps(Payload(trace)))
    torch.save({"model.weight": Payload(trace)}, zipped)
    for path in (raw, zipped, tmp_path / "absent.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match=path.name):
            checkpoint.load(path)
    assert not trace.exists()


def test_weights_with_nan_or_infinity_are_never_written(tensors, tmp_path):
    for bad in (float("nan"), float("inf")):
        tensors["model.weight"][2, 2] = bad
        with pytest.raises(CheckpointError, match=r"model\.weight"):
            checkpoint.save(tmp_path / "x.safetensors", tensors, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_disk_leaves_the_old_checkpoint_and_no_temporary_file(call, saved, tensors, monkeypatch):
    before = saved.read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, call, fail)
    with pytest.raises(DiskError, match="free") as caught:
        checkpoint.save(saved, tensors, {"progress": {"epoch": 4}})
    assert str(saved) in str(caught.value)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_an_unknown_format_is_refused_with_its_number(saved, tensors):
    checkpoint.save(saved, tensors, {"format": 99})
    with pytest.raises(CheckpointError, match="99"):
        checkpoint.load(saved)


def signed(header: dict, data: bytes = b"") -> bytes:
    """A safetensors file of any header, with a correct sha256."""
    metadata = json.dumps({"format": FORMAT, "sha256": "0" * 64})
    text = json.dumps({"__metadata__": {"serx": metadata}, **header}).encode()
    unsigned = len(text).to_bytes(8, "little") + text + data
    return unsigned.replace(b"0" * 64, hashlib.sha256(unsigned).hexdigest().encode(), 1)


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


FORGED = {
    "NaN": ({"x": entry("F32", [1], 0, 4)}, b"\x00\x00\xc0\x7f"),
    "half-precision infinity": ({"x": entry("F16", [1], 0, 2)}, b"\x00\x7c"),
    "a type of four bits": ({"x": entry("F4", [2], 0, 1)}, b"\x00"),
    "an unknown type": ({"x": entry("F13", [1], 0, 4)}, bytes(4)),
    "a shape beyond the file": ({"x": entry("F32", [1 << 40], 0, 4)}, bytes(4)),
    "a shape beyond all numbers": ({"x": entry("F32", [1 << 40, 1 << 40], 0, 4)}, bytes(4)),
    "a negative shape": ({"x": entry("F32", [-1], 0, 4)}, bytes(4)),
    "tensors that overlap": ({"x": entry("F32", [1], 0, 4), "y": entry("F32", [1], 0, 4)}, bytes(4)),
    "bytes of no tensor": ({"x": entry("F32", [1], 0, 4)}, bytes(8)),
}


@pytest.mark.parametrize("name", FORGED)
def test_tensors_that_save_never_writes_are_refused_although_the_sha256_is_correct(name, tmp_path):
    path = tmp_path / "forged.safetensors"
    path.write_bytes(signed({"x": entry("F32", [1], 0, 4)}, bytes(4)))
    checkpoint.load(path)  # the forging itself works
    path.write_bytes(signed(*FORGED[name]))
    with pytest.raises(CheckpointError, match=r"forged\.safetensors") as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sha256", ["\ud800" * 64, "é" * 64, "0" * 63, 64, None, ["0"] * 64])
def test_a_sha256_of_another_form_is_refused(sha256, tmp_path):
    text = json.dumps({"__metadata__": {"serx": json.dumps({"format": 1, "sha256": sha256})}}).encode()
    (tmp_path / "forged.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        checkpoint.load(tmp_path / "forged.safetensors")


FORMAT_1 = Path(__file__).parent / "data_files" / "format1"  # written by serx before the redesign (format 1)
PERIODS = {"01": 130, "03": 90, "05": 60}  # samples; RAVDESS codes of neutral, happy, angry


def write_integer_corpus(root: Path) -> Path:
    """The corpus behind `FORMAT_1`, made by integer arithmetic, so that its bytes are the same everywhere."""
    for actor in range(1, 7):
        folder = root / f"Actor_{actor:02d}"
        folder.mkdir(parents=True)
        for code, period in PERIODS.items():
            for take in range(2):
                name = 7919 * actor + 104_729 * take + 31 * period
                position = np.arange(5000 + 700 * take + 10 * actor, dtype=np.int64)
                triangle = np.abs((position * 997 // (period + actor)) % 2000 - 1000) - 500
                noise = (position * position * name + position * 7_368_787) % 65_537 % 1001 - 500
                loudness, bend = ((position // 500 * prime + 1) * name % 15 + 1 for prime in (127, 8191))
                samples = ((triangle * loudness + noise * bend) * (1 + actor % 2)).astype(np.int16)
                path = folder / f"03-01-{code}-01-01-0{take + 1}-{actor:02d}.wav"
                soundfile.write(path, samples, 16_000, subtype="PCM_16")
    return root


@pytest.fixture(scope="module")
def integer_corpus(tmp_path_factory) -> Path:
    return write_integer_corpus(tmp_path_factory.mktemp("integers") / "corpus")


def assert_recorded(predictor: Predictor, name: str, corpus: Path) -> None:
    """The probabilities of three clips are those that the old version printed."""
    recorded = json.loads((FORMAT_1 / "probabilities.json").read_text())[name]
    predictions = predictor([corpus / "Actor_06" / file for file in recorded])
    for prediction, expected in zip(predictions, recorded.values(), strict=True):
        np.testing.assert_allclose(list(prediction.probabilities.values()), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["ensemble", "classical"])
def test_a_checkpoint_of_format_1_predicts_the_recorded_probabilities(name, integer_corpus):
    """The ensemble has shared stages, a GRU, the relaxed norm and two speeds; the classical model is an SVM."""
    assert_recorded(Predictor.load(FORMAT_1 / f"{name}.safetensors", torch.device("cpu")), name, integer_corpus)


def test_the_configuration_of_format_1_gets_todays_names():
    config = from_tree(tuples(checkpoint.load(FORMAT_1 / "ensemble.safetensors").metadata["config"]))
    assert (config.model.ensemble_size, config.model.shared_stages, config.model.tta_speeds) == (2, 1, (0.92, 1.0))
    assert config.model.relaxed_freq_norm == 0.5
    assert (config.optim.warmup_ratio, config.optim.final_lr_ratio) == (0.2, 0.01)
    assert (config.train.ema_decay, config.train.accumulation_steps, config.train.clip_grad_norm) == (0.9, 2, 4.0)
    assert (config.train.sampling, config.train.precision) == ("class_balanced", "bf16_if_native")
    assert [t.kind for t in config.augment.waveform] == ["noise", "polarity_inversion", "reverb"]
    assert config.augment.waveform[2].drr_db == (0.0, 20.0)
    assert config.augment.spectrogram[0].max_fraction == 0.2
    assert config.augment.mel_warp.p == 0.5


@pytest.mark.slow
def test_a_run_of_format_1_resumes_to_the_recorded_end(integer_corpus, tmp_path):
    """Two of three epochs were trained by the old version, which recorded the predictions after the third."""
    run = tmp_path / "run"
    run.mkdir()
    (run / LAST).write_bytes((FORMAT_1 / "cnn1d-after-2-of-3-epochs.safetensors").read_bytes())
    config = from_tree(tuples(checkpoint.load(run / LAST).metadata["config"]))
    config = config.model_copy(update={"data": config.data.model_copy(update={"root": str(integer_corpus)})})
    fit(config, run, resume=True, progress=False)
    resumed = checkpoint.load_run_checkpoint(run / LAST)
    assert resumed.metadata["format"] == FORMAT and resumed.metadata["progress"]["epoch"] == 3
    assert_recorded(Predictor.load(run / LAST, torch.device("cpu")), "cnn1d-resumed", integer_corpus)


@pytest.mark.parametrize("config", [None, [1], {}, {"model": 3}, {"model": {"kind": "cnn2d"}}], ids=str)
def test_a_file_of_format_1_without_a_readable_configuration_is_refused(config, saved):
    checkpoint.save(saved, {"model.backbone.bias": torch.zeros(1)}, {"config": config, "format": 1})
    with pytest.raises(CheckpointError, match=r"a\.safetensors: not the checkpoint of a run"):
        checkpoint.load(saved)
