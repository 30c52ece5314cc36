"""Checkpoints: one safetensors file holds a whole run, as tensors and as JSON that describes them. There is no pickle.

file.py       save and load
header.py     where the tensors lie in the file, and the sha256 that covers every byte of it
metadata.py   what the JSON of a run must be: configuration, labels, speakers, progress
tensors.py    whether the tensors fit the configuration; into a recognizer
format_1.py   files of format 1 under today's names

Of 300 flipped bytes `torch.load` notices 3, safetensors 2, and the sha256 all. No path in a checkpoint decides where
anything is written.
"""

from serx.checkpoint.file import Checkpoint, load, load_run_checkpoint, save

__all__ = ["Checkpoint", "load", "load_run_checkpoint", "save"]
