"""Coverage-guided fuzzing of everything that reads untrusted bytes: each input is read or raises a SerxError."""

import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import soundfile
import torch

from serx import checkpoint
from tests.conftest import RATE, speechlike

ROOT = Path(__file__).parents[2]
RUNS = {"names": 20_000, "manifest": 5_000, "config": 5_000, "audio": 5_000, "checkpoint": 5_000, "archive": 5_000}
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        importlib.util.find_spec("atheris") is None, reason="atheris is not installed (pip install -e '.[fuzz]')"
    ),
]


def plant_seeds(target: str, corpus: Path) -> None:
    """Writes a few valid inputs for the fuzzer to start from."""
    corpus.mkdir()
    if target == "names":
        for name in ("03-01-05-01-02-01-12", "1001_DFA_ANG_XX", "OAF_back_angry", "DC_a01"):
            (corpus / name).write_text(name)
    elif target == "manifest":
        (corpus / "0").write_text('a.wav,sad,7\n"b.wav","happy",Anna\n')
    elif target == "config":
        for path in (ROOT / "configs").glob("*.yaml"):
            (corpus / path.stem).write_bytes(path.read_bytes())
    elif target == "audio":
        for form, subtype in (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("AIFF", "PCM_24")):
            soundfile.write(corpus / form, speechlike(0.1, 200, 0), RATE, format=form, subtype=subtype)
    elif target == "checkpoint":
        checkpoint.save(corpus / "0", {"model.x": torch.arange(3.0)}, {"labels": ["sad"]})
    else:
        with zipfile.ZipFile(corpus / "0", "w") as file:
            file.writestr("a/b.wav", b"x" * 50)


@pytest.mark.parametrize("target", RUNS)
def test_any_bytes_are_read_or_raise_a_serx_error(target, tmp_path, record_figure):
    plant_seeds(target, tmp_path / "corpus")
    command = [sys.executable, "-m", "tests.reliability.fuzzing", target, tmp_path, RUNS[target], 1]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=ROOT, timeout=1200,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    runs = re.findall(r"Done (\d+) runs", done.stderr + done.stdout)
    assert runs, done.stderr[-500:]
    record_figure(f"atheris, {target}: {runs[0]} inputs, 0 other exceptions")
    assert int(runs[0]) >= RUNS[target]
