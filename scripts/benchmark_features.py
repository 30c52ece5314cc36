#!/usr/bin/env python3
"""Time serx's features beside librosa's and torchaudio's on the same clips, one CPU thread (needs the test extra)."""

import statistics
import time
from pathlib import Path

from serx import commands

RATE, SAMPLES, CLIPS = 16_000, 48_000, 64
SPECTRUM = {"n_fft": 1024, "hop_length": 256}
PUBLISHED = ("zcr", "chroma", "mfcc", "rms", "logmel")
WORK = {
    "log-mel 64": {"stack": ("logmel",)},
    "MFCC 40 of 128": {"stack": ("mfcc",), "n_mels": 128},
    "MFCC + 2 deltas": {"stack": ("mfcc",), "n_mels": 128, "deltas": 2},
    "ZCR, chroma, MFCC, RMS, log-mel": {"stack": PUBLISHED, "n_mels": 128},
    "stretch, pitch shift, log-mel 64": {"stack": ("logmel",)},
    "contrast": {"stack": ("contrast",)},
    "pitch (librosa: yin)": {"stack": ("pitch",)},
}


def main(arguments) -> None:
    import numpy as np
    import torch

    from serx.data.audio import AudioConfig, read

    torch.set_num_threads(1)
    paths = sorted(p for p in Path(arguments.root).rglob("*") if p.suffix.lower() in (".wav", ".flac"))[:CLIPS]
    waves = np.stack([np.resize(read(path, AudioConfig(sample_rate=RATE)), SAMPLES) for path in paths])
    print(f"{len(waves)} clips of 3 s, one thread, best of {arguments.rounds} interleaved rounds, ms a clip\n")
    print("| | serx | librosa | torchaudio | librosa / serx | torchaudio / serx |\n|---|---|---|---|---|---|")
    for name in WORK:
        runs = {"serx": _serx(name, torch.from_numpy(waves)), **_peers(name, waves)}
        best = {peer: min(column) for peer, column in _interleaved(runs, arguments.rounds).items()}
        ms = {peer: seconds / len(waves) * 1e3 for peer, seconds in best.items()}
        row = [f"{ms[peer]:.2f}" if peer in ms else "" for peer in ("serx", "librosa", "torchaudio")]
        row += [f"{ms[peer] / ms['serx']:.1f}" if peer in ms else "" for peer in ("librosa", "torchaudio")]
        print(f"| {name} | {' | '.join(row)} |", flush=True)


def _interleaved(runs, rounds):
    seconds = {peer: [] for peer in runs}
    for _ in range(rounds + 1):  # the first warms up: filters, caches, compilation
        for peer, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[peer].append(time.perf_counter() - start)
    return {peer: column[1:] for peer, column in seconds.items()}


def _serx(name, waveform):
    import torch

    from serx.seeding import ClipRandom
    from serx.transforms.features import FeaturesConfig, FeatureStack
    from serx.transforms.warp import FusedWarp

    lengths = torch.full((len(waveform),), waveform.shape[1])
    stack = FeatureStack(FeaturesConfig(**WORK[name]), RATE)
    fused = FusedWarp(p=1.0, rate=(0.8, 1.25), semitones=(-2.0, 2.0)) if "stretch" in name else None

    def run():
        with torch.inference_mode():
            random = ClipRandom(torch.arange(len(lengths)), 0)
            stack(waveform, lengths, fused.draw(lengths, random, RATE) if fused else None)

    return run


def _peers(name, waves):
    import librosa
    import numpy as np

    feature, random = librosa.feature, np.random.default_rng(0)

    def log_mel(y, n_mels=64):
        return librosa.power_to_db(feature.melspectrogram(y=y, sr=RATE, n_mels=n_mels, **SPECTRUM))

    def mfcc(y):
        return feature.mfcc(S=log_mel(y, 128), n_mfcc=40)

    def deltas(y):
        static = mfcc(y)
        return np.concatenate([static, feature.delta(static), feature.delta(static, order=2)])

    def published(y):
        feature.zero_crossing_rate(y, frame_length=1024, hop_length=256)
        feature.rms(y=y, frame_length=1024, hop_length=256)
        feature.chroma_stft(y=y, sr=RATE, tuning=0.0, **SPECTRUM)
        mfcc(y), log_mel(y, 128)

    def warped(y):
        y = librosa.effects.time_stretch(y, rate=random.uniform(0.8, 1.25))
        return log_mel(librosa.effects.pitch_shift(y, sr=RATE, n_steps=random.uniform(-2, 2)))

    def contrast(y):
        return feature.spectral_contrast(y=y, sr=RATE, **SPECTRUM)

    def yin(y):
        return librosa.yin(y, fmin=65, fmax=800, sr=RATE, frame_length=1024, hop_length=256)

    works = [log_mel, mfcc, deltas, published, warped, contrast, yin]
    work = dict(zip(WORK, works, strict=True))[name]
    return {"librosa": lambda: [work(y) for y in waves], **_torchaudio(name, waves)}


def _torchaudio(name, waves):
    """torchaudio at the chunk size that suits it best."""
    import torch
    from torchaudio.transforms import MFCC, AmplitudeToDB, MelSpectrogram

    slaney = {**SPECTRUM, "norm": "slaney", "mel_scale": "slaney", "pad_mode": "constant"}
    if name == "log-mel 64":
        front = torch.nn.Sequential(MelSpectrogram(RATE, n_mels=64, **slaney), AmplitudeToDB("power", 80.0))
    elif name == "MFCC 40 of 128":
        front = MFCC(RATE, n_mfcc=40, melkwargs={"n_mels": 128, **slaney})
    else:
        return {}
    batch = torch.from_numpy(waves)[:, None]

    def run(size):
        with torch.inference_mode():
            for chunk in batch.split(size):
                front(chunk)

    sizes = (1, 2, 4, 8, 64)
    tried = _interleaved({size: (lambda size=size: run(size)) for size in sizes}, 3)
    best = min(sizes, key=lambda size: statistics.median(tried[size]))
    return {"torchaudio": lambda: run(best)}


if __name__ == "__main__":
    parser = commands.parser(__doc__, "  python scripts/benchmark_features.py --root /corpora/RAVDESS")
    parser.add_argument("--root", required=True, help="a folder with at least 64 audio files")
    parser.add_argument("--rounds", type=int, default=7, help="default: 7")
    commands.run(main, parser.parse_args())
