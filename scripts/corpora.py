#!/usr/bin/env python3
"""Same as `serx corpora`."""

from serx.cli.main import main

main("corpora")
