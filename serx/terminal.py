"""Text, tables and bars for a terminal: what comes from a file can neither move the cursor nor hide itself.

A terminal obeys control characters: `ESC ] 0 ;` renames its window, a carriage return overwrites a line, and
right-to-left overrides show a name backwards. Every command prints through `PrintableStream`.

On a terminal, rich draws tables and progress bars; it is imported only then. Elsewhere tables are plain lines, and
there are no bars.
"""

import os
import sys
import textwrap
import time
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import rich.console
    import rich.table

WIDTH = 100  # columns of plain text
TEXT_COLUMN = 12  # the width below which a column of text is not wrapped
REFRESH_SECONDS = 0.2  # of a bar


def printable(text: object) -> str:
    r"""`text` on one line: characters that are not printed as themselves become escapes, as in a Python string.

    These are control characters, line ends, invisible and bidirectional format characters, and surrogates (bytes of a
    file name that are not text).

    >>> print(printable("a\x1b[2Jb\nc\u202ed"))
    a\x1b[2Jb\nc\u202ed
    """
    line = str(text)
    return line if line.isprintable() else "".join(map(_shown, line))


def printable_lines(text: str) -> str:
    r"""`printable`, but line ends stay.

    >>> print(printable_lines("a\x1b[2J\nb"))
    a\x1b[2J
    b
    """
    return "\n".join(map(printable, text.split("\n")))


class PrintableStream:
    r"""A text stream that writes `printable_lines` to another; everything else is done by the other.

    >>> import io
    >>> stream = io.StringIO()
    >>> print("title: \x1b]0;owned", file=PrintableStream(stream))
    >>> stream.getvalue()
    'title: \\x1b]0;owned\n'
    """

    def __init__(self, stream: TextIO) -> None:
        self.wrapped = stream

    def write(self, text: str) -> int:
        self.wrapped.write(printable_lines(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)


def wrap(text: str) -> list[str]:
    """The text in lines of `WIDTH` columns."""
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)


@dataclass(frozen=True)
class Table:
    """A table; as a string it is plain lines, after an empty line.

    Attributes:
        title: above it.
        header: names of the columns.
        rows: cells, as many in each row as there are names.
        left: columns that are aligned to the left, as text is; the others hold numbers.

    >>> print(Table("By sex, %", ("", "UAR"), (("female", 62.5), ("male", 8.0))))
    <BLANKLINE>
    By sex, %
               UAR
      female  62.5
      male     8.0
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    left: tuple[int, ...] = (0,)

    def __str__(self) -> str:
        widths = self._widths()
        aligned = [map(self._aligned, range(len(row)), row, widths) for row in self._cells()]
        return "\n".join(["", *wrap(self.title), *(f"  {'  '.join(cells).rstrip()}" for cells in aligned)])

    def _cells(self) -> list[list[str]]:
        return [[printable(cell) for cell in row] for row in [self.header, *self.rows]]

    def _widths(self) -> list[int]:
        return [max(map(len, column)) for column in zip(*self._cells(), strict=True)]

    def _aligned(self, column: int, cell: str, width: int) -> str:
        return cell.ljust(width) if column in self.left else cell.rjust(width)

    def drawn(self) -> "rich.table.Table":
        """The table of rich. No cell is read as markup."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        header, *rows = self._cells()
        table = RichTable(
            title=Text(printable(self.title), style="bold"),
            title_justify="left",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            header_style="dim",
            pad_edge=False,
            padding=(0, 1),
        )
        for number, (name, width) in enumerate(zip(header, self._widths(), strict=True)):
            is_text = number in self.left
            table.add_column(
                Text(name),
                justify="left" if is_text else "right",
                no_wrap=not is_text,  # a number that is cut or broken is another number
                overflow="fold",
                min_width=min(width, TEXT_COLUMN),
            )
        for row in rows:
            table.add_row(*map(Text, row))
        return table


Block = str | Table  # of a report: a line, or a table


def as_text(blocks: Iterable[Block]) -> str:
    """Lines and tables as plain text.

    >>> print(as_text(["protocol: kfold", Table("Scores", ("", "UAR"), [("all", 50.0)])]), end="")
    protocol: kfold
    <BLANKLINE>
    Scores
            UAR
      all  50.0
    """
    return "".join(f"{block}\n" for block in blocks)


def show(blocks: Iterable[Block], stream: TextIO | None = None) -> None:
    """Prints lines and tables, on a terminal drawn by rich.

    Args:
        blocks: lines of text, which keep their order among the tables.
        stream: default: standard output.
    """
    out = sys.stdout if stream is None else stream
    if not is_terminal(out):
        print(as_text(blocks), end="", file=out)
        return
    console = _console(out)
    unlimited = console.options.update(max_width=sys.maxsize)
    for block in blocks:
        table = block.drawn() if isinstance(block, Table) else None
        # within the width of the terminal, rich would measure a table that it then cuts
        if table is not None and console.measure(table, options=unlimited).minimum <= console.width:
            console.print()
            console.print(table)
        else:
            console.out(printable_lines(str(block)), highlight=False)


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can move its cursor."""
    with suppress(ValueError, AttributeError):  # closed, or not there, as under pythonw
        return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    return False


def bar(fraction: float, width: int = 30) -> str:
    """A bar of up to `width` characters that standard output can show.

    >>> len(bar(0.5, 10))
    5
    """
    with suppress(UnicodeError, LookupError):
        "█".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
        return "█" * round(width * fraction)
    return "#" * round(width * fraction)


class ProgressBar:
    """A bar on standard error while a block runs; it is gone afterwards. Without a terminal nothing is shown.

    It is drawn by `update`, without a thread of its own: other processes may be forked meanwhile.

    >>> with ProgressBar("decode", 2, "clips") as bar:
    ...     bar.update()
    ...     bar.update()
    >>> bar.done
    2
    """

    def __init__(self, label: str, total: int, unit: str, progress: bool = True) -> None:
        """`unit` is what is counted, such as `clips`, or `B` for bytes; without `progress` nothing is shown."""
        self._label, self._total, self._unit = printable(label), total, unit
        self._shown = progress and is_terminal(sys.stderr)
        self.done = self._start = 0

    def start_at(self, done: int) -> None:
        """So many were done before the block, such as the bytes of a download that is resumed."""
        self.done = self._start = done

    def __enter__(self) -> "ProgressBar":
        self._began, self._drawn = time.monotonic(), -REFRESH_SECONDS
        if self._shown:
            from rich.progress import BarColumn, Progress, TextColumn

            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[state]}", markup=False),
                console=_console(sys.stderr),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._task = self._progress.add_task(self._label, total=self._total, state="")
            self._progress.start()
        return self

    def update(self, count: int = 1) -> None:
        """So many more are done."""
        self.done += count
        seconds = time.monotonic() - self._began
        if self._shown and seconds - self._drawn >= REFRESH_SECONDS:
            self._drawn = seconds
            try:
                self._progress.update(self._task, completed=self.done, state=self._state(seconds), refresh=True)
            except OSError:  # the terminal was closed, which ends no training
                self._shown = False

    def _state(self, seconds: float) -> str:
        speed = (self.done - self._start) / max(seconds, 1e-9)
        left = max(0, int((self._total - self.done) / speed)) if speed else 0
        if self._unit == "B":
            numbers = f"{self.done / 1e6:.1f} of {self._total / 1e6:.1f} MB, {speed / 1e6:.1f} MB/s"
        else:
            numbers = f"{self.done} of {self._total} {self._unit}, {speed:.{0 if speed >= 10 else 1}f}/s"
        return f"{numbers}, ETA {left // 60}:{left % 60:02d}"

    def __exit__(self, *_: object) -> None:
        if self._shown:
            with suppress(OSError):
                self._progress.stop()


def _console(stream: TextIO) -> "rich.console.Console":
    """A console of rich on the terminal itself, behind `PrintableStream`, which would escape rich's own codes."""
    from rich.console import Console

    class QuietConsole(Console):
        def show_cursor(self, show: bool = True) -> bool:
            """Leaves the cursor as it is: a process that is killed could not bring it back."""
            return False

    raw = stream.wrapped if isinstance(stream, PrintableStream) else stream
    return QuietConsole(file=raw, force_terminal=True, width=_columns(raw), markup=False, highlight=False, emoji=False)


def _columns(stream: TextIO) -> int:
    """The width of a terminal; `WIDTH` if it does not say."""
    with suppress(OSError, ValueError, AttributeError):
        return int(os.environ.get("COLUMNS", "0")) or os.get_terminal_size(stream.fileno()).columns or WIDTH
    return WIDTH


def _shown(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":  # spaces of other widths
        return character
    return character.encode("unicode_escape").decode()
