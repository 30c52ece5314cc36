"""What every script does around its one library call: arguments, the one-line error, the exit code."""

import argparse
import io
import re
import sys
import traceback
from collections.abc import Callable, Sequence

from serx.errors import SerxError
from serx.system import end_with_parent

EXIT_CODES = (
    "exit codes: 0 ok, 1 some inputs failed, 2 configuration or usage, 3 run folder in use, 4 training diverged, "
    "5 disk, 6 data, 7 checkpoint, 129/130/143 stopped by SIGHUP/SIGINT/SIGTERM"
)

_SETTING = re.compile(r"[a-z_]+\.[a-z_.]+=")


def parser(description: str, examples: str) -> argparse.ArgumentParser:
    """An argument parser with examples, the exit codes and `--debug`."""
    made = argparse.ArgumentParser(
        description=description,
        epilog=f"examples:\n{examples}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return made


def overrides_first(words: Sequence[str]) -> list[str]:
    """The command line with its `section.key=value` in front: behind --seeds they would be taken for seeds."""
    option_before = dict(enumerate(["", *words]))
    settings = {i for i, word in enumerate(words) if _SETTING.match(word) and option_before[i] != "--try"}
    return [words[i] for i in sorted(range(len(words)), key=lambda i: i not in settings)]


def add_processes(parser: argparse.ArgumentParser, runs: str) -> None:
    """Where many `runs` are trained, and under which seeds."""
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="default: train.seed")
    parser.add_argument("--processes", type=int, metavar="N", help=f"{runs} at a time; default: one, or one a device")
    parser.add_argument("--devices", nargs="+", metavar="DEVICE", help="dealt to the processes, such as cuda:0 cuda:1")


def add_model(parser: argparse.ArgumentParser) -> None:
    """What everybody who predicts is told: a checkpoint, and the voice it is to know."""
    parser.add_argument("--checkpoint", required=True, help="best.safetensors or last.safetensors of a run")
    parser.add_argument(
        "--adapt-to",
        action="append",
        metavar="AUDIO_OR_FOLDER",
        help="other recordings of the same speaker, in many moods, ten or more: the model gets used to the voice",
    )


def add_held_out(parser: argparse.ArgumentParser, parts: list[str], written: str) -> None:
    """What everybody who judges a checkpoint is told: which, by what clips, and where `written` goes."""
    parser.add_argument("--checkpoint", required=True, help="best.safetensors or last.safetensors of a run")
    parser.add_argument("--root", help="another corpus folder or manifest; default: where it was trained")
    parser.add_argument("--part", choices=parts, default="test", help="default: test")
    parser.add_argument("--out", help=f"where {written} go; default: beside the checkpoint")
    add_device(parser)


def add_min_confidence(parser: argparse.ArgumentParser) -> None:
    """From which probability on an emotion is told."""
    parser.add_argument(
        "--min-confidence",
        type=_probability,
        default=0.0,
        metavar="P",
        help="say `unsure` where no emotion has this probability; evaluate.py tells how often, and what is right then",
    )


def _probability(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no probability; give one between 0 and 1, such as 0.6")
    return value


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where to predict."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...; default: auto")


def run(main: Callable[[argparse.Namespace], int | None], arguments: argparse.Namespace) -> None:
    """Calls `main` and exits with its number; a `SerxError` becomes its message and its exit code."""
    end_with_parent()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be text
    try:
        code = main(arguments) or 0
    except SerxError as error:
        if arguments.debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    sys.exit(code)
