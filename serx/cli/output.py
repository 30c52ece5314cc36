"""Results as JSON for another program (`--json`), and as a page to look at (`--report`)."""

import argparse
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serx.pages import Reproduction


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


@contextmanager
def messages_on_stderr(arguments: argparse.Namespace) -> Iterator[None]:
    """With `--json` whatever is printed goes to standard error, and `print_json` alone to standard output."""
    if not (hasattr(arguments, "document") and arguments.json):
        yield
        return
    arguments.document = sys.stdout
    with redirect_stdout(sys.stderr):
        yield


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


def how_to_reproduce(arguments: argparse.Namespace, facts: Mapping[str, Any], *before: str) -> "Reproduction":
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
