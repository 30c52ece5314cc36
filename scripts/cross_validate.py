#!/usr/bin/env python3
"""Same as `serx cross-validate`."""

from serx.cli.main import main

main("cross-validate")
