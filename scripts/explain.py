#!/usr/bin/env python3
"""Same as `serx explain`."""

from serx.cli.main import main

main("explain")
