"""The house keeps its order: imports run one way, and each library has one door."""

import ast
import re
import subprocess
import sys
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
    "settings": {"section"},
    "config": {"errors", "section", "yaml_lines", "data", "models", "settings", "transforms"},
    "scoring": {"errors", "data", "recognizer"},
    "evaluation": {"errors", "files", "config", "data", "inference", "scoring", "transforms"},
    "inference": {
        "errors", "files", "seeding", "config", "data", "models", "recognizer", "training", "transforms", "__init__",
    },
    "training": {
        "errors", "section", "files", "seeding", "config", "data", "transforms", "models", "recognizer", "scoring",
        "settings", "__init__",
    },
    "experiments": {
        "commands", "errors", "files", "seeding", "yaml_lines", "config", "data", "recognizer", "transforms",
        "training", "inference", "evaluation", "scoring",
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
    "silero_vad": {"inference/utterances.py"},
    "sounddevice": {"inference/sources.py"},
    "matplotlib": {
        "scoring/pictures.py",
        "evaluation/curves.py",
        "evaluation/class_report.py",
        "evaluation/ranking_picture.py",
        "evaluation/stress_picture.py",
    },
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


def part_of(module: str) -> str:
    """The part that `serx.a.b.c` or `a/b.py` belongs to."""
    return module.removesuffix(".py").replace("/", ".").removeprefix("serx").strip(".").split(".")[0] or "__init__"


def test_each_part_imports_what_it_may():
    for name, path in sources():
        for imported in imports(path):
            if imported == "serx" or imported.startswith("serx."):
                part, target = part_of(name), part_of(imported)
                assert target == part or target in MAY_IMPORT[part], f"{name} imports {imported}"


def test_imports_run_one_way_along_the_map_of_the_package():
    lines = re.findall(r"^    (\S.*?)  ", serx.__doc__, re.MULTILINE)
    listed = ["__init__", *(part for line in lines for part in line.split(", "))]
    assert sorted(listed) == sorted(MAY_IMPORT)
    for part, others in MAY_IMPORT.items():
        for other in others:
            assert listed.index(other) < listed.index(part), f"{part} may import {other}, which the map lists later"


def test_each_library_has_one_door():
    for name, path in sources():
        for imported in imports(path):
            library = imported.split(".")[0]
            assert name in DOORS.get(library, {name}), f"{name} imports {library}"


def test_training_starts_without_the_libraries_that_few_runs_need():
    program = (
        "import sys, serx.training.loop; print(sorted({'timm', 'torchvision', 'nnAudio', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


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
