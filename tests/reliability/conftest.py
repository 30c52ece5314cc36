"""A finished run that the tests of faults share."""

import shutil
from pathlib import Path

import pytest

from serx.config.loader import load_config
from serx.training.trainer import fit
from tests.conftest import TINY

# Programs that tests start in processes of their own. `--doctest-modules` would import them here, where fuzzing.py
# instruments all of serx, or fails without atheris.
collect_ignore = ["figures.py", "fuzzing.py", "killing.py", "mutating.py", "signalling.py"]


@pytest.fixture(scope="session")
def _trained(tiny_root, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(
        f"data: {{root: {tiny_root}, cache: {folder / 'cache'}}}\n"
        "features: {n_mels: 24, n_fft: 512, f_max: 3700.0, normalize: training}\n"
        "model: {kind: cnn1d, stem: 16, widths: [16, 16, 16]}\n"
        "optim: {lr: 1e-2}\n"
    )
    config = load_config(folder / "tiny.yaml", [*TINY, "train.epochs=8"])
    fit(config, folder / "run", progress=False)
    return folder


@pytest.fixture
def trained(_trained, tmp_path) -> Path:
    """A copy of a folder with `tiny.yaml` and a finished run in `run/`."""
    shutil.copytree(_trained, tmp_path / "trained")
    return tmp_path / "trained"
