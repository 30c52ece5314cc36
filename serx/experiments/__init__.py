"""Experiments of many trainings: cross-validation, sweeps on validation speakers, and the leakage lesson.

Every training is an ordinary run in its own folder. The same call continues where an earlier one stopped.
"""
