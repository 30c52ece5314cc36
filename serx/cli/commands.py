"""Command lines of serx that are printed for the user, or started in another process."""

import argparse
import shlex
import sys
from pathlib import Path


def command(verb: str) -> str:
    """How the user of this process calls a verb: `serx train`, `python -m serx train` or `python scripts/train.py`."""
    program = Path(sys.argv[0])
    if program.parent.name == "scripts" and program.suffix == ".py":
        return f"python scripts/{verb.replace('-', '_')}.py"
    return f"python -m serx {verb}" if program.name == "__main__.py" else f"serx {verb}"


def command_line(verb: str, arguments: argparse.Namespace, *words: str) -> str:
    """A command that the user may type next, with the same `--import`."""
    return f"{command(verb)} {shlex.join([*words, *_imports(arguments)])}"


def serx_command(verb: str, arguments: argparse.Namespace, *words: str) -> list[str]:
    """A command line that any process may run in this folder, with the same `--import`."""
    return [sys.executable, "-m", "serx", verb, *words, *_imports(arguments)]


def _imports(arguments: argparse.Namespace) -> list[str]:
    return [word for name in arguments.imports or [] for word in ("--import", name)]
