"""What a terminal shows: tables and bars of rich, in which names stay text; elsewhere plain lines."""

import io
import os
import re
import subprocess
import sys

import pytest

from serx.terminal import WIDTH, PrintableStream, ProgressBar, Table, as_text, show
from serx.training.console import epoch_line

pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HOSTILE = "[red]a[/red]\x1b]0;owned\x07\r\u202e:smile:.wav"
SHOWN = r"[red]a[/red]\x1b]0;owned\x07\r\u202e:smile:.wav"


class Terminal:
    """A pseudo-terminal of some columns; `stream` writes to it, `text()` is what it received."""

    def __init__(self, columns, monkeypatch):
        self._reader, writer = pty.openpty()
        self.stream = os.fdopen(writer, "w", encoding="utf-8")
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm-256color")

    def text(self):
        self.stream.close()
        received = b""
        while True:
            try:
                block = os.read(self._reader, 65536)
            except OSError:
                break
            if not block:
                break
            received += block
        os.close(self._reader)
        return received.decode()


@pytest.fixture
def terminal(monkeypatch):
    return lambda columns=100: Terminal(columns, monkeypatch)


def without_codes(text):
    return CODES.sub("", text)


def test_a_table_in_a_terminal_has_every_cell_and_names_are_not_read_as_markup(terminal):
    screen = terminal()
    show(["before", Table(HOSTILE, ("", "UAR"), [(HOSTILE, 62.5), ("[bold]b", 8.0)]), "after"], screen.stream)
    received = screen.text()
    assert CODES.search(received)  # it is drawn
    text = without_codes(received)
    assert not re.search(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f\u202e]", text)
    assert text.count(SHOWN) == 2 and "[bold]b" in text and "62.5" in text
    lines = [line.strip() for line in text.replace("\r\n", "\n").split("\n")]
    assert "\r" not in "".join(lines) and lines.index("before") < lines.index(SHOWN) < lines.index("after")


def test_numbers_are_never_cut_in_a_narrow_terminal(terminal):
    table = Table("Confusion", ("", *(f"label{i}" for i in range(8))), [("a long name of a row", *([98.76] * 8))])
    for columns in (20, 40, 60, 80, 120):
        screen = terminal(columns)
        show([table], screen.stream)
        text = without_codes(screen.text())
        assert text.count("98.76") == 8 and "…" not in text


def test_long_text_is_wrapped_in_its_column(terminal):
    screen = terminal(50)
    show([Table("", ("file", "why"), [("a.wav", "words " * 20)], left=(0, 1))], screen.stream)
    text = without_codes(screen.text())
    assert text.count("words") == 20 and max(map(len, text.splitlines())) <= 50


def test_elsewhere_a_table_is_plain_lines_with_aligned_columns():
    out = io.StringIO()
    blocks = [
        "before",
        Table("By sex", ("", "UAR", "note"), [("female\x1b", 62.5, "a"), ("m", 8.0, "bc")], left=(0, 2)),
    ]
    show(blocks, PrintableStream(out))
    assert out.getvalue() == as_text(blocks)
    assert out.getvalue().splitlines() == [
        "before", "", "By sex", "               UAR  note", r"  female\x1b  62.5  a", "  m            8.0  bc",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_a_terminal_without_a_cursor_gets_plain_lines_and_no_bar(terminal, monkeypatch, kind):
    screen = terminal()
    monkeypatch.setenv("TERM", kind)
    monkeypatch.setattr(sys, "stderr", screen.stream)
    show([Table("t", ("", "n"), [("a", 1)])], screen.stream)
    with ProgressBar("decode", 2, "clips") as bar:
        bar.update()
    assert "\x1b" not in (text := screen.text()) and "decode" not in text


def test_a_bar_in_a_terminal_names_what_is_done_and_goes_away(terminal, monkeypatch):
    screen = terminal()
    monkeypatch.setattr(sys, "stderr", PrintableStream(screen.stream))
    monkeypatch.setattr("serx.terminal.REFRESH_SECONDS", 0.0)
    with ProgressBar(HOSTILE, 3, "clips") as bar:
        for _ in range(3):
            bar.update()
    received = screen.text()
    assert "3 of 3 clips" in received and SHOWN in without_codes(received).replace("\r\n", "\n")
    assert "\x1b]0" not in received
    assert received.endswith("\x1b[2K")  # the line of the bar is erased
    assert "\x1b[?25l" not in received  # a process that is killed must not leave a hidden cursor


def test_without_a_terminal_there_is_no_bar(capsys):
    with ProgressBar("decode", 2, "clips") as bar:
        bar.update(2)
    assert capsys.readouterr() == ("", "") and bar.done == 2


def test_a_terminal_that_was_closed_stops_no_work(terminal, monkeypatch):
    screen = terminal()
    monkeypatch.setattr("serx.terminal.REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(sys, "stderr", screen.stream)
    with ProgressBar("decode", 2, "clips") as bar:
        monkeypatch.setattr(screen.stream, "write", _closed, raising=False)
        bar._progress.console.file = _Closed()
        bar.update(2)
    assert bar.done == 2


def _closed(*_):
    raise OSError(5, "Input/output error")


class _Closed(io.StringIO):
    write = flush = _closed


def test_rich_is_imported_only_on_a_terminal():
    program = (
        "import sys, serx.cli.predict, serx.training.trainer, serx.evaluation; from serx.terminal import *;"
        "show([Table('t', ('', 'n'), [('a', 1)])]); ProgressBar('a', 1, 'clips').__enter__().update();"
        "print('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("dimensions", [{}, {"ccc": -0.123}])
@pytest.mark.parametrize("epochs", [1, 60, 2000])
def test_a_line_an_epoch_fits_100_columns(dimensions, epochs):
    scores = {"loss": 12.3456, "uar": 1.0, **dimensions}
    line = {
        "epoch": epochs - 1, "train": scores, "valid": scores, "kept": True, "lr": 1.2e-5, "clips_per_second": 123456.7,
    }  # fmt: skip
    text = epoch_line(line, "uar", epochs, 100_000.0)
    assert len(text) <= WIDTH and f"epoch {epochs}/{epochs}  " in text and ("ETA 27:46:40" in text or dimensions)
    assert text.count("uar 100.0") == 2 and text.count("ccc -0.123") == 2 * len(dimensions)


def test_a_usual_line_an_epoch_has_learning_rate_speed_and_time_left():
    scores = {"loss": 2.345, "uar": 0.456}
    line = {"epoch": 4, "train": scores, "valid": scores, "kept": True, "lr": 9.7e-5, "clips_per_second": 1263.4}
    assert epoch_line(line, "uar", 100, 754.0) == (
        "epoch   5/100  train loss 2.345 uar 45.6  valid loss 2.345 uar 45.6*  lr 9.7e-5  1263/s  ETA 12:34"
    )
