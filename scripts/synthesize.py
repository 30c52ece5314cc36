#!/usr/bin/env python3
"""Same as `serx synthesize`."""

from serx.cli.main import main

main("synthesize")
