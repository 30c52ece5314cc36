"""Start-up, memory and reading of corpora of many clips: `python -m benchmarks.scale 1000 20000 200000`.

Makes as many files of 0.1 s and a CSV of them in a temporary folder, and prints one line of a table for each number.
Each step runs in a process of its own, so that its peak memory is its own.
"""

import resource
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np
import torch

from serx.data.batches import DeviceAudio, StreamedAudio
from serx.data.dataset import DataConfig, load_dataset

SECONDS, RATE, SPEAKERS, BATCH, BATCHES = 0.1, 16_000, 100, 64, 200
HEADER = (
    "| clips | decode, clips/s | start again, s | of which cache, s | memory, MB | index, bytes/clip | "
    "streamed, clips/s | resident, clips/s |\n|---|---|---|---|---|---|---|---|"
)


def make(folder: Path, count: int) -> None:
    """Writes `count` files of noise and the table that lists them."""
    random = np.random.default_rng(0)
    noise = (3000 * random.standard_normal(RATE)).astype(np.int16)
    rows = ["path,emotion,speaker\n"]
    for i in range(count):
        name = f"{i // 1000:04d}/{i:07d}.wav"
        if i % 1000 == 0:
            (folder / name).parent.mkdir()
        with wave.open(str(folder / name), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            start = i * 7 % (RATE - round(SECONDS * RATE))
            file.writeframes(noise[start : start + round(SECONDS * RATE)].tobytes())
        rows.append(f"{name},{('sad', 'angry')[i % 2]},s{i % SPEAKERS}\n")
    (folder / "own.csv").write_text("".join(rows))


def measure(step: str, folder: Path, count: int) -> None:
    """Prints what one step of `STEPS` measures."""
    config = DataConfig(root=str(folder / "own.csv"), cache=str(folder / "cache"))
    before, start = _peak_mb(), time.perf_counter()
    dataset = load_dataset(config, progress=False)
    seconds, peak = time.perf_counter() - start, _peak_mb()
    if step == "decode":
        print(count / seconds)
    elif step == "start":
        print(seconds, peak - before)
    elif step == "open":
        from serx.data.audio_cache import open_audio_cache

        segments = [utterance.segment for utterance in dataset.utterances]
        start = time.perf_counter()
        open_audio_cache(segments, config, folder / "cache", progress=False)
        indexes = sum(path.stat().st_size for path in (folder / "cache").glob("*/*.sealed"))
        print(time.perf_counter() - start, indexes / count)
    else:
        source = {"stream": StreamedAudio, "device": DeviceAudio}[step](dataset.audio_cache, torch.device("cpu"))
        order = np.random.default_rng(0).integers(0, count, (BATCHES, BATCH))
        for batch in order[:5]:
            source.batch(batch)
        start = time.perf_counter()
        for batch in order:
            source.batch(batch)
        print(BATCHES * BATCH / (time.perf_counter() - start))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measures each number of clips on the command line."""
    print(HEADER, flush=True)
    for count in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as name:
            make(Path(name), count)
            found: list[float] = []
            for step in ("decode", "start", "open", "stream", "device"):
                command = [sys.executable, "-m", "benchmarks.scale", "--step", step, name, str(count)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found += map(float, done.stdout.split())
        rate, again, memory, opening, index, streamed, resident = found
        cells = [f"{count:,}", f"{rate:,.0f}", f"{again:.2f}", f"{opening:.2f}", f"{memory:,.0f}", f"{index:.0f}"]
        print(f"| {' | '.join([*cells, f'{streamed:,.0f}', f'{resident:,.0f}'])} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        torch.set_num_threads(1)
        measure(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
