"""A full disk: the previous checkpoint stays readable, no temporary file is left, the error has path and free space."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TINY

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]

# Runs in a separate mount namespace, with a disk of 5 MB; arguments: the disk, a configuration, overrides.
FILL = """
import json, os, sys
from pathlib import Path
import torch
from serx.config import load_config
from serx.errors import DiskError
from serx import checkpoint
from serx.training.run_folder import LAST, PREVIOUS
from serx.training.trainer import fit

torch.set_num_threads(1)
disk, config, overrides = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
last, previous, ballast = disk / LAST, disk / PREVIOUS, disk / "ballast"
levels = []

def save(value):
    checkpoint.save(last, {"x": torch.full((300_000,), value)}, {}, previous)

def read():
    return [float(checkpoint.load(path).tensors["x"][0]) for path in (last, previous)]

for level in range(20):
    for path in disk.iterdir():
        path.unlink()
    save(0.0)
    save(1.0)
    with ballast.open("wb") as file:
        try:
            file.write(bytes(level * 130_000))
        except OSError:
            pass
    try:
        save(2.0)
        message = ""
    except DiskError as error:
        message = str(error)
    names = sorted(path.name for path in disk.iterdir())
    levels.append({"message": message, "values": read(), "names": names})
ballast.unlink()

# No inode left: many empty files.
last.unlink(), previous.unlink()
save(0.0)
count = 0
try:
    while True:
        (disk / f"f{count}").touch()
        count += 1
except OSError:
    pass
try:
    save(1.0)
    message = ""
except DiskError as error:
    message = str(error)
value = float(checkpoint.load(last).tensors["x"][0])
inodes = {"message": message, "value": value, "litter": [p.name for p in disk.glob(".*")]}
for path in disk.iterdir():
    path.unlink()

# A whole run into a disk with room for a few saves' worth of files and curves.
run = disk / "run"
(disk / "ballast").write_bytes(bytes(4_950_000))
try:
    fit(load_config(config, overrides), run, progress=False)
    message = ""
except DiskError as error:
    message = str(error)
whole = [path.name for path in run.glob("*.safetensors") if checkpoint.load(path)]
trained = {"message": message, "whole": whole, "litter": [p.name for p in run.glob(".*.tmp")]}
print(json.dumps({"levels": levels, "inodes": inodes, "trained": trained}))
"""


@pytest.fixture
def results(tiny_config, tmp_path):
    tiny_config()
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("mounting a small disk needs root and unshare")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=5m,nr_inodes=200 serx {disk}"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this machine does not allow mounting a small disk")
    overrides = " ".join(f"'{override}'" for override in [*TINY, "train.epochs=40", "train.ema_decay=0"])
    script = f'{mount} && exec {sys.executable} -c "$FILL" {disk} {tmp_path / "tiny.yaml"} {overrides}'
    environment = {**os.environ, "FILL": FILL, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, cwd=ROOT,
                          env=environment, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), str(disk), done.stdout


@pytest.mark.parametrize("blocks", [8, 40])  # of 1 KiB, as `ulimit -f` counts
def test_a_limit_on_the_size_of_files_ends_a_run_with_one_line_and_no_traceback(blocks, tiny_config, tmp_path):
    tiny_config()
    program = (
        "import resource, sys\n"
        "from serx.config import load_config\n"
        "from serx.data.dataset import load_dataset, split_dataset\n"
        "from serx.cli.main import main\n"
        "data = load_config('tiny.yaml', sys.argv[2:]).data\n"
        "split_dataset(load_dataset(data, progress=False), data, progress=False)\n"  # fills the cache before the limit
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]) * 1024,) * 2)\n"
        "main('train', ['--config', 'tiny.yaml', 'train.output=run', *sys.argv[2:]])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(blocks), *TINY], capture_output=True, text=True,
                          cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 5 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "File too large" in done.stderr and "Traceback" not in done.stdout + done.stderr
    assert "raise the limit on the size of files" in done.stderr and "nothing was saved yet" in done.stderr
    assert done.stdout.count("warning: TensorBoard stops here") == 1


def test_a_full_disk_keeps_the_checkpoint_leaves_no_temporary_file_and_reports_path_and_free_space(
    results, record_figure
):
    figures, disk, output = results
    failed = [level for level in figures["levels"] if level["message"]]
    assert 3 <= len(failed) < 20
    for level in figures["levels"]:
        assert level["values"] == ([1, 0] if level["message"] else [2, 1])
        assert level["names"] == ["ballast", "last.safetensors", "previous.safetensors"]
        assert not level["message"] or (disk in level["message"] and "MB free" in level["message"])
    assert "No space left" in figures["inodes"]["message"]
    assert figures["inodes"]["value"] == 0 and figures["inodes"]["litter"] == []
    # And a run that fills the disk ends with one line and whole checkpoints.
    assert disk in figures["trained"]["message"] and "MB free" in figures["trained"]["message"], output[-500:]
    assert "\n" not in figures["trained"]["message"]
    assert figures["trained"]["whole"] and not figures["trained"]["litter"]
    record_figure(
        f"{len(failed)} of {len(figures['levels'])} fills failed the save: 0 lost checkpoints, 0 files left over"
    )
