#!/usr/bin/env python3
"""Same as `serx compare`."""

from serx.cli.main import main

main("compare")
