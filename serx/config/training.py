"""Settings of the optimizer and of the training loop: the `optim` and `train` sections.

They are in this room and not in `training/`, next to the code that they configure, because training imports the whole
configuration, and imports run one way.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from serx.base_config import BaseConfig, FilePath, Seed
from serx.metrics.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE

ENDLESS_SCHEDULES = ("constant", "plateau")  # the learning rate of a step does not depend on train.epochs
Decay = Annotated[float, Field(ge=0, lt=1)]


class OptimConfig(BaseConfig):
    """AdamW (Loshchilov and Hutter, 2019) and the schedule of its learning rate.

    >>> OptimConfig(lr=3e-3).schedule
    'onecycle'
    """

    lr: float = Field(1e-3, ge=1e-9, le=1e6, description="the highest learning rate")
    betas: tuple[Decay, Decay] = Field((0.9, 0.98), description="decay of the two moments of AdamW")
    weight_decay: float = Field(0.02, ge=0, le=10, description="of matrices and kernels; norms and biases have none")
    schedule: Literal["constant", "cosine", "onecycle", "plateau"] = Field(
        "onecycle", description="learning rate over the steps of a run"
    )
    warmup_ratio: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="fraction of all steps over which the learning rate rises to lr; default with constant and "
        "plateau: 0, so that the schedule has no end and the run can be made longer",
    )
    final_lr_ratio: float = Field(0.001, ge=0, le=1, description="learning rate of the last step, as a fraction of lr")
    plateau_factor: float = Field(
        0.3, gt=0, lt=1, description="schedule plateau: the learning rate is multiplied by this"
    )
    plateau_patience: int = Field(
        5, ge=1, le=100_000, description="schedule plateau: epochs without a better validation score before that"
    )

    @model_validator(mode="before")
    @classmethod
    def _no_warmup_without_an_end(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("schedule") in ENDLESS_SCHEDULES:
            return {"warmup_ratio": 0.0, **values}
        return values


class TrainConfig(BaseConfig):
    """The training loop.

    >>> TrainConfig(epochs=10).batch_size
    32
    """

    seed: Seed = Field(0, description="of weights, augmentation and the order of clips")
    epochs: int = Field(30, ge=1, le=100_000, description="passes over the training clips")
    batch_size: int = Field(32, ge=2, le=65_536, description="clips per batch")
    accumulation_steps: int = Field(1, ge=1, le=65_536, description="batches per optimizer step")
    device: str = Field(
        "auto", max_length=32, description="auto, cpu, cuda or cuda:1 ...; auto is the GPU if there is one"
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU threads, at most as many as this process has CPUs; null: what OMP_NUM_THREADS, Slurm or the "
        "container allows, else all cores. Results are bit-equal only with the same number",
    )
    precision: Literal["auto", "bf16_if_native", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="number format of the network; auto: bf16 on GPUs that support it, else fp32; "
        "bf16_if_native: bf16 on CPUs with bfloat16 instructions as well",
    )
    compile: bool | Literal["reduce-overhead"] = Field(
        False,
        description="compile the network with torch.compile; reduce-overhead: replay it as a CUDA graph as well, one "
        "for each size of a batch",
    )
    deterministic: bool = Field(False, description="use deterministic kernels only, which may be slower on a GPU")
    clip_grad_norm: float | None = Field(
        5.0, ge=1e-6, le=1e6, description="largest norm of the gradient; null: no limit"
    )
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="decay of the averaged weights that are evaluated; 0: the weights themselves are"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="probability spread over all classes in the targets")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: the loss of a class is weighted by its inverse frequency"
    )
    logit_adjustment: float = Field(
        0.0,
        ge=0,
        le=2,
        description="strength of logit adjustment (Menon et al., 2021); 1: train as if all classes were equally "
        "frequent, which UAR measures",
    )
    sampling: Literal["shuffle", "class_balanced", "corpus_balanced", "corpus_and_class_balanced"] = Field(
        "shuffle",
        description="clips of an epoch; class_balanced: every class equally often; corpus_balanced: every corpus; "
        "corpus_and_class_balanced: every class of every corpus",
    )
    dimension_weight: float = Field(
        1.0,
        ge=1e-3,
        le=1e3,
        description="data.tasks with dimensions: weight of their loss (1 - CCC) next to the cross-entropy of emotions",
    )
    select: Literal["uar", "ccc", "loss", "last"] = Field(
        "uar",
        description="the epoch in best.safetensors: of the best validation UAR, mean CCC of the dimensions or loss, or "
        "the last; default with data.tasks: [dimensions]: ccc",
    )
    temperature: float = Field(
        1.0,
        ge=MIN_TEMPERATURE,
        le=MAX_TEMPERATURE,
        description="divides the logits, where there is no validation to fit it on; below 1: more confident",
    )
    patience: int | None = Field(
        None, ge=1, le=100_000, description="stop after this many epochs without a better score; null: never"
    )
    init_from: FilePath | None = Field(
        None, description="checkpoint whose weights the training begins with; null: new weights"
    )
    teachers: tuple[FilePath, ...] = Field(
        (),
        max_length=50,
        description="checkpoints whose probabilities are targets as well as the labels (knowledge distillation); a "
        "clip learns from those that were not trained on its speaker, if there are any",
    )
    teacher_weight: float = Field(0.7, ge=0, le=1, description="share of the teachers' probabilities in the targets")
    teacher_temperature: float = Field(
        1.0, ge=0.1, le=20, description="divides the logarithms of the teachers' probabilities; above 1: softer targets"
    )
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = Field(
        ("tensorboard",), max_length=3, description="what shows the run besides metrics.jsonl; []: nothing"
    )
    output: FilePath | None = Field(None, description="run folder; null: checkpoints/<recipe>/<time>")
