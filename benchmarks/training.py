"""The training step by serx's own loop, and its parts: what a configuration does with a batch."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from serx.config.loader import Config, load_config
from serx.data.batches import BatchSource, make_batch_source
from serx.training.epoch import augmented_features, augmented_waveform, train_epoch
from serx.training.sampling import TrainingClips
from serx.training.state import EpochSums, Run

from .given import Given
from .stages import Stage
from .timing import Work

LABELS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
STEPS = {"cpu": 1, "cuda": 8}  # steps a run: a GPU is fed ahead, as in an epoch
PARTS = ("recipe_gather", "recipe_augment", "recipe_features", "forward", "backward")  # of `step`; the rest is Adam


class Trainer:
    """A run of `config` over the given clips, with made-up labels."""

    def __init__(self, config: Config, given: Given) -> None:
        self.given, device = given, given.device
        self.run = Run(config, LABELS, device, pretrained=False)
        self.source: BatchSource = make_batch_source(given.audio_cache, device, config.data.placement)
        self.clips = np.arange(given.count)
        self.part = TrainingClips(self.clips, self.clips % len(LABELS), torch.ones(len(LABELS), device=device))
        self.targets = torch.from_numpy(self.part.targets).to(device)
        self.run.recognizer.train()
        if config.features.normalize == "training":
            with torch.no_grad():
                self.run.recognizer.normalizer.fit([self.run.recognizer.features(given.waveform, given.lengths)])
        self.run.start_average()

    def epoch(self, steps: int) -> None:
        """`train_epoch` over `steps` batches of all the clips."""
        self.run.sums, self.run.progress.place = EpochSums(len(LABELS), self.run.device, steps), 0
        train_epoch(self.run, self.part, self.source, [[self.clips]] * steps, lambda: False)

    def gather(self) -> tuple[Tensor, Tensor]:
        return self.source.batch(self.clips)

    @torch.no_grad()
    def augment(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return augmented_waveform(self.run, waveform, lengths, torch.arange(len(lengths), device=lengths.device))

    @torch.no_grad()
    def features(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return augmented_features(self.run, waveform, lengths, torch.arange(len(lengths), device=lengths.device))

    def loss(self, features: Tensor, frames: Tensor) -> Tensor:
        self.run.optimizer.zero_grad(set_to_none=True)
        with self.run.autocast():
            members = self.run.member_logits(features, frames).float()
        return F.cross_entropy(members.flatten(0, 1), self.targets.repeat_interleave(members.shape[1]))


def training_stages(path: str, overrides: tuple[str, ...] = ()) -> list[Stage]:
    """The stages of the configuration at `path`; one run is shared by them."""
    made: dict[int, Trainer] = {}

    def trainer(given: Given) -> Trainer:
        if id(given) not in made:
            made[id(given)] = Trainer(load_config(path, [f"train.device={given.device}", *overrides]), given)
        return made[id(given)]

    def stage(name: str, about: str, work: Callable[[Trainer, Given], Work]) -> Stage:
        return Stage(name, "training", about, lambda given: work(trainer(given), given))

    def gather(t: Trainer, given: Given) -> Work:
        return Work(t.gather, given.count)

    def augment(t: Trainer, given: Given) -> Work:
        return Work(lambda: t.augment(given.waveform, given.lengths), given.count)

    def features(t: Trainer, given: Given) -> Work:
        heard = t.augment(given.waveform, given.lengths)
        return Work(lambda: t.features(*heard), given.count)

    def front(t: Trainer, given: Given) -> Work:
        return Work(lambda: t.features(*t.augment(given.waveform, given.lengths)), given.count)

    def forward(t: Trainer, given: Given) -> Work:
        seen = t.features(*t.augment(given.waveform, given.lengths))
        return Work(lambda: t.loss(*seen), given.count)

    def backward(t: Trainer, given: Given) -> Work:
        seen = t.features(*t.augment(given.waveform, given.lengths))
        return Work(lambda loss: loss.backward(), given.count, lambda: (t.loss(*seen),))

    def step(t: Trainer, given: Given) -> Work:
        steps = STEPS.get(given.device.type, 1)
        return Work(lambda: t.epoch(steps), steps * given.count)

    return [
        stage("recipe_gather", "the recipe's batch out of its corpus", gather),
        stage("recipe_augment", "its waveform transforms", augment),
        stage("recipe_features", "its features, normalized and masked", features),
        stage("recipe_front", "augmentation and features together", front),
        stage("forward", "the network, forward, with the loss", forward),
        stage("backward", "the network, backward", backward),
        stage("step", "the whole training step, `serx.training.epoch`", step),
    ]
