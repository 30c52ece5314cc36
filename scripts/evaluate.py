#!/usr/bin/env python3
"""Same as `serx evaluate`."""

from serx.cli.main import main

main("evaluate")
