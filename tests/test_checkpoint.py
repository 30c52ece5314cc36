"""Checkpoints: what is written comes back; what was touched is refused by name; what fails leaves the old one."""

import errno
import hashlib
import json
import os
import pickle
import random

import pytest
import torch

from serx import checkpoint, files
from serx.errors import CheckpointError, DiskError


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


def test_tensors_and_facts_come_back(saved, tensors):
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


def test_the_wider_world_can_read_the_file(saved, tensors):
    from safetensors import safe_open

    with safe_open(saved, "pt") as file:
        assert torch.equal(file.get_tensor("model.weight"), tensors["model.weight"])
        assert json.loads(file.metadata()["serx"])["progress"] == {"epoch": 3}


def test_any_flipped_byte_is_refused_by_name(saved):
    content = saved.read_bytes()
    choose = random.Random(0)
    for place in [*range(16), *choose.sample(range(16, len(content)), 300)]:
        broken = bytearray(content)
        broken[place] ^= 1 << choose.randrange(8)
        saved.write_bytes(broken)
        with pytest.raises(CheckpointError, match="a.safetensors"):
            checkpoint.load(saved)


def test_any_cut_or_lengthened_file_is_refused_by_name(saved):
    content = saved.read_bytes()
    for size in [*range(10), len(content) - 1, *random.Random(1).sample(range(10, len(content) - 1), 300)]:
        saved.write_bytes(content[:size])
        with pytest.raises(CheckpointError, match="a.safetensors"):
            checkpoint.load(saved)
    saved.write_bytes(content + b"x")
    with pytest.raises(CheckpointError, match="a.safetensors"):
        checkpoint.load(saved)


class Payload:
    """Unpickling this would leave a trace."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    trace = tmp_path / "trace"
    raw, zipped = tmp_path / "raw.safetensors", tmp_path / "zip.safetensors"
    raw.write_bytes(pickle.dumps(Payload(trace)))
    torch.save({"model.weight": Payload(trace)}, zipped)
    for path in (raw, zipped, tmp_path / "absent.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match=path.name):
            checkpoint.load(path)
    assert not trace.exists()


def test_weights_that_are_not_finite_are_never_written(tensors, tmp_path):
    for bad in (float("nan"), float("inf")):
        tensors["model.weight"][2, 2] = bad
        with pytest.raises(CheckpointError, match=r"model\.weight"):
            checkpoint.save(tmp_path / "x.safetensors", tensors, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_disk_leaves_the_old_checkpoint_and_no_litter(call, saved, tensors, monkeypatch):
    before = saved.read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, call, fail)
    with pytest.raises(DiskError, match="free") as caught:
        checkpoint.save(saved, tensors, {"progress": {"epoch": 4}})
    assert str(saved) in str(caught.value)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_another_format_is_refused_with_its_number(saved, tensors, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 99)
    checkpoint.save(saved, tensors, {})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="99"):
        checkpoint.load(saved)


def signed_by_hand(header: dict, data: bytes = b"") -> bytes:
    """A safetensors file with a right checksum, of a header as it is given."""
    metadata = json.dumps({"format": checkpoint.FORMAT, "sha256": "0" * 64})
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
def test_tensors_that_no_save_writes_are_refused_by_name_though_the_checksum_is_right(name, tmp_path):
    path = tmp_path / "forged.safetensors"
    path.write_bytes(signed_by_hand({"x": entry("F32", [1], 0, 4)}, bytes(4)))
    checkpoint.load(path)  # so the forger knows how
    path.write_bytes(signed_by_hand(*FORGED[name]))
    with pytest.raises(CheckpointError, match=r"forged\.safetensors") as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sha256", ["\ud800" * 64, "é" * 64, "0" * 63, 64, None, ["0"] * 64])
def test_a_checksum_that_is_none_is_refused(sha256, tmp_path):
    text = json.dumps({"__metadata__": {"serx": json.dumps({"format": 1, "sha256": sha256})}}).encode()
    (tmp_path / "forged.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        checkpoint.load(tmp_path / "forged.safetensors")
