"""How the words of a command line are read. `section.key=value` may stand anywhere among the options."""

import argparse
import re
from collections.abc import Sequence

from serx.errors import exit_code_help

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


def make_parser(description: str, examples: str, program: str | None = None) -> argparse.ArgumentParser:
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
