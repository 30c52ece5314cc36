"""List the corpora that serx knows, or show one of them.

Without a name: languages, speakers, clips, hours, emotions, license and where to get each. With a name: also its
layout, label maps and a recommended protocol.
"""

import argparse

from serx.cli.options import add_import
from serx.cli.output import add_json, print_json
from serx.terminal import Table, show

EXAMPLES = """  %(prog)s
  %(prog)s iemocap
  %(prog)s iemocap --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The corpus, and the form of the answer."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="a corpus to show in full; default: list all")
    add_json(parser, "the facts about the corpus, or a list of those of all corpora")
    add_import(parser)


def main(arguments: argparse.Namespace) -> int:
    """Prints the list, or one corpus."""
    from serx.data.corpora import CORPORA, known_corpus
    from serx.data.corpora.reference import COLUMNS, facts, lines, row

    if arguments.name is None:
        if arguments.json:
            print_json(arguments, [facts(corpus) for corpus in CORPORA.values()])
            return 0
        rows = [row(corpus) for corpus in CORPORA.values()]
        show([Table(f"{len(rows)} corpora", COLUMNS, rows, left=(0, 1, 6, 7))])
        return 0
    corpus = CORPORA[known_corpus("serx corpora", arguments.name)]
    if arguments.json:
        print_json(arguments, facts(corpus))
        return 0
    print(f"{corpus.title} ({corpus.name})")
    entries = lines(corpus)
    width = max(len(what) for what, _ in entries)
    for what, text in entries:
        print(f"  {what:<{width}}  {text}")
    return 0
