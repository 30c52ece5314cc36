#!/usr/bin/env python3
"""Same as `serx train`."""

from serx.cli.main import main

main("train")
