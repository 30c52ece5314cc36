"""Start-up, memory and reading of corpora of many clips: `python -m benchmarks.scale 1000 20000 200000`.

Makes as many files of 0.1 s and a CSV of them in a temporary folder, and prints one line of a table for each number.
Each step runs in a process of its own, so that its peak memory is its own. Times are CPU seconds, of one core.
`python -m benchmarks.scale segments 5 20` does the same for 500 segments of 3 s in each of 5 and of 20 files of 30
minutes.
"""

import resource
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np
import soundfile
import torch

from serx.data.audio_cache import open_audio_cache
from serx.data.batches import DeviceAudio, StreamedAudio
from serx.data.dataset import DataConfig, load_dataset
from serx.data.leaks import check_leaks
from serx.data.protocols import make_split
from serx.data.scan_snapshot import scan_once
from serx.data.utterances import Utterances

SECONDS, RATE, SPEAKERS, BATCH, BATCHES = 0.1, 16_000, 100, 64, 200
HEADER = (
    "| clips | decode, clips per CPU s | start again, CPU s | of which cache, CPU s | memory, MB | index, bytes/clip | "
    "streamed, clips per CPU s | resident, clips per CPU s |\n|---|---|---|---|---|---|---|---|"
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


def make_long(folder: Path, files: int) -> int:
    """Writes FLAC files of 30 minutes, and the table of their segments; returns how many those are."""
    random = np.random.default_rng(0)
    minute = (3000 * random.standard_normal(60 * RATE)).astype(np.int16)
    rows = ["path,emotion,speaker,start,end\n"]
    for i in range(files):
        with soundfile.SoundFile(folder / f"{i}.flac", "w", RATE, 1) as file:
            for k in range(30):
                file.write(np.roll(minute, 997 * i + k))
        rows += [f"{i}.flac,sad,s{n % 10},{3.6 * n:.1f},{3.6 * n + 3:.1f}\n" for n in range(500)]
    (folder / "own.csv").write_text("".join(rows))
    return 500 * files


def measure(step: str, folder: Path, count: int) -> None:
    """Prints what one step of `STEPS` measures."""
    config = DataConfig(root=str(folder / "own.csv"), cache=str(folder / "cache"))
    before, start = _peak_mb(), time.process_time()
    dataset = load_dataset(config, progress=False)
    if step == "start":
        split = make_split(dataset.utterances, dataset.strata, config, dataset.digests, dataset.labels, dataset.shares)
        check_leaks(dataset.utterances, split, dataset.digests)
    seconds, peak = time.process_time() - start, _peak_mb()
    if step == "segments":
        print(seconds, peak - before)
    elif step == "decode":
        print(count / seconds)
    elif step == "start":
        print(seconds, peak - before)
    elif step == "open":
        clips = Utterances.of(scan_once(config.root, config.styles, config, config.corpora).utterances)
        start = time.process_time()
        open_audio_cache(clips.segments, config, folder / "cache", progress=False)
        indexes = sum(path.stat().st_size for path in (folder / "cache").glob("audio-*/*.sealed"))
        print(time.process_time() - start, indexes / count)
    else:
        source = {"stream": StreamedAudio, "device": DeviceAudio}[step](dataset.audio_cache, torch.device("cpu"))
        order = np.random.default_rng(0).integers(0, count, (BATCHES, BATCH))
        for batch in order[:5]:
            source.batch(batch)
        start = time.process_time()
        for batch in order:
            source.batch(batch)
        print(BATCHES * BATCH / (time.process_time() - start))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(step: str, folder: str, count: int) -> list[float]:
    """What `measure` prints in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--step", step, folder, str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return list(map(float, done.stdout.split()))


def main() -> None:
    """Measures each number of clips on the command line."""
    if sys.argv[1] == "segments":
        print("| files of 30 minutes | segments | decode, CPU s | memory, MB |\n|---|---|---|---|", flush=True)
        for files in map(int, sys.argv[2:]):
            with tempfile.TemporaryDirectory() as name:
                count = make_long(Path(name), files)
                seconds, memory = run("segments", name, count)
            print(f"| {files} | {count:,} | {seconds:.1f} | {memory:,.0f} |", flush=True)
        return
    print(HEADER, flush=True)
    for count in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as name:
            make(Path(name), count)
            found: list[float] = []
            for step in ("decode", "start", "open", "stream", "device"):
                found += run(step, name, count)
        rate, again, memory, opening, index, streamed, resident = found
        cells = [f"{count:,}", f"{rate:,.0f}", f"{again:.2f}", f"{opening:.2f}", f"{memory:,.0f}", f"{index:.0f}"]
        print(f"| {' | '.join([*cells, f'{streamed:,.0f}', f'{resident:,.0f}'])} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        torch.set_num_threads(1)
        measure(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
