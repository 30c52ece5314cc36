"""Hostile files in place of checkpoints: train --resume, evaluate and predict refuse them, and no code runs."""

import gzip
import io
import json
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from serx import checkpoint
from serx.checkpoint.metadata import FORMAT
from serx.config.loader import load_config
from serx.errors import CheckpointError, SerxError
from serx.evaluation import evaluate
from serx.inference.predictor import Predictor
from serx.training.run_folder import BEST, LAST, PREVIOUS
from serx.training.state import TrainingState
from serx.training.trainer import fit
from tests.conftest import TINY
from tests.test_checkpoint import FORMAT_1

CPU = torch.device("cpu")
OLD_RUN = FORMAT_1 / "cnn1d-after-2-of-3-epochs.safetensors"


class Payload:
    """Unpickling this makes the folder `trace`."""

    def __init__(self, trace: Path) -> None:
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def _safetensors(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def _torch(trace: Path, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": Payload(trace), "config": {}}, buffer, **options)
    return buffer.getvalue()


def _legacy_tar(trace: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps(Payload(trace))
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _numpy(trace: Path) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, model=np.array([Payload(trace)], dtype=object))
    return buffer.getvalue()


def _zip(trace: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Payload(trace)))
        archive.writestr("archive/code/__torch__.py", f"import os; os.mkdir({str(trace)!r})")
    return buffer.getvalue()


def _pickle_in_metadata(trace: Path) -> bytes:
    return _safetensors(json.dumps({"__metadata__": {"serx": pickle.dumps(Payload(trace), 0).decode()}}).encode())


PAYLOADS = {
    "torch zip": _torch,
    "torch legacy": lambda trace: _torch(trace, _use_new_zipfile_serialization=False),
    "legacy tar": _legacy_tar,
    "raw pickle 0": lambda trace: pickle.dumps(Payload(trace), 0),
    "raw pickle 2": lambda trace: pickle.dumps(Payload(trace), 2),
    "raw pickle 5": lambda trace: pickle.dumps(Payload(trace), 5),
    "gzipped pickle": lambda trace: gzip.compress(pickle.dumps(Payload(trace))),
    "numpy objects": _numpy,
    "zip with code": _zip,
    "pickle in a header": _pickle_in_metadata,
    "header without end": lambda trace: struct.pack("<Q", 2**63) + b"{" * 100,
    "deep header": lambda trace: _safetensors(b"[" * 200_000),
    "deep metadata": lambda trace: _safetensors(json.dumps({"__metadata__": {"serx": "[" * 200_000}}).encode()),
    "tensors beyond the file": lambda trace: _safetensors(
        b'{"x":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}'
    ),
}


def use(command: str, path: Path, trained: Path) -> None:
    """Uses a checkpoint as the command does."""
    if command == "resume":
        fit(load_config(trained / "tiny.yaml", [*TINY, "train.epochs=9"]), path.parent, resume=True, progress=False)
    elif command == "evaluate":
        evaluate(path, None, "test", CPU, progress=False)
    else:
        Predictor.load(path, CPU)


@pytest.mark.parametrize("command", ["resume", "evaluate", "predict"])
@pytest.mark.parametrize("name", PAYLOADS)
def test_a_hostile_file_is_refused_with_its_name_and_runs_nothing(name, command, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    trace = tmp_path / "trace"
    path = tmp_path / "run" / LAST
    path.parent.mkdir()
    path.write_bytes(PAYLOADS[name](trace))
    with pytest.raises(CheckpointError) as caught:
        use(command, path, trained)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not trace.exists()


def test_the_payloads_act_if_they_are_unpickled(tmp_path):
    pickle.loads(PAYLOADS["raw pickle 2"](tmp_path / "trace"))
    assert (tmp_path / "trace").exists()


def test_resume_falls_back_from_a_hostile_newest_checkpoint_to_the_one_before(trained, tmp_path):
    (trained / "run" / LAST).write_bytes(PAYLOADS["torch zip"](tmp_path / "trace"))
    fit(load_config(trained / "tiny.yaml", [*TINY, "train.epochs=8"]), trained / "run", resume=True, progress=False)
    assert checkpoint.load(trained / "run" / LAST).metadata["progress"]["epoch"] == 8
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "fifo", "."])
def test_a_path_that_is_no_regular_file_is_refused_at_once(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    with pytest.raises(CheckpointError, match=path.replace(".", r"\.")):
        checkpoint.load(path)


FORGERIES = {
    "no config": lambda metadata: metadata.pop("config"),
    "config is a list": lambda metadata: metadata.update(config=[1]),
    "config is deep": lambda metadata: metadata["config"].update(data=_deep()),
    "labels are a number": lambda metadata: metadata.update(labels=3),
    "labels are numbers": lambda metadata: metadata.update(labels=[[1], {}]),
    "no speakers of a part": lambda metadata: metadata["speakers"].pop("train"),
    "digests are text": lambda metadata: metadata.update(digests="x"),
    "code for a model": lambda metadata: metadata["config"].update(model={"kind": "os.system", "name": "reboot"}),
    "a model from the net": lambda metadata: metadata["config"].update(model={"kind": "timm", "name": "hf-hub:a/b"}),
    "a model from a folder": lambda metadata: metadata["config"].update(model={"kind": "timm", "name": "local-dir:/"}),
    "a key to import": lambda metadata: metadata["config"]["model"].update(_target_="os.system"),
    "a model of terabytes": lambda metadata: metadata["config"]["model"].update(widths=[10_000_000] * 3),
    "a spectrum of terabytes": lambda metadata: metadata["config"]["features"].update(n_fft=1 << 40),
    "a filter bank of terabytes": lambda metadata: metadata["config"]["features"].update(n_mels=1 << 40),
    "a thousand models": lambda metadata: metadata["config"]["model"].update(ensemble_size=1000),
    "a stage without a stride": lambda metadata: metadata["config"]["model"].update(strides=[2, 2]),
    "a temperature of zero": lambda metadata: metadata.update(temperature=0.0),
    "a temperature that is text": lambda metadata: metadata.update(temperature="1"),
}  # fmt: skip


def _deep() -> list:
    value: list = []
    for _ in range(400):
        value = [value]
    return value


@pytest.mark.parametrize("version", [1, FORMAT])
@pytest.mark.parametrize("command", ["evaluate", "predict"])
@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_file_with_a_correct_sha256_is_refused(name, command, version, trained, tmp_path):
    original = OLD_RUN if version == 1 else trained / "run" / BEST
    with safe_open(original, "pt") as file:
        metadata = json.loads(file.metadata()["serx"])
    del metadata["sha256"]
    FORGERIES[name](metadata)
    checkpoint.save(tmp_path / "forged.safetensors", load_file(original), metadata)
    with pytest.raises(CheckpointError, match=r"forged\.safetensors"):
        use(command, tmp_path / "forged.safetensors", trained)


def test_best_renamed_to_last_is_refused_because_it_lacks_training_state(trained):
    shutil.copy(trained / "run" / BEST, trained / "run" / LAST)
    (trained / "run" / PREVIOUS).unlink()
    with pytest.raises(CheckpointError, match="missing"):
        fit(load_config(trained / "tiny.yaml", [*TINY, "train.epochs=8"]), trained / "run", resume=True, progress=False)


PIECES = ("epoch", "step", "best", "best_epoch", "epochs_since_best", "plateau_scale", "epochs_on_plateau")
WRONG = {"missing": None, "text": "1", "negative": -1, "NaN": float("nan"), "a list": [1], "true": True}


@pytest.mark.parametrize("wrong", WRONG)
def test_each_piece_of_progress_that_is_missing_or_forged_is_named(wrong, trained):
    config = load_config(trained / "tiny.yaml", [*TINY, "train.epochs=8"])
    saved = checkpoint.load(trained / "run" / LAST)
    assert saved.metadata["progress"].keys() == set(PIECES)
    state = TrainingState(config, tuple(saved.metadata["labels"]), CPU, pretrained=False)
    state.start_average()
    state.load_state_dict(saved)
    for piece in PIECES:
        if wrong == "negative" and piece in ("best", "plateau_scale"):
            continue  # a score may be negative: it is the loss times -1
        progress = {**saved.metadata["progress"], piece: WRONG[wrong]}
        if wrong == "missing":
            del progress[piece]
        with pytest.raises(CheckpointError, match=rf"progress\.{piece}"):
            state.load_state_dict(checkpoint.Checkpoint(saved.tensors, {**saved.metadata, "progress": progress}))
    progress = {**saved.metadata["progress"], "extra": 1}
    with pytest.raises(CheckpointError, match=r"progress\.extra is left over"):
        state.load_state_dict(checkpoint.Checkpoint(saved.tensors, {**saved.metadata, "progress": progress}))


def test_every_tensor_of_another_shape_or_dtype_is_named(trained):
    config = load_config(trained / "tiny.yaml", [*TINY, "train.epochs=8"])
    saved = checkpoint.load(trained / "run" / LAST)
    state = TrainingState(config, tuple(saved.metadata["labels"]), CPU, pretrained=False)
    state.start_average()
    for name, tensor in saved.tensors.items():
        for forged in (tensor[None].repeat(2, *[1] * tensor.dim()), tensor.to(torch.complex64)):
            if (name == "scaler.growth" and forged.dim() == 0) or (name == "scaler.scale" and forged.dim() == 0):
                continue  # these two are read as plain numbers
            with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
                state.load_state_dict(checkpoint.Checkpoint({**saved.tensors, name: forged}, saved.metadata))


@pytest.mark.parametrize("name", FORGERIES)
def test_no_forged_file_with_a_correct_sha256_resumes(name, trained):
    saved = checkpoint.load(trained / "run" / LAST)
    metadata = {key: value for key, value in saved.metadata.items() if key not in ("format", "sha256")}
    FORGERIES[name](metadata)
    checkpoint.save(trained / "run" / LAST, saved.tensors, metadata)
    (trained / "run" / PREVIOUS).unlink()
    if name.startswith("a temperature"):
        return  # only predictions read it
    with pytest.raises(SerxError, match=r"--resume|last\.safetensors"):
        fit(load_config(trained / "tiny.yaml", [*TINY, "train.epochs=9"]), trained / "run", resume=True, progress=False)
