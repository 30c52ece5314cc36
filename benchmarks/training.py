"""The training step of a recipe, by the trainer's own `run_epoch`: its stages, and how its time is shared."""

from collections.abc import Callable
from contextlib import ExitStack
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from serx.config.loader import Config, load_config
from serx.data.batches import BatchSource, StreamedAudio, make_batch_source
from serx.data.read_ahead import _ReadAhead
from serx.training import epoch
from serx.training.epoch_sums import EpochSums
from serx.training.sampling import TrainingClips
from serx.training.state import TrainingState

from .inputs import Inputs
from .stages import Stage
from .timing import WARM_UP, PartTimer, Workload, elapsed

LABELS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
STEPS = {"cpu": 1, "cuda": 8}  # steps per run: a GPU is fed ahead, as in an epoch
REST = "rest"  # of a step: learning rate, seeds, targets, the sums of the epoch, copies of batch norm statistics


class BenchmarkRun:
    """A training run of `config` on the clips, with arbitrary labels."""

    def __init__(self, config: Config, inputs: Inputs) -> None:
        self.inputs, device = inputs, inputs.device
        self.state = TrainingState(config, LABELS, device, pretrained=False)
        self.source: BatchSource = make_batch_source(inputs.audio_cache, device, config.data.placement)
        self.clips = np.arange(inputs.count)
        self.training = TrainingClips(self.clips, self.clips % len(LABELS), torch.ones(len(LABELS), device=device))
        self.targets = torch.from_numpy(self.training.targets).to(device)
        self.state.recognizer.train()
        if config.features.normalize == "training":
            with torch.no_grad():
                features = self.state.recognizer.features(inputs.waveform, inputs.lengths)
                self.state.recognizer.normalizer.fit([features])
        self.state.start_average()

    def train(self, steps: int) -> None:
        """`run_epoch` over `steps` batches of all clips."""
        self.state.sums, self.state.progress.step = EpochSums(len(LABELS), self.state.device, steps), 0
        epoch.run_epoch(self.state, self.training, self.source, [[self.clips]] * steps, lambda: False)

    def batch(self) -> tuple[Tensor, Tensor]:
        return self.source.batch(self.clips)

    @torch.no_grad()
    def augment(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        ids = torch.arange(len(lengths), device=lengths.device)
        return epoch.augmented_waveform(self.state, waveform, lengths, ids)

    @torch.no_grad()
    def features(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        ids = torch.arange(len(lengths), device=lengths.device)
        return epoch.augmented_features(self.state, waveform, lengths, ids)

    def loss(self, features: Tensor, frames: Tensor) -> Tensor:
        self.state.optimizer.zero_grad(set_to_none=True)
        with self.state.autocast():
            logits = self.state.member_logits(features, frames).float()
        return F.cross_entropy(logits.flatten(0, 1), self.targets.repeat_interleave(logits.shape[1]))


def step_shares(run: BenchmarkRun, rounds: int, clock: str) -> dict[str, float]:
    """The share of each part in real training steps, largest first, and the `rest`. They add up to 1.

    Parts and whole are measured in the same steps: the clock is read around the functions that `run_epoch` calls.
    """
    state, timer = run.state, PartTimer(clock)
    parts = [
        (_ReadAhead if isinstance(run.source, StreamedAudio) else run.source, "batch", "batch from the audio cache"),
        (epoch, "augmented_waveform", "waveform transforms"),
        (epoch, "augmented_features", "features, normalized and masked"),
        (epoch, "mix", "mixtures of clips"),
        (state, "member_logits", "network, forward"),
        (epoch, "cross_entropy", "loss"),
        (torch.Tensor, "backward", "network, backward"),
        (state.scaler, "unscale_", "optimizer"),
        (epoch.nn.utils, "clip_grad_norm_", "optimizer"),
        (state.scaler, "step", "optimizer"),
        (state.scaler, "update", "optimizer"),
        (state.optimizer, "zero_grad", "optimizer"),
    ]
    if state.average is not None:
        parts.append((state.average, "update", "average of the weights"))
    steps = rounds * STEPS.get(state.device.type, 1)
    with ExitStack() as stack:
        for owner, name, part in parts:
            stack.enter_context(mock.patch.object(owner, name, timer.timed(part, getattr(owner, name))))
        run.train(WARM_UP.get(clock, 1))
        timer.reset()
        whole = elapsed(Workload(lambda: run.train(steps), steps * run.inputs.count), clock)
    return shares(timer.seconds(), whole)


def shares(seconds: dict[str, float], whole: float) -> dict[str, float]:
    """Seconds of disjoint parts of `whole` seconds -> their shares, largest first, and the rest."""
    ordered = sorted(seconds.items(), key=lambda part: -part[1])
    return {part: spent / whole for part, spent in ordered} | {REST: (whole - sum(seconds.values())) / whole}


class TrainingStages:
    """The stages of the recipe at `path`; they share one run on the same inputs."""

    def __init__(self, path: str, overrides: tuple[str, ...] = ()) -> None:
        self._path, self._overrides = path, overrides
        self._runs: dict[int, BenchmarkRun] = {}

    def run_on(self, inputs: Inputs) -> BenchmarkRun:
        """The run on these inputs, made when first asked for."""
        if id(inputs) not in self._runs:
            config = load_config(self._path, f"train.device={inputs.device}", *self._overrides)
            self._runs[id(inputs)] = BenchmarkRun(config, inputs)
        return self._runs[id(inputs)]

    def stages(self) -> list[Stage]:
        """In the order of the report."""

        def stage(name: str, about: str, workload: Callable[[BenchmarkRun, Inputs], Workload]) -> Stage:
            return Stage(name, "training", about, lambda inputs: workload(self.run_on(inputs), inputs))

        return [
            stage("recipe_batch", "the recipe's batch from its audio cache", _batch),
            stage("recipe_augment", "its waveform transforms", _augment),
            stage("recipe_features", "its features, normalized and masked", _features),
            stage("recipe_front", "waveform transforms and features together", _front),
            stage("forward", "the network, forward, with the loss", _forward),
            stage("backward", "the network, backward", _backward),
            stage("step", "the whole training step, `serx.training.epoch`", _step),
        ]


def _batch(run: BenchmarkRun, inputs: Inputs) -> Workload:
    return Workload(run.batch, inputs.count)


def _augment(run: BenchmarkRun, inputs: Inputs) -> Workload:
    return Workload(lambda batch: run.augment(batch, inputs.lengths), inputs.count, lambda: (inputs.waveform.clone(),))


def _features(run: BenchmarkRun, inputs: Inputs) -> Workload:
    augmented = run.augment(inputs.waveform.clone(), inputs.lengths)
    return Workload(lambda: run.features(*augmented), inputs.count)


def _front(run: BenchmarkRun, inputs: Inputs) -> Workload:
    def front(batch: Tensor) -> None:
        run.features(*run.augment(batch, inputs.lengths))

    return Workload(front, inputs.count, lambda: (inputs.waveform.clone(),))


def _forward(run: BenchmarkRun, inputs: Inputs) -> Workload:
    features = run.features(*run.augment(inputs.waveform.clone(), inputs.lengths))
    return Workload(lambda: run.loss(*features), inputs.count)


def _backward(run: BenchmarkRun, inputs: Inputs) -> Workload:
    features = run.features(*run.augment(inputs.waveform.clone(), inputs.lengths))
    return Workload(lambda loss: loss.backward(), inputs.count, lambda: (run.loss(*features),))


def _step(run: BenchmarkRun, inputs: Inputs) -> Workload:
    steps = STEPS.get(inputs.device.type, 1)
    return Workload(lambda: run.train(steps), steps * inputs.count)
