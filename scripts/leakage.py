#!/usr/bin/env python3
"""Same as `serx leakage`."""

from serx.cli.main import main

main("leakage")
