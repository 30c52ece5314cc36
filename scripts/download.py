#!/usr/bin/env python3
"""Same as `serx download`."""

from serx.cli.main import main

main("download")
