#!/usr/bin/env python3
"""Same as `serx demo`."""

from serx.cli.main import main

main("demo")
