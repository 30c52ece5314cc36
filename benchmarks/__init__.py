"""The benchmark behind `scripts/benchmark.py`: what is given, stages of serx, other tools, timing, report."""
