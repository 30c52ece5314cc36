"""Download a corpus, after printing its license.

A cut download resumes, every archive is checked against its published checksum or size, and unpacking writes only
below the folder.
"""

import argparse
from pathlib import Path

from serx.cli.output import add_json, print_json

EXAMPLES = """  %(prog)s ravdess --root data
  %(prog)s emodb --root /corpora"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The corpus and the folder."""
    parser.add_argument(
        "corpus", metavar="CORPUS", help="ravdess, emodb or cremad; tess and savee print how to get them by hand"
    )
    add_json(parser, "`corpus`, `license` and `folder`")
    parser.add_argument("--root", default="data", metavar="DIR", help="the corpus goes to DIR/CORPUS; default: data")


def main(arguments: argparse.Namespace) -> int:
    """Downloads and unpacks, and prints the folder to train with."""
    from serx.data.corpora import CORPORA, canonical_corpus
    from serx.data.download.sources import SOURCES, download
    from serx.errors import ConfigError

    source = SOURCES.get(arguments.corpus)
    known = CORPORA.get(canonical_corpus(arguments.corpus))
    if source is None and known is not None and known.url:
        raise ConfigError(
            f"{arguments.corpus}: serx cannot download {known.title} ({known.license}): get it at {known.url}, unpack "
            f"it and name its folder as data.root; `serx corpora {known.name}` shows the layout"
        )
    if source is None:
        raise ConfigError(f"{arguments.corpus}: no such corpus; choose one of {', '.join(SOURCES)}")
    print(f"{arguments.corpus}: {source.license}", flush=True)
    print("By downloading you accept that license; models trained on the corpus inherit its restrictions.", flush=True)
    folder = download(arguments.corpus, Path(arguments.root))
    if arguments.json:
        print_json(arguments, {"corpus": arguments.corpus, "license": source.license, "folder": folder})
    print(f"ready: train with data.root={folder}")
    return 0
