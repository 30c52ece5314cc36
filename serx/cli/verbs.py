"""The verbs of the `serx` command: finds the module of one, parses its arguments and runs it.

Nothing here imports torch, so that help is fast.
"""

import difflib
import os
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn, cast

import serx
from serx.cli.commands import command
from serx.cli.execution import print_unencodable_as_escapes, run_main
from serx.cli.parsing import make_parser, parse
from serx.terminal import PrintableStream

GROUPS = {
    "data": ("corpora", "download", "synthesize", "audit"),
    "train and evaluate": ("train", "evaluate", "cross-validate", "sweep", "compare", "tensorboard"),
    "use a model": ("predict", "listen", "explain", "demo", "ensemble", "export"),
    "examine": ("stress", "leakage"),
}
WITHOUT_TORCH = {"corpora", "download", "synthesize", "tensorboard"}
RENAMED_VERBS = {"prepare": "audit", "cross_validate": "cross-validate"}


def run(verb: str | None, words: list[str]) -> NoReturn:
    """Runs a command line and exits with its code; arguments as for `serx.cli.main.main`."""
    print_unencodable_as_escapes()
    out, err = (cast(Any, PrintableStream(stream)) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(out), redirect_stderr(err):
        if verb is None:
            verb, words = _verb_of(words), words[1:]
        _refuse_torchrun(verb)
        module = _module(verb)
        parser = make_parser(module.__doc__ or "", module.EXAMPLES, command(verb))
        module.add_arguments(parser)
        arguments = parse(parser, words)
        arguments.command_line = f"{command(verb)} {shlex.join(words)}"
        run_main(module.main, arguments, computes=verb not in WITHOUT_TORCH)


def _refuse_torchrun(verb: str) -> None:
    """Ends all processes but one verb's: any other would write the same files several times."""
    if verb != "train" and "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        print(f"error: torchrun: {verb} runs in one process; start it without torchrun", file=sys.stderr)
        sys.exit(2)


def _verb_of(words: list[str]) -> str:
    first = words[0] if words else "--help"
    if first in ("-h", "--help"):
        print(_overview())
        sys.exit(0)
    if first == "--version":
        print(f"serx {serx.__version__}")
        sys.exit(0)
    verbs = [verb for group in GROUPS.values() for verb in group]
    if first in verbs:
        return first
    if first in RENAMED_VERBS:
        message = f"{first} is now called {RENAMED_VERBS[first]}: {command(RENAMED_VERBS[first])}"
    else:
        near = difflib.get_close_matches(first, verbs, n=1)
        hint = f"did you mean {near[0]}?" if near else f"give one of {', '.join(verbs)}"
        message = f"{first}: no such command; {hint}"
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _module(verb: str) -> ModuleType:
    return import_module(f"serx.cli.{verb.replace('-', '_')}")


def _overview() -> str:
    """All verbs by group, each with the first line of its module."""
    lines = ["usage: serx COMMAND ...      (serx COMMAND --help explains a command and gives examples)"]
    for group, verbs in GROUPS.items():
        lines += ["", f"{group}:"]
        lines += [f"  {verb:<15} {(_module(verb).__doc__ or '').strip().splitlines()[0]}" for verb in verbs]
    return "\n".join(lines)
