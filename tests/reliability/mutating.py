"""Damage audio files of many encodings at random and read each: what comes back must be sound, or a named reason.

    python -m tests.reliability.mutating COUNT SEED MEGABYTES FOLDER

prints one JSON object. The process that reads has no more address space than MEGABYTES; before each file it writes its
name to FOLDER/now, so that the parent of a process that died knows which it was.
"""

import json
import random
import re
import resource
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile

from serx.data.audio import MAX_LEVEL, AudioConfig, AudioError, blocks, read

REASONS = {
    "empty", "not_audio", "truncated", "too_short", "too_long", "silent", "nonfinite", "absurd_level", "bad_rate",
    "too_many_channels", "decode_error", "unreadable",
}  # fmt: skip
CONFIG = AudioConfig(max_seconds=20.0, trim_db=35.0)
ENCODINGS = [
    *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW",
                                       "IMA_ADPCM", "MS_ADPCM", "GSM610")),
    ("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16"),
    ("CAF", "ALAC_16"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip
EXTREMES = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62]


def originals(folder: Path) -> list[bytes]:
    """A third of a second in every encoding, mono and stereo."""
    time_axis = np.arange(5300) / 16000
    wave = 0.3 * np.sin(2 * np.pi * 220 * time_axis) * (1 + np.sin(2 * np.pi * 5 * time_axis))
    made = []
    for i, (form, subtype) in enumerate(ENCODINGS):
        path = folder / "original"
        channels = 1 + i % 2 if subtype != "GSM610" else 1
        soundfile.write(path, np.stack([wave] * channels, 1), 16000, format=form, subtype=subtype)
        made.append(path.read_bytes())
    return made


def mutate(content: bytes, choose: random.Random) -> bytes:
    """One to four of: flip bits, overwrite, an extreme number (mostly in the header), cut, repeat, insert, reorder."""
    data = bytearray(content)
    for _ in range(choose.randint(1, 4)):
        if not data:
            break
        head = choose.random() < 0.6
        at = choose.randrange(min(len(data), 120) if head else len(data))
        kind = choose.randrange(7)
        if kind == 0:
            data[at] ^= 1 << choose.randrange(8)
        elif kind == 1:
            data[at : at + choose.randrange(1, 30)] = choose.randbytes(choose.randrange(1, 30))
        elif kind == 2:
            size = choose.choice([1, 2, 4, 8])
            number = choose.choice(EXTREMES) & ((1 << 8 * size) - 1)
            data[at : at + size] = number.to_bytes(size, choose.choice(["little", "big"]))
        elif kind == 3:
            del data[choose.randrange(len(data)) :]
        elif kind == 4:
            data[at:at] = data[at : at + choose.randrange(1, 400)]
        elif kind == 5:
            data[at:at] = bytes(choose.randrange(1, 400))
        else:
            other = choose.randrange(len(data))
            data[at : at + 16], data[other : other + 16] = data[other : other + 16], data[at : at + 16]
    return bytes(data)


def judge(path: Path) -> str:
    """`decoded`, a reason, or what went wrong (with a `!`)."""
    try:
        waveform = read(path, CONFIG)
    except AudioError as error:
        return error.reason if error.reason in REASONS and str(path) in str(error) else f"!unnamed {error}"
    except BaseException as error:
        return f"!{type(error).__name__}: {error}"
    if waveform.dtype != np.float32 or waveform.ndim != 1 or not np.isfinite(waveform).all():
        return "!not finite float32"
    if not 0 < len(waveform) <= CONFIG.max_seconds * CONFIG.sample_rate + 20_000:
        return f"!{len(waveform)} samples"
    return "decoded" if float(np.abs(waveform).max()) <= 2 * MAX_LEVEL else "!too loud"


def judge_in_blocks(path: Path) -> str:
    """The same of the file given in blocks, of which as many as there are in a minute are taken."""
    heard = 0
    try:
        for block in blocks(path, CONFIG.sample_rate):
            heard += len(block)
            if block.dtype != np.float32 or block.ndim != 1 or not np.isfinite(block).all():
                return "!a block is not finite float32"
            if heard > 60 * CONFIG.sample_rate:
                break
    except AudioError as error:
        return error.reason if error.reason in REASONS and str(path) in str(error) else f"!unnamed {error}"
    except BaseException as error:
        return f"!{type(error).__name__}: {error}"
    return "decoded"


def main(count: int, seed: int, megabytes: int, folder: Path) -> dict:
    """Reads `count` damaged files."""
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    choose, found, wrong = random.Random(seed), Counter(), []
    sources, begun, slowest = originals(folder), time.monotonic(), 0.0
    for i in range(count):
        path = folder / f"{i % len(sources)}.wav"
        path.write_bytes(mutate(sources[i % len(sources)], choose))
        (folder / "now").write_text(f"{seed} {i} {path}")
        started = time.monotonic()
        output_layers = [judge(path), judge_in_blocks(path)]
        slowest = max(slowest, time.monotonic() - started)
        faults = [told for told in output_layers if told.startswith("!")]
        found["wrong" if faults else output_layers[0]] += 1
        wrong += [f"{i}: {ENCODINGS[i % len(sources)]}: {told}" for told in faults]
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) >> 10  # not the parent's
    figures = {"seconds": round(time.monotonic() - begun, 1), "slowest": round(slowest, 2), "peak_mb": peak}
    return {"files": count, "found": found, "wrong": wrong[:20], **figures}


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:4]), Path(sys.argv[4]))))
