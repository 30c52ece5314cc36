"""Damage audio files of many encodings at random and decode each: the result must be sound, or an error with a reason.

    python -m tests.reliability.mutating COUNT SEED MEGABYTES FOLDER

prints one JSON object. After its imports, the process may take MEGABYTES more of address space. Before each file it
writes the file's name to FOLDER/now, so that the parent knows which file ended the process.
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

from serx.data.audio.config import AudioConfig
from serx.data.audio.decoding import decode, read_blocks
from serx.data.audio.error import AudioError
from serx.data.audio.levels import MAX_LEVEL

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
    contents = []
    for i, (form, subtype) in enumerate(ENCODINGS):
        path = folder / "original"
        channels = 1 + i % 2 if subtype != "GSM610" else 1
        soundfile.write(path, np.stack([wave] * channels, 1), 16000, format=form, subtype=subtype)
        contents.append(path.read_bytes())
    return contents


def mutate(content: bytes, choose: random.Random) -> bytes:
    """One to four damages: flip a bit, overwrite, extreme number, cut, repeat, insert, swap; mostly in the header."""
    data = bytearray(content)
    for _ in range(choose.randint(1, 4)):
        if not data:
            break
        in_header = choose.random() < 0.6
        start = choose.randrange(min(len(data), 120) if in_header else len(data))
        kind = choose.randrange(7)
        if kind == 0:
            data[start] ^= 1 << choose.randrange(8)
        elif kind == 1:
            data[start : start + choose.randrange(1, 30)] = choose.randbytes(choose.randrange(1, 30))
        elif kind == 2:
            size = choose.choice([1, 2, 4, 8])
            number = choose.choice(EXTREMES) & ((1 << 8 * size) - 1)
            data[start : start + size] = number.to_bytes(size, choose.choice(["little", "big"]))
        elif kind == 3:
            del data[choose.randrange(len(data)) :]
        elif kind == 4:
            data[start:start] = data[start : start + choose.randrange(1, 400)]
        elif kind == 5:
            data[start:start] = bytes(choose.randrange(1, 400))
        else:
            swap = choose.randrange(len(data))
            data[start : start + 16], data[swap : swap + 16] = data[swap : swap + 16], data[start : start + 16]
    return bytes(data)


def outcome_of(path: Path) -> str:
    """`decoded`, the reason of an AudioError, or what is wrong (starting with `!`)."""
    try:
        waveform = decode(path, CONFIG)
    except AudioError as error:
        return error.reason if error.reason in REASONS and str(path) in str(error) else f"!unnamed {error}"
    except BaseException as error:
        return f"!{type(error).__name__}: {error}"
    if waveform.dtype != np.float32 or waveform.ndim != 1 or not np.isfinite(waveform).all():
        return "!not finite float32"
    if not 0 < len(waveform) <= CONFIG.max_seconds * CONFIG.sample_rate + 20_000:
        return f"!{len(waveform)} samples"
    return "decoded" if float(np.abs(waveform).max()) <= 2 * MAX_LEVEL else "!too loud"


def outcome_in_blocks(path: Path) -> str:
    """The same for the file read in blocks, up to one minute."""
    samples = 0
    try:
        for block in read_blocks(path, CONFIG.sample_rate):
            samples += len(block)
            if block.dtype != np.float32 or block.ndim != 1 or not np.isfinite(block).all():
                return "!a block is not finite float32"
            if samples > 60 * CONFIG.sample_rate:
                break
    except AudioError as error:
        return error.reason if error.reason in REASONS and str(path) in str(error) else f"!unnamed {error}"
    except BaseException as error:
        return f"!{type(error).__name__}: {error}"
    return "decoded"


def main(count: int, seed: int, megabytes: int, folder: Path) -> dict:
    """Decodes `count` damaged files."""
    limit = (_status_mb("VmSize") + megabytes) << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    after_imports = _status_mb("VmHWM")  # of this process; resource.getrusage would include the parent's
    choose, outcomes, wrong = random.Random(seed), Counter(), []
    sources, begin, slowest = originals(folder), time.monotonic(), 0.0
    for i in range(count):
        path = folder / f"{i % len(sources)}.wav"
        path.write_bytes(mutate(sources[i % len(sources)], choose))
        (folder / "now").write_text(f"{seed} {i} {path}")
        started = time.monotonic()
        both = [outcome_of(path), outcome_in_blocks(path)]
        slowest = max(slowest, time.monotonic() - started)
        faults = [outcome for outcome in both if outcome.startswith("!")]
        outcomes["wrong" if faults else both[0]] += 1
        wrong += [f"{i}: {ENCODINGS[i % len(sources)]}: {fault}" for fault in faults]
    peak = _status_mb("VmHWM") - after_imports
    figures = {"seconds": round(time.monotonic() - begin, 1), "slowest": round(slowest, 2), "peak_mb": peak}
    return {"files": count, "outcomes": outcomes, "wrong": wrong[:20], **figures}


def _status_mb(key: str) -> int:
    return int(re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) >> 10


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:4]), Path(sys.argv[4]))))
