"""Checkpoints whose metadata was altered and signed again: they are refused with one line, or used with sane output."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from serx import checkpoint
from serx.checkpoint.metadata import metadata_fault
from serx.cli.main import main
from serx.errors import CheckpointError
from serx.inference.predictor import Predictor
from serx.terminal import printable
from serx.training.run_folder import BEST, LAST, METRICS, read_metrics
from tests.test_checkpoint import FORMAT_1


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


VALUES: dict[str, Any] = {
    "null": None, "a number": 7, "negative": -1, "a fraction": 0.5, "true": True, "text": "x", "no text": "",
    "a list": [1], "an empty list": [], "an empty object": {}, "huge": 10**30, "long": "x" * 1_000_000,
    "many": ["x"] * 100_000, "nested": nested(300), "a surrogate": "\ud800", "control": "\x1b]0;owned\x07",
    "bidirectional": "abc\u202ecba", "two lines": "a\nb", "in lists": [["x"]], "keys": {"\x1b[2J": 1},
}  # fmt: skip
ITEMS = (
    "progress", "config", "labels", "protocol", "speaker_independent", "speakers", "digests", "environment",
    "init_from",
    "temperature", "labels.0", "speakers.train", "speakers.test", "speakers.train.0", "digests.valid",
    "digests.train.0",
    "environment.threads", "environment.torch", "progress.epoch", "progress.step", "progress.best",
    "progress.best_epoch", "progress.epochs_since_best", "progress.plateau_scale", "config.data", "config.model",
    "config.model.tta_speeds", "config.data.sample_rate", "config.data.cache", "config.features.n_mels", "format",
    "an extra item",
)  # fmt: skip


def metadata_of(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["serx"])


def replaced(metadata: dict[str, Any], item: str, value: Any) -> dict[str, Any]:
    metadata = json.loads(json.dumps(metadata))
    place: Any = metadata
    *outer, last = item.split(".")
    for key in outer:
        place = place[int(key)] if isinstance(place, list) else place[key]
    if isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
    return metadata


def forge(original: Path, path: Path, metadata: dict[str, Any]) -> Path:
    checkpoint.save(path, load_file(original), {key: value for key, value in metadata.items() if key != "sha256"})
    return path


@pytest.mark.parametrize("item", ITEMS)
def test_each_altered_item_is_refused_on_one_line_or_gives_a_sane_predictor(item, tmp_path):
    original = tmp_path / "original.safetensors"
    old = checkpoint.load(FORMAT_1 / "ensemble.safetensors")
    checkpoint.save(original, old.tensors, {k: v for k, v in old.metadata.items() if k != "sha256"})
    metadata = metadata_of(original)
    used = []
    for name, value in VALUES.items():
        path = forge(original, tmp_path / "forged.safetensors", replaced(metadata, item, value))
        try:
            predictor = Predictor.load(path, torch.device("cpu"))
        except CheckpointError as error:
            message = str(error)
            assert str(path) in message and "\n" not in message and len(message) < 1000, (name, message[:2000])
            continue
        used.append(name)
        assert all(label == printable(label) for label in predictor.labels)
        assert printable(predictor.metadata["protocol"]) == predictor.metadata["protocol"]
        assert 0.01 < predictor.recognizer.temperature < 100
        [prediction] = predictor.predict_clips([torch.sin(torch.arange(8000) / 9).numpy()])
        assert math.isclose(sum(prediction.probabilities.values()), 1, abs_tol=1e-4)
    if item in ("progress", "config", "speakers", "digests", "format", "an extra item", "digests.train.0"):
        assert not used


def test_labels_that_are_there_twice_or_speakers_on_both_sides_are_refused(tmp_path):
    saved = checkpoint.load(FORMAT_1 / "ensemble.safetensors").metadata
    metadata = {**saved, "sha256": "0" * 64}
    assert metadata_fault(metadata) is None
    assert "twice" in metadata_fault({**metadata, "labels": ["sad", "sad", "angry"]})
    speakers = {**metadata["speakers"], "test": metadata["speakers"]["train"]}
    assert "in train and in test" in metadata_fault({**metadata, "speakers": speakers})
    progress = {**metadata["progress"], "best": None}
    assert "best_epoch" in metadata_fault({**metadata, "progress": progress})
    for temperature in (math.nan, math.inf, -1.0, 0.0):
        assert "temperature" in metadata_fault({**metadata, "temperature": temperature})


@pytest.mark.parametrize("name", ["running_var", "normalizer.deviation"])
def test_a_negative_variance_is_refused_by_name(name, trained):
    best = trained / "run" / BEST
    tensors = load_file(best)
    for key in [key for key in tensors if key.endswith(name)]:
        tensors[key] = -tensors[key]
        checkpoint.save(best, tensors, {k: v for k, v in metadata_of(best).items() if k != "sha256"})
        with pytest.raises(CheckpointError, match=rf"{BEST}.*{key.replace('.', chr(92) + '.')}"):
            Predictor.load(best, torch.device("cpu"))
        break
    else:
        raise AssertionError(f"no tensor {name}")


@pytest.mark.parametrize("name", ["speaker.", "speaker.x.y", "speaker", "ood", "model", "x"])
def test_a_tensor_that_belongs_nowhere_is_refused_by_name(name, trained):
    best = trained / "run" / BEST
    metadata = {key: value for key, value in metadata_of(best).items() if key != "sha256"}
    checkpoint.save(best, {**load_file(best), name: torch.zeros(3)}, metadata)
    with pytest.raises(CheckpointError, match=rf"{BEST}.*{name.rstrip('.')}.*(left over|unknown|missing)"):
        Predictor.load(best, torch.device("cpu"))


def header_of(content: dict[str, Any] | bytes, data: bytes = b"") -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return len(text).to_bytes(8, "little") + text + data


MEMORY_MB = 64
PROGRAM = """
import resource, sys
from serx import checkpoint
from serx.errors import CheckpointError
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (int(sys.argv[2]) << 20)
resource.setrlimit(resource.RLIMIT_AS, (size, size))
for path in sys.argv[3:]:
    try:
        getattr(checkpoint, sys.argv[1])(path)
    except CheckpointError as error:
        assert path in str(error) and "\\n" not in str(error), error
        print("refused")
"""


def test_files_that_ask_for_much_memory_are_refused_within_little_memory(tmp_path):
    signature = json.dumps({"format": 2, "sha256": "0" * 64})
    files = {
        "20 MB of metadata": header_of({"__metadata__": {"serx": json.dumps({"x": "y" * 20_000_000})}}),
        "20 MB of lists": header_of(b'{"a":[' + b"[]," * 7_000_000 + b"[]]}"),
        "5 MB of lists": header_of(b'{"a":[' + b"[]," * 1_700_000 + b"[]]}"),
        "hidden lists": header_of({"__metadata__": {"serx": "[" + "[]," * 300_000 + "[]]"}}),
        "a tensor of terabytes": header_of(
            {
                "__metadata__": {"serx": signature},
                "x": {"dtype": "U8", "shape": [1 << 42], "data_offsets": [0, 1 << 42]},
            }
        ),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    sparse = tmp_path / "3 GB without content"
    with sparse.open("wb") as file:
        file.write(header_of({"__metadata__": {"serx": signature}}))
        file.truncate(3 << 30)
    paths = [*map(str, (tmp_path / name for name in files)), str(sparse)]
    command = [sys.executable, "-c", PROGRAM, "load_run_checkpoint", str(MEMORY_MB), *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.split() == ["refused"] * len(paths), done.stderr


def test_a_signed_tensor_that_the_model_does_not_need_is_refused_before_it_is_read(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("serx.checkpoint.tensors.MAX_SMALL_BYTES", 1 << 20)
    best = trained / "run" / BEST
    metadata = {key: value for key, value in metadata_of(best).items() if key != "sha256"}
    extra = {**load_file(best), "model.extra": torch.zeros(2 << 20, dtype=torch.uint8)}
    checkpoint.save(tmp_path / "extra.safetensors", extra, metadata)
    with pytest.raises(CheckpointError, match="left over"):
        checkpoint.load_run_checkpoint(tmp_path / "extra.safetensors")


def exit_code(*words: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(words[0], words[1:])
    return exit_.value.code


def test_commands_print_no_control_characters_of_names_and_exit_with_7_for_labels_that_hold_some(
    trained, tiny_root, tmp_path, capsys
):
    best = trained / "run" / BEST
    hostile = tmp_path / "a\x1b[31m\nb\u202ec.wav"
    hostile.write_bytes(next(Path(tiny_root).rglob("*.wav")).read_bytes())
    broken = tmp_path / "\rbroken\x9b.wav"
    broken.write_text("no audio")
    assert exit_code("predict", "--checkpoint", str(best), str(hostile), str(broken)) == 1
    assert exit_code("predict", "--checkpoint", str(tmp_path / "no\x1b.safetensors"), str(hostile)) == 7
    metadata = metadata_of(best)
    for value in VALUES.values():
        path = forge(best, tmp_path / "forged.safetensors", replaced(metadata, "labels.0", value))
        code = exit_code("predict", "--checkpoint", str(path), str(hostile))
        assert code == 7 or value in ("x", "long")
    out, err = capsys.readouterr()
    assert r"a\x1b[31m\nb\u202ec.wav" in out and r"\rbroken\x9b.wav" in out
    assert all(printable(line) == line for line in (out + err).split("\n"))
    assert "Traceback" not in err


def test_a_path_in_a_checkpoint_does_not_decide_where_evaluate_writes(trained, tmp_path, monkeypatch, capsys):
    best, elsewhere, chosen = trained / "run" / BEST, tmp_path / "elsewhere", tmp_path / "chosen"
    forge(best, best, replaced(metadata_of(best), "config.data.cache", str(elsewhere)))
    monkeypatch.setenv("SERX_CACHE", str(tmp_path / "default"))
    words = ("evaluate", "--checkpoint", str(best), "--device", "cpu", "--out", str(tmp_path / "out"))
    assert exit_code(*words) == 0 and (tmp_path / "default").exists()
    assert exit_code(*words, "--cache", str(chosen)) == 0 and chosen.exists()
    assert not elsewhere.exists()


SCORES = {"loss": 1.5, "uar": 0.5, "accuracy": 0.5, "macro_f1": 0.5}
LINE = {"epoch": 0, "train": SCORES, "valid": SCORES, "kept": True, "protocol": "holdout"}
BROKEN_LINES = {
    "deep": b"[" * 100_000,
    "deep object": b'{"epoch":' * 5_000,
    "half": json.dumps(LINE).encode()[:40],
    "another type": json.dumps({**LINE, "train": [1]}).encode(),
    "a score of 7": json.dumps({**LINE, "train": {**SCORES, "uar": 7.0}}).encode(),
    "a huge number": json.dumps({**LINE, "epoch": 10**400}).encode(),
    "a huge loss": json.dumps({**LINE, "train": {**SCORES, "loss": 1e300}}).encode(),
    "a number of too many digits": b'{"epoch": ' + b"9" * 10_000 + b"}",
    "text for a loss": json.dumps({**LINE, "valid": {**SCORES, "loss": "1"}}).encode(),
    "no text": b"\xff\xfe",
    "long": b'{"epoch": 0, "x": "' + b"y" * 40_000_000 + b'"}',
}


def test_each_broken_line_of_metrics_is_left_out_with_a_warning(tmp_path):
    for name, broken in BROKEN_LINES.items():
        (tmp_path / METRICS).write_bytes(json.dumps(LINE).encode() + b"\n" + broken + b"\n" + json.dumps(LINE).encode())
        lines, [warning] = read_metrics(tmp_path)
        assert lines == [LINE, LINE], name
        assert "metrics.jsonl: line 2" in warning and "\n" not in warning


def test_evaluate_and_resume_warn_of_broken_metrics_and_go_on(trained, capsys):
    run = trained / "run"
    before = (run / METRICS).read_bytes()
    (run / METRICS).write_bytes(before + b"\n".join(BROKEN_LINES.values()))
    assert exit_code("evaluate", "--checkpoint", str(run / BEST), "--device", "cpu") == 0
    resume = ("train", "--config", str(run / "config.yaml"), f"train.output={run}", "--resume")
    assert exit_code(*resume) == 0
    out, err = capsys.readouterr()
    assert out.count("metrics.jsonl: line 9") == 2 and "Traceback" not in err
    assert (run / METRICS).read_bytes() == before
    assert os.path.getsize(run / "metrics.damaged") > 40_000_000
    assert checkpoint.load_run_checkpoint(run / LAST)
