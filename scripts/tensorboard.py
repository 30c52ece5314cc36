#!/usr/bin/env python3
"""Same as `serx tensorboard`."""

from serx.cli.main import main

main("tensorboard")
