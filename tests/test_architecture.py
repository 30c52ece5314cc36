"""Imports run one way, each library is imported in one place, and the maps of the packages are complete."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import serx

PACKAGE = Path(serx.__file__).parent

# Modules and packages from the ground up: each may import those before it, and itself.
ORDER = (
    "terminal", "errors", "seeding", "files", "system", "base_config", "registries", "dsp", "plots", "features",
    "speaker_model", "models", "metrics", "ood", "data", "augment", "testing", "recognizer", "config", "device",
    "checkpoint", "inference", "training", "evaluation", "pages", "run", "experiments", "demo", "cli",
)  # fmt: skip
# Pairs of packages of which neither imports the other.
APART = (
    {"plots", "features"},
    {"plots", "data"},
    {"features", "data"},
    {"models", "data"},
    {"metrics", "models"},
)

# Library -> the files that import it: few, so that it can be replaced there.
IMPORTED_IN = {
    "soundfile": {"data/audio/sound_file.py", "data/audio/mp3.py"},
    "av": {"data/audio/ffmpeg.py"},
    "soxr": {"data/audio/resampling.py"},
    "nnAudio": {"features/front_ends.py"},
    "timm": {"models/timm_backbone.py"},
    "safetensors": {"checkpoint/file.py", "models/encoders/loading.py"},  # checkpoints; encoders
    "transformers": {"models/encoders/loading.py"},
    "huggingface_hub": {"models/encoders/loading.py"},
    "yaml": {"config/yaml_lines.py", "config/loader.py", "data/tables/audformat.py"},
    "pyarrow": {"data/tables/arrow.py"},
    "silero_vad": {"inference/segmentation.py"},
    "jinja2": {"pages/render.py"},
    "gradio": {"demo/app.py"},
    "mlflow": {"training/loggers.py"},
    "wandb": {"training/loggers.py"},
    "optuna": {"experiments/study.py"},
    "submitit": {"experiments/executors.py"},
    "tensorboard": {"training/tensorboard.py", "cli/tensorboard.py"},
    "PIL": {"plots/pixels.py"},
    "rich": {"terminal.py"},
    "sounddevice": {"inference/streaming.py"},
    "matplotlib": {f"plots/{name}.py" for name in ("style", "evaluation", "training", "experiments", "explanation")},
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
    part = module.removesuffix(".py").replace("/", ".").removeprefix("serx").strip(".").split(".")[0]
    return "__init__" if part in ("", "__version__") else part


def test_each_part_imports_only_parts_below_it():
    for name, path in sources():
        for imported in imports(path):
            if imported == "serx" or imported.startswith("serx."):
                part, target = part_of(name), part_of(imported)
                if "__init__" in (part, target) or part == "__main__":
                    continue
                assert ORDER.index(target) <= ORDER.index(part), f"{name} imports {imported}"
                assert {part, target} not in APART, f"{name} imports {imported}"


def test_the_map_of_serx_names_every_part():
    lines = re.findall(r"^    ([a-z_, ]+?)  ", serx.__doc__, re.MULTILINE)
    listed = [part for line in lines for part in line.split(", ")]
    assert sorted(listed) == sorted(ORDER)


def test_the_map_of_each_package_names_every_module():
    """The verbs of the command line are in `serx.cli.verbs.GROUPS`."""
    for name, path in sources():
        package, verb = path.with_name("__init__.py"), "def add_arguments(" in path.read_text()
        if path.name in ("__init__.py", "__main__.py") or verb:
            continue
        described = ast.get_docstring(ast.parse(package.read_text())) or ""
        assert re.search(rf"\b{path.stem}\b", described), f"the docstring of {package} does not name {name}"


def test_each_library_is_imported_in_its_own_place():
    for name, path in sources():
        for imported in imports(path):
            library = imported.split(".")[0]
            assert name in IMPORTED_IN.get(library, {name}), f"{name} imports {library}"


def test_training_and_prediction_start_without_the_libraries_that_few_runs_need():
    optional = {"timm", "torchvision", "nnAudio", "scipy", "transformers", "huggingface_hub", "peft"}
    program = (
        f"import sys, serx.inference; print({optional | {'matplotlib', 'sklearn', 'torchaudio'}} & set(sys.modules)); "
        f"import serx.training.trainer; print({optional} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\nset()\n"


def test_models_never_see_data_or_training():
    for name, path in sources():
        if name.startswith("models/"):
            assert not any(i.startswith(("serx.data", "serx.training", "serx.augment.compose")) for i in imports(path))


def test_no_global_randomness_in_the_package():
    """`torch.manual_seed` is called by the loop alone; numpy's and Python's global generators by nobody."""
    for name, path in sources():
        text = path.read_text()
        assert "np.random.seed" not in text and "import random\n" not in text, name
        assert "torch.manual_seed" not in text or name in ("training/epoch.py", "training/state.py", "testing.py"), name


def test_every_file_opens_by_saying_its_idea():
    for name, path in sources():
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        assert docstring or not path.read_text(), f"{name} has no docstring"
