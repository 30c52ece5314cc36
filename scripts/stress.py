#!/usr/bin/env python3
"""Same as `serx stress`."""

from serx.cli.main import main

main("stress")
