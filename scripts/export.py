#!/usr/bin/env python3
"""Same as `serx export`."""

from serx.cli.main import main

main("export")
