"""One epoch of training by gradient descent, in the order in which the hardware sees it."""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serx.augment.compose import augment
from serx.augment.mixing import mix
from serx.config.training import TrainConfig
from serx.data.batches import BatchSource, width
from serx.data.read_ahead import reading_ahead
from serx.models.backbone import split_outputs
from serx.seeding import ClipRandom, derive
from serx.training.distributed import Share
from serx.training.losses import concordance_loss, cross_entropy
from serx.training.optim import learning_rate
from serx.training.sampling import Step, TrainingClips, plan_epoch
from serx.training.state import TrainingState


def run_epoch(
    state: TrainingState,
    training: TrainingClips,
    source: BatchSource,
    steps: list[Step],
    after_step: Callable[[], bool],
) -> None:
    """Takes the remaining steps of the current epoch.

    Nothing here waits for the device: losses, confusion and the flags of skipped steps are summed on the device.

    Args:
        state: is trained; `state.progress.step` says which steps are already done.
        training: the training clips.
        source: makes their waveforms.
        steps: all steps of the epoch (`plan_epoch`).
        after_step: called after each step; the epoch stops there if it returns True.
    """
    batches: Iterator[np.ndarray] = (batch for step in steps[state.progress.step :] for batch in step)
    if training.vectors is not None:  # nothing is read
        batches = iter(())
    with reading_ahead(source, (training.clips[state.world.share(batch).positions] for batch in batches)) as ahead:
        _take_steps(state, training, ahead, steps, after_step)


def _take_steps(
    state: TrainingState,
    training: TrainingClips,
    source: BatchSource,
    steps: list[Step],
    after_step: Callable[[], bool],
) -> None:
    config, epoch, world = state.config, state.progress.epoch, state.world
    state.recognizer.train()
    parameters = [p for p in state.recognizer.parameters() if p.requires_grad]
    statistics = [b for b in state.recognizer.backbone.buffers() if b.is_floating_point()]

    for i in range(state.progress.step, len(steps)):
        step = epoch * len(steps) + i  # of the whole run
        lr = learning_rate(config.optim, step, config.train.epochs * len(steps), state.progress.plateau_scale)
        for group in state.optimizer.param_groups:
            group["lr"] = lr * group["rate_scale"]
        torch.manual_seed(world.begin_step(config.train.seed, step))
        previous_statistics = [b.clone() for b in statistics]
        clips_in_step = sum(len(batch) for batch in steps[i])

        for number, batch in enumerate(steps[i], 1):
            with state.exchanging_gradients(last=number == len(steps[i])):
                losses, logits, targets, rows, has_class = _forward(state, training, source, batch, step)
                total = losses.sum() if rows is None else (losses * rows).sum() * world.size
                state.scaler.scale(total / clips_in_step).backward()
            state.sums.add(losses.detach(), logits.detach(), targets, has_class, rows)

        state.average_other_gradients()
        state.scaler.unscale_(state.optimizer)
        norm = nn.utils.clip_grad_norm_(parameters, config.train.clip_grad_norm or float("inf"))
        finite = norm.isfinite()
        state.scaler.step(state.optimizer)  # fused AdamW skips a non-finite step on the device
        state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)
        for buffer, previous in zip(statistics, previous_statistics, strict=True):
            buffer.copy_(torch.where(finite, buffer, previous))  # a skipped step changes no batch norm either
        if state.average is not None:
            state.average.update(step)
        state.sums.add_step(i, norm, finite)
        state.progress.step = i + 1
        if after_step():
            return


def _forward(
    state: TrainingState, training: TrainingClips, source: BatchSource, batch: np.ndarray, step: int
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Loads, augments and classifies this process's share of a batch of `(n,)` positions: the whole, in one process.

    Returns:
        The losses `(b,)`, the logits of each member `(b, M, C)`, the targets `(b,)`, the weights `(b,)` of the rows
        (`Share.weights`), and which clips have a class (`TrainingClips.has_class`).
    """
    config, world, share = state.config, state.world, state.world.share(batch)

    def on_device(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(state.device, non_blocking=True)

    clips, targets = on_device(training.clips[share.positions]), on_device(training.targets[share.positions])
    positions = on_device(share.positions)
    rows = None if share.weights is None else on_device(share.weights)
    world.begin_batch(clips, rows)
    encoded = training.vectors is not None and state.recognizer.backbone.constant_part is not None
    if training.vectors is None:
        waveform, lengths = source.batch(training.clips[share.positions])
        if training.lengths is not None and world.joined:  # as wide in all processes
            waveform = F.pad(waveform, (0, width(training.lengths[batch]) - waveform.shape[1]))
        waveform, lengths = augmented_waveform(state, waveform, lengths, clips)
        features, frames = augmented_features(state, waveform, lengths, clips)
    else:
        features, frames = training.vectors[positions][..., None], torch.ones_like(clips)
        if not encoded:
            features, frames = _normalized_and_masked(state, features, frames, clips)
    columns = training.target_columns(targets, positions)
    unmixed = features, frames, torch.cat([*columns.values()], 1)
    features, frames, mixed = _mixed(state, unmixed, share, len(batch), derive(config.train.seed, "mixup", step))
    columns = dict(zip(columns, mixed.split([c.shape[1] for c in columns.values()], dim=1), strict=True))

    with state.autocast():
        outputs = (state.head_logits if encoded else state.member_logits)(features, frames)  # (b, M, C + D)
    logits, values = split_outputs(outputs, len(state.recognizer.dimensions))
    if training.ratings is not None:
        state.sums.add_ratings(values.detach(), training.ratings[positions])
    return _losses(state, training, logits, values, columns), logits, targets, rows, training.has_class(positions)


def _losses(
    state: TrainingState, training: TrainingClips, logits: Tensor, values: Tensor, columns: dict[str, Tensor]
) -> Tensor:
    """The loss of each clip of a batch, `(B,)`, summed over the members. `columns` are its targets, mixed."""
    train = state.config.train
    weights = columns["weights"][:, 0] if "weights" in columns else None
    losses = logits.new_zeros(len(logits), dtype=torch.float32)
    if "truth" in columns:
        losses = _class_losses(train, training, logits, columns)
        losses = losses if weights is None else losses * weights
    if "ratings" in columns:
        ones = torch.ones_like(losses)
        loss = concordance_loss(values, columns["ratings"], ones if weights is None else weights)
        losses = losses + train.dimension_weight * loss  # of the whole batch, so that each clip has the same
    return losses


def _class_losses(train: TrainConfig, training: TrainingClips, logits: Tensor, columns: dict[str, Tensor]) -> Tensor:
    # A mixture may be of any class that the corpus of either clip has.
    possible = columns["possible"] > 0 if "possible" in columns else None
    truth, share = columns["truth"], None
    if training.ratings is not None and training.shares is not None:  # clips without a label count by no share
        share = truth.sum(1)
        truth = truth / share[:, None].clamp(min=1e-6)
    losses = cross_entropy(
        logits, truth, training.class_weights, train.label_smoothing, training.logit_offsets, possible
    )
    losses = losses if share is None else losses * share
    if "taught" in columns:
        taught = cross_entropy(logits, columns["taught"], torch.ones_like(training.class_weights))
        losses = losses.lerp(taught, train.teacher_weight)
    return losses


def augmented_waveform(state: TrainingState, waveform: Tensor, lengths: Tensor, clips: Tensor) -> tuple[Tensor, Tensor]:
    """The waveform transforms. `clips (B,)` are dataset indices; with seed and epoch they determine what is drawn.

    `waveform` may be overwritten.
    """
    return transformed_waveform(state, waveform, lengths, clips, state.progress.epoch)


def transformed_waveform(
    state: TrainingState, waveform: Tensor, lengths: Tensor, clips: Tensor, epoch: int
) -> tuple[Tensor, Tensor]:
    """`augmented_waveform` with the draws of any epoch."""
    config, rate = state.config, float(state.recognizer.sample_rate)
    return augment(state.waveform_transforms, waveform, lengths, clips, rate, config.train.seed, epoch, in_place=True)


def augmented_features(state: TrainingState, waveform: Tensor, lengths: Tensor, clips: Tensor) -> tuple[Tensor, Tensor]:
    """The recognizer's own features, warped, normalized, then masked: `(B, F, N)` and frames `(B,)`."""
    features, frames = warped_features(state, waveform, lengths, clips, state.progress.epoch)
    return _normalized_and_masked(state, features, frames, clips)


def warped_features(
    state: TrainingState, waveform: Tensor, lengths: Tensor, clips: Tensor, epoch: int
) -> tuple[Tensor, Tensor]:
    """The features before normalization, with `augment.mel_warp` as drawn for any epoch: `(B, F, N)`, frames `(B,)`."""
    config, warp = state.config, None
    if config.augment.mel_warp is not None:
        random = ClipRandom(clips, derive(config.train.seed, "augment/fused", epoch))
        warp = config.augment.mel_warp.draw(lengths, random, state.recognizer.sample_rate)
    return state.recognizer.features(waveform, lengths, warp)


def _normalized_and_masked(
    state: TrainingState, features: Tensor, frames: Tensor, clips: Tensor
) -> tuple[Tensor, Tensor]:
    config, rate = state.config, state.recognizer.sample_rate / state.config.features.hop_length
    features = state.recognizer.normalizer(features, frames)
    seed, epoch = config.train.seed, state.progress.epoch
    return augment(config.augment.spectrogram, features, frames, clips, rate, seed, epoch, in_place=True)


def _mixed(
    state: TrainingState, unmixed: tuple[Tensor, Tensor, Tensor], share: Share, clips: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Features, frames and targets of this process's share, mixed with partners from the whole batch of `clips`."""
    world, config = state.world, state.config.augment
    if not world.joined or not (config.mixstyle or config.mixup or config.cutmix):
        return mix(*unmixed, config, seed)
    features, frames, targets = (world.gather(part)[:clips] for part in unmixed)
    rows = torch.arange(share.first, share.first + len(share.positions)).clamp(max=clips - 1)
    rows = rows.to(state.device, non_blocking=True)
    features, frames, targets = mix(features, frames, targets, config, seed)
    return features[rows], frames[rows], targets[rows]


class TrainingMethod(Protocol):
    """How an epoch trains the model: by gradient descent, or by a fit of scikit-learn (`ClassicalTraining`)."""

    def plan(self) -> list[Step]:
        """All steps of the current epoch; none if the method does not take steps."""
        ...

    def run(self, steps: list[Step], after_step: Callable[[], bool]) -> None:
        """Trains for the rest of the current epoch, and adds to `state.sums`."""
        ...

    def settings(self) -> dict[str, float]:
        """What the record of the epoch says about the method."""
        ...


class GradientTraining:
    """Training by gradient descent: `plan_epoch` and `run_epoch`."""

    def __init__(self, state: TrainingState, training: TrainingClips, source: BatchSource) -> None:
        self._state, self._training, self._source = state, training, source

    def plan(self) -> list[Step]:
        return plan_epoch(self._training, self._state.config, self._state.progress.epoch)

    def run(self, steps: list[Step], after_step: Callable[[], bool]) -> None:
        run_epoch(self._state, self._training, self._source, steps, after_step)

    def settings(self) -> dict[str, float]:
        return {"lr": self._state.optimizer.param_groups[0]["lr"]}
