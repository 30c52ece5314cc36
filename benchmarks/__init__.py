"""What measures speed and memory. `scripts/benchmark.py` compares serx with other libraries, stage by stage.

bench             one run of `scripts/benchmark.py`: measure, then write the report
inputs            the clips and settings that every library gets
stages            the work of serx, stage by stage
training          the training step: its stages, and the share of each part
libraries         the libraries that serx is compared with
clip_libraries    the same work by librosa, NumPy, audiomentations, Signalsmith: one clip at a time
batch_libraries   the same work by torchaudio, nnAudio, torch-audiomentations, torch-time-stretch
timing            rounds, clocks, a profiler's trace
memory            peak memory of a stage
report            targets, ratios and the JSON file
page              the JSON file as Markdown
gpu               the step on a GPU next to what the hardware needs for it: `make gpu`
model_card        the figures of the model that ships with serx: `scripts/model_card.py`

Each of these measures one thing more, and is run by itself (`python -m benchmarks.NAME`):

peak              which share of a core's peak a network reaches
scale             start-up, memory and reading of corpora of many clips
loggers           what TensorBoard costs a training
adaptation        how many clips of a speaker adaptation needs
lossy_copies      how far a prediction moves where a clip is encoded as AAC, MP3 or Opus
"""
