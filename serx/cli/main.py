"""The `serx` command. It imports almost nothing before it handles signals, so that Ctrl-C never prints a traceback."""

import sys
from collections.abc import Sequence
from typing import NoReturn

from serx.cli import interrupts


def main(verb: str | None = None, words: Sequence[str] | None = None) -> NoReturn:
    """Runs a command line and exits with its code.

    Args:
        verb: such as "train"; None takes it from the first word.
        words: the command line behind the program's name; None takes that of this process.
    """
    interrupts.exit_on_signals()
    try:
        from serx.cli import verbs
        from serx.system import limit_threads

        limit_threads()
        verbs.run(verb, list(sys.argv[1:] if words is None else words))
    except BaseException:
        if interrupts.exit_code() is None:
            raise
        sys.exit(interrupts.exit_code())
    finally:
        interrupts.nothing_left_to_do()
