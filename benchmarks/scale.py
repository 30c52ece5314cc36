"""Start-up, memory and reading of corpora of many clips: `python -m benchmarks.scale 1000 20000 200000`.

Makes as many files of 0.1 s and a CSV of them in a temporary folder, and prints one line of a table for each number.
Each step runs in a process of its own, so that its peak memory is its own. Times are CPU seconds, of one core.
`python -m benchmarks.scale segments 5 20` does the same for 500 segments of 3 s in each of 5 and of 20 files of 30
minutes. `python -m benchmarks.scale kinds 200000` finds as many empty files, twice, as each of `KINDS` lists them.
"""

import resource
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np
import pyarrow.parquet
import soundfile
import torch

from serx.data.batches import DeviceAudio, StreamedAudio
from serx.data.cache.audio_cache import open_audio_cache
from serx.data.dataset import DataConfig, load_dataset
from serx.data.scanning.snapshot import scan_once
from serx.data.splits.leaks import check_leaks
from serx.data.splits.protocols import make_split
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


def make_emotions(folder: Path, count: int) -> None:
    """Makes empty files in a folder for each speaker and emotion."""
    for i in range(count):
        inner = folder / f"speaker_{i % SPEAKERS}" / ("sad", "angry")[i // SPEAKERS % 2]
        if i < 2 * SPEAKERS:
            inner.mkdir(parents=True)
        (inner / f"{i}.wav").touch()


def _numbered(folder: Path, count: int, form: str = "{:07d}.wav") -> list[str]:
    """Makes empty files, 1000 in a folder; returns their paths from `folder`."""
    names = [f"{i // 1000:04d}/{form.format(i)}" for i in range(count)]
    for i, name in enumerate(names):
        if i % 1000 == 0:
            (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    return names


def make_msp(folder: Path, count: int) -> None:
    """Empty files of the names of MSP-Podcast, and its label file."""
    names = _numbered(folder / "Audios", count, "MSP-PODCAST_0001_{:07d}.wav")
    rows = ["FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"]
    for i, name in enumerate(names):
        ratings = ",".join(f"{1 + i * prime % 31 / 5:g}" for prime in (7919, 104_729, 1_299_709))
        rows.append(f"{name[5:]},{'ASHN'[i % 4]},{ratings},{i % 500 + 1},{('Male', 'Female')[i % 2]},Train\n")
    (folder / "Labels").mkdir()
    (folder / "Labels" / "labels_consensus.csv").write_text("".join(rows))


def make_parquet(folder: Path, count: int) -> None:
    """Empty files, and a Parquet file that lists them."""
    names = _numbered(folder, count)
    emotions, speakers = [("sad", "angry")[i % 2] for i in range(count)], [f"s{i % SPEAKERS}" for i in range(count)]
    table = pyarrow.table({"path": names, "emotion": emotions, "speaker": speakers})
    pyarrow.parquet.write_table(table, folder / "own.parquet")


def make_audio_folder(folder: Path, count: int) -> None:
    """Empty files, and the `metadata.csv` of a Hugging Face audio folder."""
    rows = [f"{name},{('sad', 'angry')[i % 2]},s{i % SPEAKERS}\n" for i, name in enumerate(_numbered(folder, count))]
    (folder / "metadata.csv").write_text("".join(["file_name,emotion,speaker\n", *rows]))


def make_database(folder: Path, count: int) -> None:
    """Empty files, and the header and two tables of an audformat database."""
    names = _numbered(folder, count)
    (folder / "db.yaml").write_text(
        "name: own\nschemes: {emotion: {}, speaker: {}}\ntables:\n  emotion: {columns: {emotion: {}}}\n"
        "  files: {columns: {speaker: {}}}\n"
    )
    emotions = [f"{name},{('sad', 'angry')[i % 2]}\n" for i, name in enumerate(names)]
    speakers = [f"{name},s{i % SPEAKERS}\n" for i, name in enumerate(names)]
    (folder / "db.emotion.csv").write_text("".join(["file,emotion\n", *emotions]))
    (folder / "db.files.csv").write_text("".join(["file,speaker\n", *speakers]))


KINDS = {
    "folders of emotions": make_emotions,
    "MSP-Podcast": make_msp,
    "Parquet": make_parquet,
    "Hugging Face audio folder": make_audio_folder,
    "audformat": make_database,
}


def measure(step: str, folder: Path, count: int) -> None:
    """Prints what one step of `STEPS` measures."""
    if step == "scan":
        table = folder / "corpus" / "own.parquet"
        root = table if table.is_file() else table.parent
        config = DataConfig(root=str(root), cache=str(folder / "cache"))
        start = time.process_time()
        found = scan_once(config.root, config.styles, config, config.corpora).utterances
        assert len(found) == count
        print(time.process_time() - start)
        return
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
    if sys.argv[1] == "kinds":
        print("| clips | in | scan, CPU s | again, CPU s |\n|---|---|---|---|", flush=True)
        for count in map(int, sys.argv[2:]):
            for kind, make_corpus in KINDS.items():
                with tempfile.TemporaryDirectory() as name:
                    make_corpus(Path(name, "corpus"), count)
                    [first], [again] = (run("scan", name, count) for _ in range(2))
                print(f"| {count:,} | {kind} | {first:.1f} | {again:.2f} |", flush=True)
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
