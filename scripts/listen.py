#!/usr/bin/env python3
"""Same as `serx listen`."""

from serx.cli.main import main

main("listen")
