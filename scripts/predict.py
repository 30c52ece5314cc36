#!/usr/bin/env python3
"""Same as `serx predict`."""

from serx.cli.main import main

main("predict")
