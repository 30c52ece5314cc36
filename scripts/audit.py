#!/usr/bin/env python3
"""Same as `serx audit`."""

from serx.cli.main import main

main("audit")
