#!/usr/bin/env python3
"""Download a corpus: license first, then its archives, resumed where they were cut, checked, and unpacked safely."""

from pathlib import Path

from serx.cli import common as commands


def main(arguments) -> None:
    from serx.data.download.sources import SOURCES, download
    from serx.errors import ConfigError

    source = SOURCES.get(arguments.corpus)
    if source is None:
        raise ConfigError(f"{arguments.corpus}: no such corpus; there are {', '.join(SOURCES)}")
    print(f"{arguments.corpus}: {source.license}", flush=True)
    print("By downloading you accept that license; models trained on the corpus inherit its restrictions.", flush=True)
    folder = download(arguments.corpus, Path(arguments.root))
    print(f"ready: train with data.root={folder}")


if __name__ == "__main__":
    parser = commands.parser(
        __doc__, "  python scripts/download.py ravdess --root data\n  python scripts/download.py emodb --root /corpora"
    )
    parser.add_argument("corpus", metavar="CORPUS", help="ravdess, emodb, cremad; tess and savee tell what to do")
    parser.add_argument("--root", default="data", metavar="DIR", help="it goes to DIR/CORPUS (default: data)")
    commands.run(main, parser.parse_args())
