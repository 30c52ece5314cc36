"""The pages of README and docs/: every command is run, every Python example is executed, in the order of the page."""

import io
import re
import shlex
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import soundfile

import serx
from serx.cli.execution import IMPORTS
from serx.cli.main import main
from serx.data.synthetic import synthesize_clip, synthesize_speaker
from serx.models import MlpConfig
from serx.training.trainer import fit
from tests.conftest import PITCHES, RATE, speechlike
from tests.experiments.test_cross_validation import run_in_this_process

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").glob("*.md") if path.stem not in {"development_log", "configuration"}),
]
BLOCK = re.compile(r"^```(sh|python|yaml|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What a test cannot run: it installs, needs the internet, or never ends. `make demo` is run by hand.
NOT_RUN = ("make ", "pip install", "serx download", "serx demo", "serx tensorboard")
# What keeps the examples short: they are run on 72 clips, one epoch each.
SHORT = {
    "train": ["train.epochs=1", "train.threads=1"],
    "cross-validate": ["train.threads=1"],
    "sweep": ["train.threads=1"],
    "leakage": ["train.threads=1", "data.protocol=kfold", "data.folds=3"],
}


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and text of each fenced block."""
    return [(match[1], match[2]) for match in BLOCK.finditer(page.read_text())]


def commands(text: str) -> list[list[str]]:
    """The words of each command that the test runs, as arguments of `serx`."""
    lines = text.replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        if not line.strip() or line.startswith(("#", *NOT_RUN)):
            continue
        words = shlex.split(line.partition(" > ")[0], comments=True)
        if words[0] == "python":
            words = ["serx", Path(words[1]).stem.replace("_", "-"), *words[2:]]
        assert words[0] == "serx", f"{line}: neither run here nor listed in NOT_RUN"
        found.append(words[1:])
    return found


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tiny_root) -> Path:
    """A folder with everything that the pages name: corpora, a checkpoint, recordings."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copytree(tiny_root, folder / "DIR")
    shutil.copytree(tiny_root, folder / "data" / "ravdess")
    (folder / "OTHER").mkdir()
    for code, pitch in PITCHES.items():  # a speaker whom the checkpoint never met
        soundfile.write(
            folder / "OTHER" / f"03-01-{code}-01-01-01-09.wav", speechlike(0.6, 1.1 * pitch, 99 + pitch), RATE
        )
    (folder / "configs").symlink_to(ROOT / "configs")
    config = serx.load_config(
        "cnn1d",
        f"data.root={folder / 'DIR'}",
        "data.protocol=speakers",
        "data.test_speakers=[5,6]",
        "data.valid_speakers=[3,4]",
        "model.stem=8",
        "model.widths=[8,8,8]",
        "train.epochs=2",
        "train.threads=1",
        "train.device=cpu",
    )
    run = folder / "checkpoints" / "cnn1d" / "RUN"
    fit(config, run, progress=False)
    shutil.copytree(run, folder / "checkpoints" / "demo" / "RUN")
    shutil.copy(run / "best.safetensors", folder / "best.safetensors")
    mlp = config.model_copy(update={"model": MlpConfig(widths=(8,))})
    fit(mlp, folder / "checkpoints" / "mlp" / "RUN", progress=False)
    spoken = [path for actor in ("Actor_01", "Actor_02") for path in sorted((folder / "DIR" / actor).iterdir())]
    for name in ("recordings", "my_recordings"):
        (folder / name).mkdir()
        for path in spoken[:4]:
            shutil.copy(path, folder / name / path.name)
    soundfile.write(folder / "me.wav", speechlike(1.0, 170, 7), RATE)
    sentence, pause = synthesize_clip(synthesize_speaker(1, 0), "happy", True, 1, 1, 0), np.zeros(RATE, np.float32)
    soundfile.write(folder / "talk.wav", np.concatenate([sentence, pause, sentence, pause]), RATE)
    emotions = ["neutral"] * 4 + ["happy"] * 4 + ["angry"] * 4
    rows = [
        f"{path},{emotion},{path.parent.name}"
        for actor in sorted((folder / "DIR").iterdir())
        for path, emotion in zip(sorted(actor.iterdir()), emotions, strict=True)
    ]
    (folder / "mine.csv").write_text("\n".join(["path,emotion,speaker", *rows]) + "\n")
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_and_example_of_a_page_runs(page, desk, monkeypatch):
    monkeypatch.chdir(desk)
    monkeypatch.syspath_prepend(str(desk))
    monkeypatch.setenv(IMPORTS, "")  # --import sets it for child processes; later tests must not inherit it
    monkeypatch.setattr("serx.experiments.fold_runs.run_in_parallel", run_in_this_process)
    shutil.rmtree(desk / "runs", ignore_errors=True)
    names: dict[str, object] = {}
    for language, text in blocks(page):
        named = re.match(r'(?:"""|# )(my\w*\.(?:py|yaml))', text)
        if named:
            (desk / named[1]).write_text(text)
        elif language == "python":
            exec(compile(text, str(page), "exec"), names)
        elif language == "sh":
            for words in commands(text):
                run(words)


def run(words: list[str]) -> None:
    """Runs `serx` with these words; fails with its output unless it exits with 0."""
    extra = SHORT.get(words[0], [])
    out = io.TextIOWrapper(io.BytesIO(), write_through=True)
    with redirect_stdout(out), redirect_stderr(out), pytest.raises(SystemExit) as left:
        main(None, [*words, *extra])
    assert left.value.code in (0, None), f"serx {' '.join(words)}\n{out.buffer.getvalue().decode()}"


def test_every_recipe_is_in_the_table_of_the_training_page():
    text = (ROOT / "docs" / "training.md").read_text()
    recipes = {path.stem for path in (ROOT / "configs").glob("*.yaml")}
    assert {name for name in recipes if f"`{name}`" not in text} == set()


def test_links_between_pages_lead_somewhere():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_python_files_named_on_a_page_exist():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for name in re.findall(
            r"`((?:augment|data|dsp|features|models|training|metrics|inference|config|tests)/[\w/]+\.py)`",
            page.read_text(),
        ):
            base = ROOT if name.startswith("tests/") else ROOT / "serx"
            assert (base / name).exists(), f"{page.name} names {name}"
