"""The house keeps its order: imports run one way, and each library has one door."""

import ast
from pathlib import Path

import serx

PACKAGE = Path(serx.__file__).parent

# Each part of the package, and the parts it may import besides itself.
MAY_IMPORT = {
    "errors": set(),
    "section": set(),
    "files": set(),
    "seeding": set(),
    "yaml_lines": {"errors"},
    "commands": {"errors"},
    "data": {"errors", "section", "files", "seeding", "transforms"},
    "transforms": {"errors", "section", "seeding"},
    "models": {"errors", "section", "transforms"},
    "recognizer": {"models", "transforms"},
    "config": {"errors", "section", "yaml_lines", "data", "models", "training", "transforms"},
    "evaluation": {"errors", "files", "config", "data", "recognizer", "inference"},
    "inference": {"errors", "config", "data", "models", "recognizer", "training"},
    "training": {
        "errors", "section", "files", "seeding", "config", "data", "transforms", "models", "recognizer", "evaluation",
        "__init__",
    },
    "experiments": {
        "errors", "files", "seeding", "config", "data", "transforms", "training", "inference", "evaluation",
    },
    "__init__": set(),
}  # fmt: skip

# Libraries with one user, so that they can be replaced in one file.
DOORS = {
    "soundfile": {"data/audio.py"},
    "soxr": {"data/audio.py"},
    "nnAudio": {"transforms/front_ends.py"},
    "timm": {"models/timm_backbone.py"},
    "safetensors": {"training/checkpoint.py", "models/encoders.py"},  # a run's checkpoints, and an encoder's weights
    "yaml": {"yaml_lines.py", "config.py"},
    "matplotlib": {"evaluation/pictures.py", "evaluation/curves.py", "evaluation/class_report.py"},
}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def sources() -> list[tuple[str, Path]]:
    return [(path.relative_to(PACKAGE).as_posix(), path) for path in sorted(PACKAGE.rglob("*.py"))]


def test_imports_run_one_way():
    for name, path in sources():
        part = name.split("/")[0].removesuffix(".py")
        for imported in imports(path):
            if imported == "serx" or imported.startswith("serx."):
                target = [*imported.split("."), "__init__"][1]
                assert target == part or target in MAY_IMPORT[part], f"{name} imports {imported}"


def test_each_library_has_one_door():
    for name, path in sources():
        for imported in imports(path):
            library = imported.split(".")[0]
            assert name in DOORS.get(library, {name}), f"{name} imports {library}"


def test_models_never_see_data_or_training():
    for name, path in sources():
        if name.startswith("models/"):
            assert not any(
                i.startswith(("serx.data", "serx.training", "serx.transforms.augment")) for i in imports(path)
            )


def test_no_global_randomness_in_the_package():
    """`torch.manual_seed` is called by the loop alone; numpy's and Python's global generators by nobody."""
    for name, path in sources():
        text = path.read_text()
        assert "np.random.seed" not in text and "import random\n" not in text, name
        assert "torch.manual_seed" not in text or name in ("training/epoch.py", "training/run.py"), name


def test_files_stay_short():
    for name, path in sources():
        assert len(path.read_text().splitlines()) <= 300, name


def test_every_file_opens_by_saying_its_idea():
    for name, path in sources():
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        assert docstring or not path.read_text(), f"{name} has no docstring"
