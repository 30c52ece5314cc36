"""What serx does to a batch, stage by stage: read it, augment it, take its features, and several of these in a row."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import serx.augment as A
from serx.augment.compose import augment
from serx.augment.mel_warp import MelWarp
from serx.augment.mixing import mix
from serx.augment.recordings import load_recordings
from serx.augment.transform import Transform
from serx.data.audio import AudioConfig, decode
from serx.data.audio_cache import open_audio_cache
from serx.data.batches import make_batch_source
from serx.features import FeaturesConfig, FeatureStack, feature_names
from serx.seeding import ClipRandom

from .given import GAIN_DB, MORE_MELS, RATE, SEMITONES, SHIFT_SECONDS, SNR_DB, SPEED, TEMPO, Given
from .timing import Work


@dataclass(frozen=True)
class Stage:
    """`about` says in words what `work` makes of the clips."""

    name: str
    group: str
    about: str
    work: Callable[[Given], Work]


NOISE, SHIFT = A.Noise(p=1.0, snr_db=SNR_DB), A.Shift(p=1.0, seconds=SHIFT_SECONDS)
BOTH = A.PitchTempo(p=1.0, semitones=SEMITONES, tempo=TEMPO)
PITCH, STRETCH = A.PitchShift(p=1.0, semitones=SEMITONES), A.TimeStretch(p=1.0, tempo=TEMPO)
FUSED = MelWarp(p=1.0, rate=TEMPO, semitones=SEMITONES)
AUGMENTATIONS = (
    NOISE, A.BackgroundNoise(p=1.0, folder="the clips"), A.Gain(p=1.0, gain_db=GAIN_DB), A.PolarityInversion(p=1.0),
    A.Clipping(p=1.0), A.Crop(), SHIFT, A.Speed(p=1.0, ratio=SPEED), PITCH, STRETCH, BOTH,
    A.LowPass(p=1.0), A.HighPass(p=1.0), A.BandPass(p=1.0), A.Equalizer(p=1.0), A.Telephone(p=1.0), A.Reverb(p=1.0),
    A.ImpulseResponse(p=1.0, folder="the clips"),
)  # fmt: skip
MASKS = (A.TimeMask(), A.FrequencyMask())
MIXTURES = {"mixup": 0.4, "cutmix": 0.4, "mixstyle": 1.0}
PUBLISHED = ("zcr", "chroma", "mfcc", "rms", "logmel")
LOGMEL, MFCC = FeaturesConfig(), FeaturesConfig(stack=("mfcc",), n_mels=MORE_MELS)


def _decode(given: Given) -> Work:
    config = AudioConfig(sample_rate=RATE)
    return Work(lambda: [decode(path, config) for path in given.paths], given.count)


def _pack(given: Given) -> Work:
    """The files decoded and kept in a cache that is empty each time."""
    caches = tempfile.TemporaryDirectory(prefix="serx-benchmark-")  # lives as long as the work

    def run(cache: str) -> None:
        open_audio_cache(given.paths, AudioConfig(sample_rate=RATE), Path(cache), progress=False)

    return Work(run, given.count, lambda: (tempfile.mkdtemp(dir=caches.name),))


def _gather(given: Given) -> Work:
    source, clips = make_batch_source(given.audio_cache, given.device), np.arange(given.count)
    return Work(lambda: source.batch(clips), given.count)


def _inferring(given: Given, run: Callable[[], object]) -> Work:
    def without_gradients() -> None:
        with torch.inference_mode():
            run()

    return Work(without_gradients, given.count)


def _augmented(transforms: Sequence[Any], given: Given, x: torch.Tensor | None = None) -> tuple[Any, Any]:
    x = given.waveform if x is None else x
    lengths = given.lengths if x is given.waveform else torch.full_like(given.lengths, x.shape[-1])
    clips = torch.arange(given.count, device=given.device)
    return augment(transforms, x, lengths, clips, RATE, seed=0, epoch=0)


def _augmentation(transform: Any) -> Callable[[Given], Work]:
    def work(given: Given) -> Work:
        ready: tuple[Transform, ...] = load_recordings([transform], lambda _: list(given.waveform.cpu()), given.device)
        return _inferring(given, lambda: _augmented(ready, given))

    return work


def _masking(transform: Any) -> Callable[[Given], Work]:
    def work(given: Given) -> Work:
        features, _ = _stack(LOGMEL, given)(given.waveform, given.lengths)
        return _inferring(given, lambda: _augmented([transform], given, features))

    return work


def _mixing(**alpha: float) -> Callable[[Given], Work]:
    def work(given: Given) -> Work:
        features, frames = _stack(LOGMEL, given)(given.waveform, given.lengths)
        truth = torch.eye(given.count, 8, device=given.device)
        return _inferring(given, lambda: mix(features, frames, truth, A.AugmentConfig(**alpha), seed=0))

    return work


def _stack(config: FeaturesConfig, given: Given) -> FeatureStack:
    return FeatureStack(config, RATE).to(given.device)


def _features(config: FeaturesConfig, transforms: Sequence[Any] = (), fused: bool = False) -> Callable[[Given], Work]:
    """The features, of clips that `transforms` change first, and that are warped within the front end if `fused`."""

    def work(given: Given) -> Work:
        stack, clips = _stack(config, given), torch.arange(given.count, device=given.device)

        def run() -> None:
            x, lengths = _augmented(transforms, given) if transforms else (given.waveform, given.lengths)
            stack(x, lengths, FUSED.draw(lengths, ClipRandom(clips, 0), RATE) if fused else None)

        return _inferring(given, run)

    return work


def stages() -> list[Stage]:
    """All stages but those of training, in the order of the report."""
    made = [
        Stage("decode", "input", "a file to 16 kHz mono", _decode),
        Stage("pack", "input", "files to the packed corpus on disk, in threads", _pack),
        Stage("gather", "input", "a batch out of the packed corpus", _gather),
    ]
    made += [Stage(t.kind, "augmentation", f"`{t.kind}` of every clip", _augmentation(t)) for t in AUGMENTATIONS]
    made += [Stage(t.kind, "augmentation", f"`{t.kind}` of log-mels", _masking(t)) for t in MASKS]
    made += [Stage(m, "augmentation", f"`{m}` of log-mels", _mixing(**{m: how})) for m, how in MIXTURES.items()]
    for name in feature_names():
        about = {"logmel": "log-mel 64", "mfcc": "MFCC 40 of 128 mels"}.get(name, name)
        config = MFCC if name == "mfcc" else FeaturesConfig(stack=(name,))
        made.append(Stage(name, "features", about, _features(config)))
    both = FeaturesConfig(stack=("mfcc",), n_mels=MORE_MELS, deltas=2)
    listed = FeaturesConfig(stack=PUBLISHED, n_mels=MORE_MELS)
    chain, warp = "noise + shift + pitch + stretch + MFCC", "pitch + stretch + log-mel"
    return [
        *made,
        Stage("mfcc_deltas", "features", "MFCC and two derivatives", _features(both)),
        Stage("published", "features", "ZCR, chroma, MFCC, RMS, mel: the published systems' list", _features(listed)),
        Stage("warp_fused", "chains", f"{warp}, fused", _features(LOGMEL, fused=True)),
        Stage("warp_one_pass", "chains", f"{warp}, waveforms by `pitch_tempo`", _features(LOGMEL, (BOTH,))),
        Stage("warp_waveform", "chains", f"{warp}, waveforms twice", _features(LOGMEL, (PITCH, STRETCH))),
        Stage("chain_fused", "chains", f"{chain}, fused", _features(MFCC, (NOISE, SHIFT), fused=True)),
        Stage(
            "chain_one_pass", "chains", f"{chain}, waveforms by `pitch_tempo`", _features(MFCC, (NOISE, SHIFT, BOTH))
        ),
        Stage("chain_waveform", "chains", f"{chain}, waveforms twice", _features(MFCC, (NOISE, SHIFT, PITCH, STRETCH))),
    ]
