"""What all verbs share: the parser, common arguments, user modules, one-line errors and exit codes."""

import argparse
import gc
import importlib
import io
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from serx.cli import interrupts
from serx.errors import ConfigError, SerxError, exit_code_help, is_out_of_memory, out_of_memory
from serx.system import end_with_parent
from serx.terminal import printable

if TYPE_CHECKING:
    import torch

    from serx.data.audio import Channel
    from serx.experiments.executors import ClusterJob
    from serx.experiments.fold_runs import Workers
    from serx.inference.predictor import Predictor
    from serx.pages import Reproduction

# Environment variable with the modules of `--import`: the processes of a cross-validation or a sweep import them too.
IMPORTS = "SERX_IMPORT"
RENAMED_OPTIONS = {
    "--voice": "--adapt-to",
    "--sure": "--min-confidence",
    "--enrol": "--adapt",
    "--rate": "--sample-rate",
    "--compare": "serx compare",
    "--table": "serx compare --markdown",
    "--sample": "--trials",
}

_OVERRIDE = re.compile(r"[A-Za-z_]\w*(\.\w+)*=")


def command(verb: str) -> str:
    """How the user of this process calls a verb: `serx train`, `python -m serx train` or `python scripts/train.py`."""
    program = Path(sys.argv[0])
    if program.parent.name == "scripts" and program.suffix == ".py":
        return f"python scripts/{verb.replace('-', '_')}.py"
    return f"python -m serx {verb}" if program.name == "__main__.py" else f"serx {verb}"


def command_line(verb: str, arguments: argparse.Namespace, *words: str) -> str:
    """A command that the user may type next, with the same `--import`."""
    imports = [word for name in arguments.imports or [] for word in ("--import", name)]
    return f"{command(verb)} {shlex.join([*words, *imports])}"


def parser(description: str, examples: str, program: str | None = None) -> argparse.ArgumentParser:
    """An argument parser with a description, examples, the exit codes and `--debug`.

    Args:
        description: the module's docstring.
        examples: command lines; `%(prog)s` is replaced by `program`.
        program: how the user calls this command.
    """
    result = argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=f"examples:\n{examples}\n\n{exit_code_help()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--debug", action="store_true", help="print the traceback of an error")
    return result


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command line. `section.key=value` may stand anywhere, also between and behind options.

    Prints a usage error and exits with 2 where the words are wrong, or where an option has another name today.
    """
    for word in words:
        option = word.partition("=")[0]
        if option in RENAMED_OPTIONS and option not in parser._option_string_actions:
            parser.error(f"{option} is now called {RENAMED_OPTIONS[option]}")
    if any(action.dest == "overrides" for action in parser._actions):
        return parser.parse_intermixed_args(overrides_first(parser, words))
    return parser.parse_args(words)


def overrides_first(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """The words with every `section.key=value` moved to the front: behind `--seeds 0 1` it would be read as a seed.

    The value of an option that takes exactly one, such as `--try` or `--out`, stays where it is.
    """
    one_value = {
        name for action in parser._actions if action.nargs is None and action.option_strings
        for name in action.option_strings
    }  # fmt: skip
    before = ["", *words]
    is_override = [bool(_OVERRIDE.match(word)) and before[i] not in one_value for i, word in enumerate(words)]
    return [words[i] for i in sorted(range(len(words)), key=lambda i: not is_override[i])]


def add_config(parser: argparse.ArgumentParser) -> None:
    """A recipe with overrides, and modules to import before it is read."""
    parser.add_argument(
        "--config", required=True, metavar="RECIPE", help="a YAML file, or the name of a recipe, such as cnn2d"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="settings that replace the recipe's, such as optim.lr=1e-3",
    )
    add_import(parser)


def add_import(parser: argparse.ArgumentParser) -> None:
    """Python modules of the user, imported before a recipe or a checkpoint is read."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        metavar="MODULE",
        help="import this Python module first, such as my_models for ./my_models.py: it may register models, "
        "features, transforms and corpora of yours; may be repeated",
    )


def add_workers(parser: argparse.ArgumentParser, runs: str) -> None:
    """How many `runs` are trained at a time, where, and under which seeds."""
    parser.add_argument(
        "--seeds", type=int, nargs="+", metavar="N", help="train every run once a seed; default: train.seed"
    )
    parser.add_argument(
        "--processes", type=int, metavar="N", help=f"number of {runs} at a time; default: one, or one per device"
    )
    parser.add_argument(
        "--devices", nargs="+", metavar="DEVICE", help="devices for the processes, such as cuda:0 cuda:1"
    )


def workers_of(arguments: argparse.Namespace) -> "Workers":
    """The processes of `add_workers`."""
    from serx.experiments.fold_runs import Workers

    devices = tuple(arguments.devices or ())
    return Workers(max(1, len(devices)) if arguments.processes is None else arguments.processes, devices)


def add_parts(parser: argparse.ArgumentParser) -> None:
    """One part instead of all, for a scheduler."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--list-parts",
        action="store_true",
        help="print the command of each part, one a line, for a scheduler: each skips what is done",
    )
    group.add_argument("--part", type=int, metavar="K", help="run part K only, without the result of all parts")
    group.add_argument("--collect", action="store_true", help="run nothing: write the result of what is done")


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Where the parts run, and what they ask of a cluster."""
    group = parser.add_argument_group("cluster")
    group.add_argument(
        "--executor",
        choices=["processes", "slurm", "sbatch", "submitit-local", "submitit-debug"],
        default="processes",
        help="where the parts run: processes here; an array of Slurm, by submitit; a script for `sbatch` to submit; "
        "submitit without Slurm, in processes or one after another; default: processes",
    )
    group.add_argument("--partition", metavar="NAME", help="of Slurm; default: the cluster's")
    group.add_argument("--time", type=int, default=60, metavar="MINUTES", help="for each part; default: 60")
    group.add_argument("--cpus", type=int, default=1, metavar="N", help="for each part; default: 1")
    group.add_argument("--gpus", type=int, default=0, metavar="N", help="for each part; default: 0")
    group.add_argument("--memory", type=float, metavar="GB", help="for each part; default: the cluster's")
    group.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="another option of sbatch, such as account=lab; may be repeated",
    )


def cluster_job(arguments: argparse.Namespace) -> "ClusterJob":
    """What the parts ask of a cluster.

    Raises:
        ConfigError: submitit is not installed, or a number or an option makes no sense.
    """
    from serx.experiments.executors import ClusterJob, check_executor

    check_executor(arguments.executor)
    options = {}
    for text in arguments.sbatch:
        name, _, value = text.partition("=")
        if not re.fullmatch("[a-z][a-z0-9-]*", name) or not value or "\n" in value:
            raise ConfigError(f"--sbatch {text}: write OPTION=VALUE, such as account=lab")
        options[name] = value
    return ClusterJob(
        arguments.time, arguments.partition, arguments.cpus, arguments.gpus, arguments.memory, arguments.processes,
        options,
    )  # fmt: skip


def written_script(arguments: argparse.Namespace, commands: Sequence[Sequence[str]], out: Path) -> int:
    """Writes the script for `sbatch`, and says how to use it."""
    from serx.experiments.executors import write_script

    print(f"submit it with: sbatch {shlex.quote(str(write_script(commands, out, cluster_job(arguments))))}")
    print("when the parts are done, the same command with --collect instead of --executor sbatch writes the result")
    return 0


def serx_command(verb: str, arguments: argparse.Namespace, *words: str) -> list[str]:
    """A command line that any process may run in this folder, with the same `--import`."""
    imports = [word for name in arguments.imports or [] for word in ("--import", name)]
    return [sys.executable, "-m", "serx", verb, *words, *imports]


def print_parts(commands: Sequence[Sequence[str]]) -> None:
    """Prints command lines for a shell, one a line."""
    for words in commands:
        print(shlex.join(words))


def add_model(parser: argparse.ArgumentParser) -> None:
    """A checkpoint to predict with, and recordings to adapt it to a speaker."""
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="best.safetensors or last.safetensors of a run; or an emotion model of the Hugging Face hub, by its id or "
        "its folder; default: the model that ships with serx",
    )
    parser.add_argument(
        "--adapt-to",
        action="append",
        metavar="AUDIO_OR_FOLDER",
        help="adapt the model to a speaker with other recordings of the same person: ten or more, in many emotions, "
        "without labels; may be repeated",
    )
    add_import(parser)


def load_predictor(
    arguments: argparse.Namespace,
    device: "torch.device",
    min_confidence: float | None = None,
    channel: "Channel | None" = None,
) -> "Predictor":
    """The predictor of `--checkpoint`; without it the model that ships with serx, named in a line on stderr."""
    from serx.inference.predictor import Predictor

    predictor = Predictor.load(arguments.checkpoint, device, min_confidence, channel)
    if arguments.checkpoint is None:
        announce_default_model(predictor.metadata, predictor.min_confidence)
    return predictor


def announce_default_model(metadata: Mapping[str, Any], min_confidence: float) -> None:
    """Says on stderr, in one line, what the model that ships with serx predicts and on what it was trained."""
    from serx.inference.default_model import CARD, default_checkpoint, summary

    card = default_checkpoint().with_name(CARD)
    line = summary(metadata, min_confidence)
    print(f"model: the one that ships with serx: {line}; its card: {printable(card)}", file=sys.stderr)


def held_out_model(arguments: argparse.Namespace) -> tuple[Path, Path]:
    """The checkpoint to evaluate, and the folder for what is written about it.

    Raises:
        ConfigError: the checkpoint is the one that ships with serx, and `--root` is missing.
    """
    if arguments.checkpoint is not None:
        path = Path(arguments.checkpoint)
        return path, Path(arguments.out or path.parent)
    from serx.checkpoint import load_run_checkpoint
    from serx.inference.default_model import default_checkpoint

    if arguments.root is None:
        raise ConfigError(
            "--root: the model that ships with serx comes without its corpora; add --root DIR, or evaluate a run of "
            "yours with --checkpoint FILE"
        )
    path = default_checkpoint()
    metadata = load_run_checkpoint(path).metadata
    announce_default_model(metadata, metadata.get("min_confidence", 0.0))
    return path, Path(arguments.out or "evaluation")


def add_held_out(parser: argparse.ArgumentParser, parts: list[str], written: str) -> None:
    """A checkpoint to evaluate, on which clips, and where `written` go."""
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="best.safetensors or last.safetensors of a run; or an emotion model of the Hugging Face hub, by its id or "
        "its folder; default: the model that ships with serx, which needs --root",
    )
    parser.add_argument(
        "--root", metavar="DIR", help="another corpus folder or manifest; default: the one it was trained on"
    )
    parser.add_argument("--part", choices=parts, default="test", help="default: test")
    parser.add_argument(
        "--out", metavar="DIR", help=f"where {written} go; default: the checkpoint's folder, or evaluation/"
    )
    parser.add_argument(
        "--cache", metavar="DIR", help="folder for decoded audio; default: $SERX_CACHE or ~/.cache/serx"
    )
    add_device(parser)
    add_import(parser)


def add_json(parser: argparse._ActionsContainer, content: str) -> None:
    """The result as JSON for another program."""
    parser.add_argument(
        "--json",
        action="store_true",
        help=f"print one JSON document and nothing else on standard output: {content}; messages go to standard error",
    )
    parser.set_defaults(document=None)


def print_json(arguments: argparse.Namespace, value: Any) -> None:
    """Prints the document of `--json`: strict JSON, in which NaN and infinity are null."""
    from serx.files import to_json

    print(to_json(value).decode(), end="", file=arguments.document, flush=True)


def add_report(parser: argparse.ArgumentParser, what: str) -> None:
    """An HTML page of the results."""
    parser.add_argument(
        "--report",
        type=_page,
        metavar="FILE.html",
        help=f"also write {what} as one page that needs no internet: charts, tables, how to reproduce them",
    )


def _page(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a page; give one such as report.html")
    return path


def write_page(path: Path, page: str) -> None:
    """Writes an HTML page and says where.

    Raises:
        DiskError: it cannot be written.
    """
    from serx.evaluation.report import write_files

    write_files(path.parent, {path.name: page.encode()})
    print(f"written: {path}")


def reproduction(arguments: argparse.Namespace, facts: Mapping[str, Any], *before: str) -> "Reproduction":
    """The commands and versions that a page names: those `before`, then the command line of this process."""
    import platform

    import torch

    import serx
    from serx.pages import Reproduction
    from serx.system import source_commit

    versions = {
        "serx": serx.__version__,
        "commit": source_commit(Path(serx.__file__).parent) or "unknown: serx was installed as a package",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    named = {name: str(value) for name, value in {**facts, **versions}.items() if value is not None}
    return Reproduction([*before, arguments.command_line], [*named.items()])


def add_min_confidence(parser: argparse.ArgumentParser) -> None:
    """The probability below which a prediction is `unsure`."""
    parser.add_argument(
        "--min-confidence",
        type=_probability,
        metavar="P",
        help="print `unsure` where no emotion reaches this probability, from 0 to 1; default: what the checkpoint "
        "says, 0 for that of a run; the report of evaluate lists coverage and accuracy by threshold",
    )


def add_channel(parser: argparse.ArgumentParser) -> None:
    """Which channel of a recording that has several."""
    parser.add_argument(
        "--channel",
        choices=["mix", "left", "right"],
        help="of a recording with several channels: their mean, or one, such as one speaker of a call; "
        "default: as in training",
    )


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a probability; give a number from 0 to 1, such as 0.6")
    return value


def add_device(parser: argparse.ArgumentParser) -> None:
    """The device to compute on."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...; default: auto")


def folder_of_runs(arguments: argparse.Namespace, output: str | None, name: str) -> Path:
    """The folder of a cross-validation or a sweep: `--out`, else one named by the recipe.

    `output` is the recipe's `train.output`, the folder of a single run: a line says that it is not used.
    """
    out = Path(arguments.out or Path("checkpoints") / Path(arguments.config).stem / name)
    if output and Path(output) != out:
        print(f"note: train.output={output} is the folder of a single run and not used here; these go to --out {out}")
    return out


def run(
    main: Callable[[argparse.Namespace], int | None], arguments: argparse.Namespace, computes: bool = True
) -> NoReturn:
    """Calls `main` and exits with the code it returns; a `SerxError` becomes one line and its own exit code.

    Args:
        main: of the verb.
        arguments: its command line.
        computes: whether it needs torch.
    """
    end_with_parent()
    try:
        with _messages_on_stderr(arguments):
            if computes:
                import_torch()
            if hasattr(arguments, "imports"):
                import_user_modules(arguments.imports or [])
            code = main(arguments) or 0
    except SerxError as error:
        code = error.exit_code
        if interrupts.exit_code() is None:  # a signal may turn up as another error
            if arguments.debug:
                traceback.print_exc()
            print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except BaseException as error:
        if interrupts.exit_code() is not None:
            code = 1
        elif is_out_of_memory(error):
            if arguments.debug:
                traceback.print_exc()
            explained = out_of_memory(
                error, "give fewer or shorter recordings, or lower the sizes in the configuration"
            )
            print(f"error: {explained}", file=sys.stderr)
            code = explained.exit_code
        else:
            raise
    sys.exit(code if interrupts.exit_code() is None or not code else interrupts.exit_code())


def import_torch() -> None:
    """Imports torch, and what most verbs import on top of it, at two thirds of the CPU time.

    What they create stays until the process ends. Python's garbage collector would go through it hundreds of times
    during the import, again during the computation, and twice as the process ends: it is told to leave it alone.
    """
    if "torch" in sys.modules or not gc.isenabled():
        return
    gc.disable()
    try:
        importlib.import_module("serx.checkpoint")
        gc.freeze()
    finally:
        gc.enable()


@contextmanager
def _messages_on_stderr(arguments: argparse.Namespace) -> Iterator[None]:
    """With `--json` whatever is printed goes to standard error, and `print_json` alone to standard output."""
    if not (hasattr(arguments, "document") and arguments.json):
        yield
        return
    arguments.document = sys.stdout
    with redirect_stdout(sys.stderr):
        yield


def print_unencodable_as_escapes() -> None:
    """Where the terminal's encoding lacks a character, prints an escape instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def import_user_modules(names: Sequence[str]) -> None:
    """Imports modules from the current folder or the path, and those that a parent process imported.

    Raises:
        ConfigError: a module is missing, or its import fails.
    """
    inherited = [name for name in os.environ.get(IMPORTS, "").split(",") if name]
    modules = list(dict.fromkeys([*inherited, *names]))
    if not modules:
        return
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in modules:
        if "/" in name or name.endswith(".py"):
            dotted = name.removesuffix(".py").replace("/", ".")
            raise ConfigError(f"--import {name}: give the module and not its file; write --import {dotted}")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name and not name.startswith(f"{error.name}."):
                raise ConfigError(f"--import {name}: it imports {error.name}, which is not installed") from error
            places = f"{os.getcwd()} or among the installed packages"
            raise ConfigError(f"--import {name}: no such module in {places}") from error
        except Exception as error:
            raise ConfigError(f"--import {name}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    os.environ[IMPORTS] = ",".join(modules)
