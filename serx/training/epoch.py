"""One epoch of training, in the order in which the hardware sees it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serx.config import Config
from serx.data.corpus import Corpus
from serx.seeding import ClipRandom, derive, generator
from serx.settings import TrainConfig
from serx.training.optim import learning_rate
from serx.training.run import Run
from serx.transforms.augment import augment
from serx.transforms.mixing import mix

VECTOR_BATCH = 64


@dataclass(frozen=True)
class TrainingClips:
    """The training part: its clips' numbers and classes, what the loss makes of each class, the clips' corpora."""

    clips: np.ndarray  # (n,) int64
    targets: np.ndarray  # (n,) int64
    class_weights: Tensor  # (C,) float32, on the device
    vectors: Tensor | None = None  # (n, F), on the device: what `unchanging_vectors` found
    corpora: np.ndarray | None = None  # (n,) int64, which of the corpora a clip is of; None: all of one
    logit_offsets: Tensor | None = None  # (C,) float32, on the device: what `logit_offsets` makes; None: zeros


def plan_epoch(part: TrainingClips, config: Config, epoch: int) -> list[list[np.ndarray]]:
    """The epoch's optimizer steps, each a list of batches, each an array of positions in `part`.

    Batches are of one size, give or take one clip, and of two at least, so that none is too small to normalise over.
    """
    random, count = generator(config.train.seed, "order", epoch), len(part.clips)
    shares = sampling_shares(config.train.sampling, part.targets, part.corpora)
    if shares is not None:
        order = torch.multinomial(torch.from_numpy(shares), count, replacement=True, generator=random)
    else:
        order = torch.randperm(count, generator=random)
    batches = np.array_split(order.numpy(), min(-(-count // config.train.batch_size), count // 2))
    every = config.train.accumulate
    return [batches[i : i + every] for i in range(0, len(batches), every)]


def sampling_shares(mode: str, targets: np.ndarray, corpora: np.ndarray | None) -> np.ndarray | None:
    """How often each of the clips `(n,)` is drawn, up to a factor; None where each is taken once.

    `both` gives every corpus the same, and within it every class: then neither tells the other, as it would where one
    corpus has more of a class.
    """
    if mode == "shuffle":
        return None
    if mode == "balanced":
        return 1.0 / np.bincount(targets)[targets]
    corpora = np.zeros_like(targets) if corpora is None else corpora
    if mode == "corpus_balanced":
        return 1.0 / np.bincount(corpora)[corpora]
    clips = np.zeros((corpora.max() + 1, targets.max() + 1))
    np.add.at(clips, (corpora, targets), 1)
    classes = np.count_nonzero(clips, axis=1)
    return 1.0 / (classes[corpora] * clips[corpora, targets])


def class_weights(mode: str, targets: np.ndarray, classes: int) -> Tensor:
    """Each class's weight in the loss `(C,)`; `balanced` is n / (classes present * count), as scikit-learn has it."""
    counts = np.bincount(targets, minlength=classes)
    if mode == "none":
        return torch.ones(classes)
    balanced = len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return torch.from_numpy(np.where(counts > 0, balanced, 0.0).astype(np.float32))


def logit_offsets(train: TrainConfig, targets: np.ndarray, corpora: np.ndarray, classes: int) -> Tensor:
    """What the loss adds to each class's logit `(C,)`: `train.logit_adjustment` times the logarithm of its share.

    The share is that of an epoch's clips, as `train.sampling` draws them. Told it by the loss, the network need not
    learn which classes are frequent, and predicts as if all were: that is what UAR rewards (Menon et al. 2021,
    "Long-tail learning via logit adjustment").
    """
    shares = sampling_shares(train.sampling, targets, corpora)
    drawn = np.bincount(targets, shares, minlength=classes)
    share = np.where(drawn > 0, drawn, 1.0) / drawn.sum()  # a class without a clip has no share to be told of
    offsets = np.where(drawn > 0, train.logit_adjustment * np.log(share), 0.0)
    return torch.from_numpy(offsets.astype(np.float32))


def train_epoch(
    run: Run, part: TrainingClips, corpus: Corpus, steps: list[list[np.ndarray]], after_step: Callable[[], bool]
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
                waveform, lengths = corpus.batch(part.clips[batch])
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
                logits = run.backbone(features, frames)
            losses = _losses(logits, truth, part.class_weights, config.train.label_smoothing, part.logit_offsets)
            run.scaler.scale(losses.sum() / clips_in_step).backward()
            run.sums.add(losses.detach(), logits.detach(), targets)

        run.scaler.unscale_(run.optimizer)
        norm = nn.utils.clip_grad_norm_(parameters, config.train.clip_norm or float("inf"))
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
    """The recognizer's own features, warped, normalised, then masked: what the backbone is trained on."""
    config, warp = run.config, None
    if config.augment.fused is not None:
        random = ClipRandom(clips, derive(config.train.seed, "augment/fused", run.progress.epoch))
        warp = config.augment.fused.draw(lengths, random, run.recognizer.sample_rate)
    features, frames = run.recognizer.features(waveform, lengths, warp)
    return _normalized_and_masked(run, features, frames, clips)


def _normalized_and_masked(run: Run, features: Tensor, frames: Tensor, clips: Tensor) -> tuple[Tensor, Tensor]:
    config, rate = run.config, run.recognizer.sample_rate / run.config.features.hop_length
    features = run.recognizer.normalizer(features, frames)
    return augment(config.augment.spectrogram, features, frames, clips, rate, config.train.seed, run.progress.epoch)


def unchanging_vectors(run: Run, corpus: Corpus, clips: np.ndarray) -> Tensor | None:
    """`(n, F)` statistics of the clips where no epoch changes them, so that a hundred epochs cost the features of one.

    None where the waveform is augmented, the filters learn, or the features are sequences, too large to keep.
    """
    config = run.config
    changing = config.augment.waveform or config.augment.fused is not None or config.features.trainable
    if changing or not config.features.statistics:
        return None
    batches = np.array_split(clips, -(-len(clips) // VECTOR_BATCH))
    with torch.no_grad():
        return torch.cat([run.recognizer.features(*corpus.batch(batch))[0][..., 0] for batch in batches])


def _losses(
    logits: Tensor, truth: Tensor, class_weights: Tensor, label_smoothing: float, offsets: Tensor | None = None
) -> Tensor:
    """Cross-entropy `(B,)` in float32 of `logits (B, C)`, moved by `offsets (C,)`.

    Of an ensemble's `(B, M, C)` it is the sum over its members.
    """
    members = logits.float() if logits.dim() == 3 else logits.float()[:, None]
    members = members if offsets is None else members + offsets
    truth = truth[:, None].expand_as(members)
    losses = F.cross_entropy(
        members.flatten(0, 1), truth.flatten(0, 1), class_weights, label_smoothing=label_smoothing, reduction="none"
    )
    return losses.unflatten(0, members.shape[:2]).sum(1)
