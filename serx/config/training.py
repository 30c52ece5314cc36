"""What the loop and the optimizer obey: the `train` and `optim` sections."""

from typing import Annotated, Literal

from pydantic import Field

from serx.base_config import BaseConfig

Decay = Annotated[float, Field(ge=0, lt=1)]


class OptimConfig(BaseConfig):
    """AdamW and its learning rate over time."""

    lr: float = Field(1e-3, gt=0)
    betas: tuple[Decay, Decay] = (0.9, 0.98)
    weight_decay: float = Field(0.02, ge=0)  # on matrices and kernels; never on norms and biases
    schedule: Literal["constant", "cosine", "onecycle", "plateau"] = "onecycle"
    warmup_ratio: float = Field(0.15, ge=0, lt=1)  # share of all steps over which the rate rises
    final_lr_ratio: float = Field(0.001, ge=0, le=1)  # the rate at the end, as a share of lr
    plateau_factor: float = Field(0.3, gt=0, lt=1)
    plateau_patience: int = Field(5, ge=1)  # epochs without a better selection score


class TrainConfig(BaseConfig):
    """The loop."""

    seed: int = 0
    epochs: int = Field(30, ge=1)
    batch_size: int = Field(32, ge=2)  # one clip has no batch to normalize over
    accumulation_steps: int = Field(1, ge=1)  # batches a step
    device: str = "auto"
    threads: int | None = Field(None, ge=1)  # CPU threads; the bits of a run depend on it
    # auto: bf16 on GPUs that have it; native: on CPUs that multiply in it, too
    precision: Literal["auto", "bf16_if_native", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False
    deterministic: bool = False
    clip_grad_norm: float | None = Field(5.0, gt=0)
    ema_decay: float = Field(
        0.0, ge=0, lt=1
    )  # decay of the averaged weights that are evaluated; 0 evaluates the raw ones
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = "none"
    logit_adjustment: float = Field(
        0.0, ge=0, le=2
    )  # 1: trained as if all classes were equally frequent, as UAR counts
    # class_balanced: every class equally often in an epoch; corpus_balanced: every corpus; corpus_and_class_balanced: every class of every corpus
    sampling: Literal["shuffle", "class_balanced", "corpus_balanced", "corpus_and_class_balanced"] = "shuffle"
    select: Literal["uar", "loss", "last"] = "uar"  # what makes an epoch the best, on validation speakers
    temperature: float = Field(1.0, gt=0)  # of the probabilities, where nobody validates and it cannot be fitted
    patience: int | None = Field(None, ge=1)  # stop after so many epochs without a better one
    output: str | None = None  # the run folder; default checkpoints/<config name>/<time>
