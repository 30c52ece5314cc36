"""The benchmark behind `scripts/benchmark.py`: how fast serx is, stage by stage, and other libraries on the same clips.

bench        one run: measure, then write the report
inputs       the clips and settings that every library gets
stages       the work of serx, stage by stage
training     the training step: its stages, and the share of each part
libraries    the same work by librosa, torchaudio, nnAudio, audiomentations, ...
gpu          the step on a GPU next to what the hardware needs for it: `make gpu`
timing       rounds, clocks, a profiler's trace
memory       peak memory of a stage
report       targets, ratios and the JSON file
page         the JSON file as Markdown
"""
