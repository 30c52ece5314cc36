"""`Run`: the whole state of a training run, and how it becomes a checkpoint and comes back from one."""

import math
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler

from serx.augment.recordings import load_recordings
from serx.checkpoint import Checkpoint, fill
from serx.config.loader import Config
from serx.data.audio import read_folder
from serx.device import autocast_dtype
from serx.errors import CheckpointError
from serx.models.classical import ClassicalConfig
from serx.ood import OodDetector
from serx.recognizer import Recognizer
from serx.training.optim import AveragedWeights, make_optimizer


@dataclass
class Progress:
    """Where the run is. Randomness is a function of this and the seed, so there is no random state beside it."""

    epoch: int = 0  # epochs done
    place: int = 0  # steps done of the epoch under way
    best: float | None = None  # the selection score of the best epoch; higher is better
    best_epoch: int | None = None
    stale: int = 0  # epochs since the best
    plateau_scale: float = 1.0
    plateau_stale: int = 0


def read_progress(said: dict[str, Any]) -> Progress:
    """The progress a checkpoint tells of, every piece of it and no other.

    Raises:
        CheckpointError: names a piece that is missing, left over, or no sound number.
    """
    for name in said.keys() ^ asdict(Progress()).keys():
        raise CheckpointError(f"checkpoint: progress.{name} is {'left over' if name in said else 'missing'}")
    for name, value in said.items():
        whole = type(value) is int and value >= 0
        real = type(value) in (int, float) and math.isfinite(value)
        if not ((value is None and name.startswith("best")) or (real if name in _REAL else whole)):
            raise CheckpointError(f"checkpoint: progress.{name} is {value!r}, no number that serx writes")
    return Progress(**said)


_REAL = ("best", "plateau_scale")


class EpochSums:
    """What the epoch under way has added up, on the device."""

    def __init__(self, classes: int, device: torch.device, steps: int = 0) -> None:
        zero = torch.zeros((), dtype=torch.float64, device=device)
        self.loss, self.clips, self.grad_norm = zero, zero.clone(), zero.clone()
        self.confusion = torch.zeros(classes, classes, dtype=torch.float64, device=device)  # truth by prediction
        self.finite = torch.ones(steps, dtype=torch.bool, device=device)  # false where a step was skipped

    def add(self, losses: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Adds a batch; clips whose loss is not finite count neither in the sum nor in the number.

        Of an ensemble's `logits (B, M, C)` the mean loss and the vote are added.
        """
        if logits.dim() == 3:  # (B, M, C)
            members = logits.shape[1]
            losses, logits = losses / members, logits[:, 0] if members == 1 else logits.softmax(-1).mean(1)
        finite = losses.isfinite()
        self.loss += torch.where(finite, losses, 0.0).sum()
        self.clips += finite.sum()
        classes = torch.arange(logits.shape[1], device=logits.device)
        truth = (targets[:, None] == classes).double()
        guess = (logits.argmax(1)[:, None] == classes).double()
        self.confusion += truth.T @ guess

    def add_step(self, place: int, norm: Tensor, finite: Tensor) -> None:
        """Notes the gradient norm of a step, or that it was skipped."""
        self.grad_norm += torch.where(finite, norm, 0.0)
        self.finite[place] = finite

    def tensors(self) -> dict[str, Tensor]:
        return dict(vars(self))


class Run:
    """Recognizer, averaged weights, optimizer, scaler and progress on one device."""

    def __init__(self, config: Config, labels: tuple[str, ...], device: torch.device, pretrained: bool) -> None:
        self.config, self.device = config, device
        torch.manual_seed(config.train.seed)
        recognizer = Recognizer(config.features, config.model, labels, config.data.sample_rate, pretrained)
        self.recognizer = recognizer.to(device)
        self.waveform_transforms = load_recordings(
            config.augment.waveform, lambda folder: read_folder(folder, config.data.sample_rate), device
        )
        logits = recognizer.backbone.member_logits
        self.member_logits = torch.compile(logits) if config.train.compile else logits
        self.average: AveragedWeights[Recognizer] | None = None
        self.optimizer = make_optimizer(self.recognizer, config.optim)
        self.dtype = autocast_dtype(config.train.precision, device, recognizer.backbone)
        half = self.dtype == torch.float16
        self.scaler = GradScaler(device.type, init_scale=2.0**14 if half else 1.0, growth_interval=500)
        self.ood_detector: OodDetector | None = None  # which recordings it is trained on; once the loop has heard them
        self.progress = Progress()
        self.sums = EpochSums(len(labels), device)

    def start_average(self) -> None:
        """Begins the average of weights, once the normalizer has been fitted."""
        if self.config.train.ema_decay > 0:
            self.average = AveragedWeights(self.recognizer, self.config.train.ema_decay)

    @property
    def epochs(self) -> int:
        """How many the run has: of a classical model no more than there are values of `model.c` to try."""
        model, epochs = self.config.model, self.config.train.epochs
        return min(epochs, len(model.c)) if isinstance(model, ClassicalConfig) else epochs

    @property
    def evaluated(self) -> Recognizer:
        """What validation, the best checkpoint and predictions use: the averaged weights where there are any."""
        return self.average.module if self.average is not None else self.recognizer

    def autocast(self) -> AbstractContextManager:
        """Half precision around the backbone, where configured."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def update_scale(self) -> None:
        """After a step: fp16's scale moves but never below 1 (from 0 it would not return); others keep 1."""
        self.scaler.update()
        scale = self.scaler.scale(torch.ones((), device=self.device))
        self.scaler.update(scale.clamp(min=1.0) if self.dtype == torch.float16 else torch.ones_like(scale))

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the run under their checkpoint names."""
        named = {f"model.{name}": t for name, t in self.recognizer.state_dict().items()}
        if self.average is not None:
            named |= {f"ema.{name}": t for name, t in self.average.module.state_dict().items()}
        for name, parameter in self._trained().items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                named[f"optimizer.{key}.{name}"] = value
        named |= {f"epoch.{name}": t for name, t in self.sums.tensors().items()}
        named["scaler.scale"] = self.scaler.scale(torch.ones((), device=self.device))
        named["scaler.growth"] = torch.tensor(self.scaler.state_dict()["_growth_tracker"])
        return named | self._familiar()

    def _familiar(self) -> dict[str, Tensor]:
        known = self.ood_detector.tensors() if self.ood_detector is not None else {}
        return {f"ood.{name}": t for name, t in known.items()}

    def evaluated_tensors(self) -> dict[str, Tensor]:
        """The weights to predict with, and the recordings they know, alone."""
        return {f"model.{name}": t for name, t in self.evaluated.state_dict().items()} | self._familiar()

    def metadata(self) -> dict[str, Any]:
        """The progress, as JSON."""
        return {"progress": asdict(self.progress)}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes up a run where `tensors` and `facts` were taken.

        Raises:
            CheckpointError: a piece is missing or of another shape; named.
        """
        fill(self.recognizer, checkpoint.group("model"), "model")
        if self.average is not None:
            fill(self.average.module, checkpoint.group("ema"), "ema")
        trained, moments = self._trained(), checkpoint.group("optimizer")
        progress = read_progress(checkpoint.metadata["progress"])
        begun = progress.epoch + progress.place > 0
        for name, parameter in trained.items() if begun else ():
            state = self.optimizer.state[parameter]
            state["step"] = torch.zeros((), device=self.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            for key, value in state.items():  # copied into place: the moments lie in memory as their parameter does
                saved = moments.get(f"{key}.{name}")
                if saved is None or saved.shape != value.shape or saved.dtype != value.dtype:
                    raise CheckpointError(f"checkpoint: optimizer.{key}.{name} is missing or of another shape or type")
                value.copy_(saved)
        scaler, sums = checkpoint.group("scaler"), checkpoint.group("epoch")
        wrong = [f"scaler.{k}" for k in ("scale", "growth") if k not in scaler or scaler[k].dim()]
        for name, here in self.sums.tensors().items():
            there = sums.get(name)  # `finite` is as long as the epoch under way
            fits = there is not None and there.dtype == here.dtype and there.dim() == here.dim()
            if there is None or not fits or (name != "finite" and there.shape != here.shape):
                wrong.append(f"epoch.{name}")
        if wrong:
            raise CheckpointError(f"checkpoint: missing or of another shape or type: {', '.join(wrong)}")
        state = self.scaler.state_dict()
        self.scaler.load_state_dict(
            {**state, "scale": float(scaler["scale"]), "_growth_tracker": int(scaler["growth"])}
        )
        for name in self.sums.tensors():
            setattr(self.sums, name, sums[name].to(self.device))
        self.ood_detector = OodDetector.from_tensors(checkpoint.group("ood"), self.config.data.sample_rate)
        self.progress = progress

    def _trained(self) -> dict[str, torch.nn.Parameter]:
        return {name: p for name, p in self.recognizer.named_parameters() if p.requires_grad}
