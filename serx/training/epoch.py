"""One epoch of training, in the order in which the hardware sees it."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serx.augment.compose import augment
from serx.augment.mixing import mix
from serx.data.batches import BatchSource
from serx.seeding import ClipRandom, derive
from serx.training.losses import cross_entropy
from serx.training.optim import learning_rate
from serx.training.sampling import TrainingClips
from serx.training.state import Run

VECTOR_BATCH = 64


def train_epoch(
    run: Run, part: TrainingClips, source: BatchSource, steps: list[list[np.ndarray]], after_step: Callable[[], bool]
) -> None:
    """Takes the epoch's remaining steps; stops early, between two of them, when `after_step` says so.

    Nothing here waits for the device: losses, confusion and the flags of skipped steps add up where they are made.
    """
    config, device = run.config, run.device
    run.recognizer.train()
    parameters = [p for p in run.recognizer.parameters() if p.requires_grad]
    statistics = [b for b in run.recognizer.backbone.buffers() if b.is_floating_point()]
    for place in range(run.progress.place, len(steps)):
        step = run.progress.epoch * len(steps) + place
        rate = learning_rate(config.optim, step, config.train.epochs * len(steps), run.progress.plateau_scale)
        for group in run.optimizer.param_groups:
            group["lr"] = rate * group["rate_scale"]
        torch.manual_seed(derive(config.train.seed, "dropout", step))
        before = [b.clone() for b in statistics]
        clips_in_step = sum(len(batch) for batch in steps[place])

        for batch in steps[place]:
            clips = torch.from_numpy(part.clips[batch]).to(device, non_blocking=True)
            targets = torch.from_numpy(part.targets[batch]).to(device, non_blocking=True)
            if part.vectors is None:
                waveform, lengths = source.batch(part.clips[batch])
                waveform, lengths = augmented_waveform(run, waveform, lengths, clips)
                features, frames = augmented_features(run, waveform, lengths, clips)
            else:
                vectors = part.vectors[torch.from_numpy(batch).to(device, non_blocking=True)]
                features, frames = _normalized_and_masked(run, vectors[..., None], torch.ones_like(clips), clips)
            truth = F.one_hot(targets, len(part.class_weights)).float()
            features, frames, truth = mix(
                features, frames, truth, config.augment, derive(config.train.seed, "mixup", step)
            )
            with run.autocast():
                logits = run.member_logits(features, frames)
            losses = cross_entropy(logits, truth, part.class_weights, config.train.label_smoothing, part.logit_offsets)
            run.scaler.scale(losses.sum() / clips_in_step).backward()
            run.sums.add(losses.detach(), logits.detach(), targets)

        run.scaler.unscale_(run.optimizer)
        norm = nn.utils.clip_grad_norm_(parameters, config.train.clip_grad_norm or float("inf"))
        finite = norm.isfinite()
        run.scaler.step(run.optimizer)  # fused AdamW skips a non-finite step on the device
        run.update_scale()
        run.optimizer.zero_grad(set_to_none=True)
        for buffer, old in zip(statistics, before, strict=True):
            buffer.copy_(torch.where(finite, buffer, old))  # a skipped step leaves no trace in the batch norms either
        if run.average is not None:
            run.average.update(step)
        run.sums.add_step(place, norm, finite)
        run.progress.place = place + 1
        if after_step():
            return


def augmented_waveform(run: Run, waveform: Tensor, lengths: Tensor, clips: Tensor) -> tuple[Tensor, Tensor]:
    """The waveform transforms; `clips (B,)` are the clips' numbers, which with seed and epoch fix what is drawn."""
    config, rate = run.config, float(run.recognizer.sample_rate)
    return augment(run.waveform_transforms, waveform, lengths, clips, rate, config.train.seed, run.progress.epoch)


def augmented_features(run: Run, waveform: Tensor, lengths: Tensor, clips: Tensor) -> tuple[Tensor, Tensor]:
    """The recognizer's own features, warped, normalized, then masked: what the backbone is trained on."""
    config, warp = run.config, None
    if config.augment.mel_warp is not None:
        random = ClipRandom(clips, derive(config.train.seed, "augment/fused", run.progress.epoch))
        warp = config.augment.mel_warp.draw(lengths, random, run.recognizer.sample_rate)
    features, frames = run.recognizer.features(waveform, lengths, warp)
    return _normalized_and_masked(run, features, frames, clips)


def _normalized_and_masked(run: Run, features: Tensor, frames: Tensor, clips: Tensor) -> tuple[Tensor, Tensor]:
    config, rate = run.config, run.recognizer.sample_rate / run.config.features.hop_length
    features = run.recognizer.normalizer(features, frames)
    return augment(config.augment.spectrogram, features, frames, clips, rate, config.train.seed, run.progress.epoch)


def unchanging_vectors(run: Run, source: BatchSource, clips: np.ndarray) -> Tensor | None:
    """`(n, F)` statistics of the clips where no epoch changes them, so that a hundred epochs cost the features of one.

    None where the waveform is augmented, the filters learn, or the features are sequences, too large to keep.
    """
    config = run.config
    changing = config.augment.waveform or config.augment.mel_warp is not None or config.features.trainable
    if changing or not config.features.statistics:
        return None
    batches = np.array_split(clips, -(-len(clips) // VECTOR_BATCH))
    with torch.no_grad():
        return torch.cat([run.recognizer.features(*source.batch(batch))[0][..., 0] for batch in batches])
