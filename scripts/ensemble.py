#!/usr/bin/env python3
"""Same as `serx ensemble`."""

from serx.cli.main import main

main("ensemble")
