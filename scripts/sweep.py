#!/usr/bin/env python3
"""Same as `serx sweep`."""

from serx.cli.main import main

main("sweep")
