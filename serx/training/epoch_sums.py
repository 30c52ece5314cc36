"""`EpochSums`: what is summed over the clips and steps of an epoch, on the device."""

import torch
from torch import Tensor

from serx.errors import CheckpointError
from serx.training.optim import checked


class EpochSums:
    """Sums over the clips of the current epoch, kept on the device: loss, confusion, gradient norms, skipped steps.

    With dimensions also those that their CCC follows from (`serx.metrics.regression_sums`).
    """

    NAMES = ("loss", "clips", "grad_norm", "confusion", "finite")

    def __init__(self, classes: int, device: torch.device, steps: int = 0, dimensions: int = 0) -> None:
        zero = torch.zeros((), dtype=torch.float64, device=device)
        self.loss, self.clips, self.grad_norm = zero, zero.clone(), zero.clone()
        self.confusion = torch.zeros(classes, classes, dtype=torch.float64, device=device)  # truth by prediction
        self.finite = torch.ones(steps, dtype=torch.bool, device=device)  # False for a skipped step
        self.ratings = torch.zeros(dimensions, 6, dtype=torch.float64, device=device)

    def add(
        self,
        losses: Tensor,
        member_logits: Tensor,
        targets: Tensor,
        has_class: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> None:
        """Adds a batch. Clips with a non-finite loss count neither in the sum of losses nor in the number of clips.

        Args:
            losses: `(B,)`, summed over the M members; their mean is added. Those of clips with weights are multiplied
                with these.
            member_logits: `(B, M, C)`; the class with the highest mean probability is the prediction.
            targets: `(B,)`.
            has_class: `(B,)` bool, the clips that the confusion counts; None for all.
            rows: `(B,)`, 0 for rows that count nowhere; None if all do.
        """
        members = member_logits.shape[1]
        losses = losses / members
        logits = member_logits[:, 0] if members == 1 else member_logits.softmax(-1).mean(1)
        finite = losses.isfinite() if rows is None else losses.isfinite() & (rows > 0)
        self.loss += torch.where(finite, losses, 0.0).sum()
        self.clips += finite.sum()
        if not logits.shape[1]:
            return
        classes = torch.arange(logits.shape[1], device=logits.device)
        truth = (targets[:, None] == classes).double()
        truth = truth if has_class is None else truth * has_class[:, None]
        truth = truth if rows is None else truth * rows[:, None]
        predicted = (logits.argmax(1)[:, None] == classes).double()
        self.confusion += truth.T @ predicted

    def of_clips(self) -> list[Tensor]:
        """The sums over clips; what is left is about steps, and the same in all processes that train together."""
        sums = [self.loss, self.clips, self.confusion]
        return [*sums, self.ratings] if len(self.ratings) else sums

    def clear(self) -> None:
        """Sets the sums over clips to zero."""
        for total in self.of_clips():
            total.zero_()

    def add_ratings(self, member_values: Tensor, ratings: Tensor) -> None:
        """Adds a batch: values `(B, M, D)`, whose mean over members counts, and ratings `(B, D)`, NaN for none."""
        predicted, truth = member_values.double().mean(1), ratings.double()
        counted = ~truth.isnan() & predicted.isfinite()
        x, y = torch.where(counted, truth, 0.0), torch.where(counted, predicted, 0.0)
        self.ratings += torch.stack([counted.double(), x, y, x * x, y * y, x * y], -1).sum(0)

    def add_step(self, step: int, norm: Tensor, finite: Tensor) -> None:
        """Adds the gradient norm of a step, or marks the step as skipped."""
        self.grad_norm += torch.where(finite, norm, 0.0)
        self.finite[step] = finite

    def state_dict(self) -> dict[str, Tensor]:
        """The sums by their names."""
        names = (*self.NAMES, "ratings") if len(self.ratings) else self.NAMES
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, tensors: dict[str, Tensor], /) -> None:
        """Restores the sums; `finite` has the length of the stored epoch.

        Raises:
            CheckpointError: a tensor is missing or has another shape or type.
        """
        for name, current in self.state_dict().items():
            saved = checked(tensors, name, current, "epoch", any_length=name == "finite")
            if name in ("clips", "grad_norm", "confusion") and bool((saved < 0).any()):
                raise CheckpointError(f"checkpoint: epoch.{name} is negative")
            setattr(self, name, saved.to(current.device))
