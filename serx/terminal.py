"""Text for a terminal: what comes from a file (a name, a label, a message) can neither move the cursor nor hide itself.

A terminal obeys control characters: `ESC ] 0 ;` renames its window, a carriage return overwrites a line, and
right-to-left overrides show a name backwards. Every command prints through `PrintableStream`.
"""

import unicodedata
from typing import Any, TextIO


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

    A carriage return that begins a write stays on a terminal: progress bars return to the beginning of their line.

    >>> import io
    >>> stream = io.StringIO()
    >>> print("title: \x1b]0;owned", file=PrintableStream(stream))
    >>> stream.getvalue()
    'title: \\x1b]0;owned\n'
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        start = "\r" if text.startswith("\r") and self._stream.isatty() else ""
        self._stream.write(start + printable_lines(text[len(start) :]))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _shown(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":  # spaces of other widths
        return character
    return character.encode("unicode_escape").decode()
