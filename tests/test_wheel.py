"""The wheel: what is in it, and that its command and its recipes work in a folder outside of any checkout."""

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import soundfile

import serx
from tests.conftest import RATE, speechlike

ROOT = Path(__file__).parents[1]
RECIPES = {path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs").rglob("*.yaml")}
SHIPPED = [ROOT / "checkpoints" / name for name in ("__init__.py", "README.md", "default.json", "default.safetensors")]


def packages() -> list[str]:
    """The packages that setup.cfg lists."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser["options"]["packages"].split()


def test_setup_cfg_lists_every_package_of_the_tree():
    tree = [".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "serx").rglob("__init__.py")]
    recipes = [
        "serx.recipes",
        *(f"serx.recipes.{name}" for name in {Path(name).parent.name for name in RECIPES} if name),
    ]
    assert sorted(packages()) == sorted([*tree, *recipes, "serx.pretrained"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The folder of an unpacked wheel, built without the internet from a copy of the tree."""
    copy, unpacked = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in ("serx", "configs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "checkpoints/cnn2d/RUN").mkdir(parents=True)
    (copy / "checkpoints/cnn2d/RUN/best.safetensors").write_bytes(b"a run of the user")
    for path in SHIPPED:
        shutil.copy(path, copy / "checkpoints")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", str(copy), "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    done = subprocess.run([*command, "-w", str(copy)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [file] = copy.glob("*.whl")
    zipfile.ZipFile(file).extractall(unpacked)
    return unpacked


def serx_command(wheel: Path, folder: Path, *words: str) -> subprocess.CompletedProcess:
    """`serx WORDS` of the wheel in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    command = [sys.executable, "-m", "serx", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300)


@pytest.mark.slow
def test_the_wheel_has_code_recipes_types_and_the_command(wheel):
    files = {path.relative_to(wheel).as_posix() for path in wheel.rglob("*") if path.is_file()}
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "serx").rglob("*.py")}
    assert sources <= files
    assert {f"serx/recipes/{name}" for name in RECIPES} <= files
    assert "serx/py.typed" in files
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "serx/pages/templates").iterdir()}
    assert templates and templates <= files
    assert {name for name in files if "/pretrained/" in name} == {f"serx/pretrained/{path.name}" for path in SHIPPED}
    [points] = wheel.glob("*.dist-info/entry_points.txt")
    assert points.read_text().split() == ["[console_scripts]", "serx", "=", "serx.cli.main:main"]


@pytest.mark.slow
def test_the_installed_package_finds_its_recipes_by_name(wheel, tmp_path):
    program = (
        f"import sys; sys.path.insert(0, {str(wheel)!r}); import serx;"
        "from serx.config import load_config, recipe_names;"
        "print(serx.__file__, serx.__version__, *recipe_names());"
        "print(load_config('published/ravdess_mlp', 'data.root=x').model.kind)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.split()[:2] == [str(wheel / "serx/__init__.py"), serx.__version__]
    assert set(first.split()[2:]) == {name.removesuffix(".yaml") for name in RECIPES}
    assert second == "mlp"


@pytest.mark.slow
def test_the_installed_package_predicts_with_the_model_that_ships_with_it(wheel, tmp_path):
    soundfile.write(tmp_path / "me.wav", speechlike(1.0, 170, 7), RATE)
    done = serx_command(wheel, tmp_path, "predict", "me.wav")
    assert done.returncode == 0, done.stderr
    assert str(wheel / "serx/pretrained/README.md") in done.stderr
    assert done.stdout.startswith("me.wav\n")


@pytest.mark.slow
def test_a_recipe_by_name_trains_and_cross_validates_outside_of_a_checkout(wheel, tiny_root, tmp_path):
    small = [f"data.root={tiny_root}", "data.protocol=kfold", "data.folds=2", "data.trim_db=null", "train.epochs=1",
             "train.batch_size=8", "train.device=cpu", "train.threads=1"]  # fmt: skip
    train = serx_command(wheel, tmp_path, "train", "--config", "mlp", *small, "train.output=run")
    assert train.returncode == 0, train.stderr
    assert (tmp_path / "run/best.safetensors").exists()
    words = ["--config", "published/ravdess_mlp", "--folds", "0", "--out", "cv", *small, "train.patience=null"]
    done = serx_command(wheel, tmp_path, "cross-validate", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "cv/cross_validation.json").exists()
    assert "baseline: logistic_regression on the same folds" in done.stdout
