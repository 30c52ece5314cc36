"""The work of serx, stage by stage: read a batch, augment it, compute its features, and chains of these."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import serx.augment as A
from serx.augment.compose import augment
from serx.augment.transform import Transform
from serx.data.audio.config import AudioConfig
from serx.data.audio.decoding import decode
from serx.data.batches import make_batch_source
from serx.data.cache.audio_cache import open_audio_cache
from serx.features import FeaturesConfig, FeatureStack, feature_names
from serx.seeding import ClipRandom

from .inputs import ENCODINGS, GAIN_DB, MORE_MELS, RATE, SEMITONES, SHIFT_SECONDS, SNR_DB, SPEED, TEMPO, Inputs
from .timing import Workload


@dataclass(frozen=True)
class Stage:
    """A row of the report.

    Attributes:
        name: of the stage, as other libraries and `--only` use it.
        group: the table it is in.
        about: what it does, in words.
        workload: the work of serx on some inputs.
    """

    name: str
    group: str
    about: str
    workload: Callable[[Inputs], Workload]


NOISE, SHIFT = A.Noise(p=1.0, snr_db=SNR_DB), A.Shift(p=1.0, seconds=SHIFT_SECONDS)
PITCH, STRETCH = A.PitchShift(p=1.0, semitones=SEMITONES), A.TimeStretch(p=1.0, tempo=TEMPO)
PITCH_TEMPO = A.PitchTempo(p=1.0, semitones=SEMITONES, tempo=TEMPO)
MEL_WARP = A.MelWarp(p=1.0, rate=TEMPO, semitones=SEMITONES)
AUGMENTATIONS = (
    NOISE, A.BackgroundNoise(p=1.0, folder="the clips"), A.Gain(p=1.0, gain_db=GAIN_DB), A.PolarityInversion(p=1.0),
    A.Clipping(p=1.0), A.Crop(), SHIFT, A.Speed(p=1.0, ratio=SPEED), PITCH, STRETCH, PITCH_TEMPO,
    A.LowPass(p=1.0), A.HighPass(p=1.0), A.BandPass(p=1.0), A.Equalizer(p=1.0), A.Telephone(p=1.0), A.Codec(p=1.0),
    A.Reverb(p=1.0), A.ImpulseResponse(p=1.0, folder="the clips"),
)  # fmt: skip
MASKS = (A.TimeMask(), A.FrequencyMask())
MIXTURES = {"mixup": 0.4, "cutmix": 0.4, "mixstyle": 1.0}
PUBLISHED = ("zcr", "chroma", "mfcc", "rms", "logmel")
LOGMEL, MFCC = FeaturesConfig(), FeaturesConfig(stack=("mfcc",), n_mels=MORE_MELS)


def stages() -> list[Stage]:
    """All stages except those of training, in the order of the report."""
    listed = [
        Stage("decode", "input", "a file to 16 kHz mono", _decode),
        Stage("audio_cache", "input", "files to the audio cache on disk, in threads", _audio_cache),
        Stage("batch", "input", "a batch from the audio cache", _batch),
    ]
    for name, (form, subtype, rate) in ENCODINGS.items():
        about = f"{form}, {subtype}, {rate // 1000} kHz, to 16 kHz mono"
        listed.append(Stage(name, "decoding", about, _decode_encoded(name)))
    listed += [Stage(t.kind, "augmentation", f"`{t.kind}` of every clip", _augmentation(t)) for t in AUGMENTATIONS]
    listed += [Stage(t.kind, "augmentation", f"`{t.kind}` of log-mels", _masking(t)) for t in MASKS]
    listed += [Stage(m, "augmentation", f"`{m}` of log-mels", _mixing(**{m: value})) for m, value in MIXTURES.items()]
    for name in feature_names():
        about = {"logmel": "log-mel 64", "mfcc": "MFCC 40 of 128 mels"}.get(name, name)
        config = MFCC if name == "mfcc" else FeaturesConfig(stack=(name,))
        listed.append(Stage(name, "features", about, _features(config)))
    deltas = FeaturesConfig(stack=("mfcc",), n_mels=MORE_MELS, deltas=2)
    published = FeaturesConfig(stack=PUBLISHED, n_mels=MORE_MELS)
    listed += [
        Stage("mfcc_deltas", "features", "MFCC and two derivatives", _features(deltas)),
        Stage(
            "published", "features", "ZCR, chroma, MFCC, RMS, mel: the published systems' list", _features(published)
        ),
    ]
    ways: dict[str, tuple[str, tuple[Transform, ...], bool]] = {
        "mel_warp": ("`mel_warp`", (), True),
        "pitch_tempo": ("`pitch_tempo`", (PITCH_TEMPO,), False),
        "two_passes": ("`pitch_shift`, then `time_stretch`", (PITCH, STRETCH), False),
    }
    for way, (about, transforms, warp) in ways.items():
        workload = _features(LOGMEL, transforms, warp)
        listed.append(Stage(f"logmel_{way}", "chains", f"pitch + tempo + log-mel, by {about}", workload))
    for way, (about, transforms, warp) in ways.items():
        workload = _features(MFCC, (NOISE, SHIFT, *transforms), warp)
        listed.append(Stage(f"mfcc_{way}", "chains", f"noise + shift + pitch + tempo + MFCC, by {about}", workload))
    return listed


def _decode(inputs: Inputs) -> Workload:
    return _decoding(inputs, inputs.paths)


def _decode_encoded(stage: str) -> Callable[[Inputs], Workload]:
    return lambda inputs: _decoding(inputs, inputs.encoded(stage))


def _decoding(inputs: Inputs, paths: Sequence[Path]) -> Workload:
    config = AudioConfig(sample_rate=RATE)
    return Workload(lambda: [decode(path, config) for path in paths], inputs.count)


def _audio_cache(inputs: Inputs) -> Workload:
    """Decodes the files into a cache that is empty each time."""
    caches = tempfile.TemporaryDirectory(prefix="serx-benchmark-")  # is removed together with the workload

    def run(cache: str) -> None:
        open_audio_cache(inputs.paths, AudioConfig(sample_rate=RATE), Path(cache), progress=False)

    return Workload(run, inputs.count, lambda: (tempfile.mkdtemp(dir=caches.name),))


def _batch(inputs: Inputs) -> Workload:
    source, clips = make_batch_source(inputs.audio_cache, inputs.device), np.arange(inputs.count)
    return Workload(lambda: source.batch(clips), inputs.count)


def _augmentation(transform: Transform) -> Callable[[Inputs], Workload]:
    def workload(inputs: Inputs) -> Workload:
        loaded = A.load_recordings([transform], lambda _: list(inputs.waveform.cpu()), inputs.device)
        return _in_place(inputs, loaded, inputs.waveform)

    return workload


def _masking(transform: Transform) -> Callable[[Inputs], Workload]:
    def workload(inputs: Inputs) -> Workload:
        features, _ = _stack(LOGMEL, inputs)(inputs.waveform, inputs.lengths)
        return _in_place(inputs, [transform], features)

    return workload


def _in_place(inputs: Inputs, transforms: Sequence[Transform], x: Tensor) -> Workload:
    """As training does it: the batch is the loop's own and may be overwritten. Its copy is not timed."""
    lengths, own = torch.full_like(inputs.lengths, x.shape[-1]), x.clone()
    clips = torch.arange(inputs.count, device=inputs.device)

    def run(batch: Tensor) -> None:
        augment(transforms, batch, lengths, clips, RATE, seed=0, epoch=0, in_place=True)

    return Workload(run, inputs.count, lambda: (own.copy_(x),), inference=True)


def _mixing(**alpha: float) -> Callable[[Inputs], Workload]:
    def workload(inputs: Inputs) -> Workload:
        features, frames = _stack(LOGMEL, inputs)(inputs.waveform, inputs.lengths)
        targets = torch.eye(inputs.count, 8, device=inputs.device)
        return _without_gradients(inputs, lambda: A.mix(features, frames, targets, A.AugmentConfig(**alpha), seed=0))

    return workload


def _features(
    config: FeaturesConfig, transforms: Sequence[Transform] = (), warp: bool = False
) -> Callable[[Inputs], Workload]:
    """The features of clips after `transforms`; with `warp`, pitch and tempo change inside the front end."""

    def workload(inputs: Inputs) -> Workload:
        stack, clips = _stack(config, inputs), torch.arange(inputs.count, device=inputs.device)

        def run() -> None:
            x, lengths = _augmented(transforms, inputs) if transforms else (inputs.waveform, inputs.lengths)
            stack(x, lengths, MEL_WARP.draw(lengths, ClipRandom(clips, 0), RATE) if warp else None)

        return _without_gradients(inputs, run)

    return workload


def _stack(config: FeaturesConfig, inputs: Inputs) -> FeatureStack:
    return FeatureStack(config, RATE).to(inputs.device)


def _augmented(transforms: Sequence[Transform], inputs: Inputs) -> tuple[Tensor, Tensor]:
    clips = torch.arange(inputs.count, device=inputs.device)
    return augment(transforms, inputs.waveform, inputs.lengths, clips, RATE, seed=0, epoch=0)


def _without_gradients(inputs: Inputs, run: Callable[[], object]) -> Workload:
    return Workload(run, inputs.count, inference=True)
