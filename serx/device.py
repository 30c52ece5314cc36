"""The device, precision and threads of a run, and a record of them for its checkpoints."""

import os
import platform
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import serx
from serx.errors import ConfigError
from serx.system import cpu_count, cpu_limit, keep_freed_memory, threads_of_user

MIN_SAFE_CHANNELS = 16
DEVICES = ("cpu", "cuda", "mps", "xpu")  # `meta` and others of torch's hold no numbers, or have no autocast
MAX_REASON = 200  # letters of torch's own message, which may list all of its backends


def choose_device(name: str, setting: str = "train.device") -> torch.device:
    """`auto` is the first CUDA GPU if there is one, else the CPU; any other `name` is passed to torch.

    Raises:
        ConfigError: torch does not know the name, or the machine has no such device; names `setting`.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in DEVICES:
            raise RuntimeError(f"serx trains on {', '.join(DEVICES)}")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        reason = reason if len(reason) <= MAX_REASON else f"{reason[:MAX_REASON]} ..."
        raise ConfigError(f"{setting} {name}: cannot be used on this machine ({reason}); use auto or cpu") from error
    return device


def autocast_dtype(precision: str, device: torch.device, backbone: nn.Module) -> torch.dtype:
    """The data type in which `backbone` computes, for a `train.precision`.

    `auto` is bfloat16 on GPUs whose matrix units have it, else float32. `bf16_if_native` is also bfloat16 on a CPU with
    bfloat16 instructions (up to a third faster there), if that is safe for this backbone.

    Raises:
        ConfigError: `bf16` on a CPU where it is not safe.

    >>> autocast_dtype("auto", torch.device("cpu"), nn.Linear(2, 2))
    torch.float32
    """
    layer = unsafe_in_bf16(backbone) if device.type == "cpu" else None
    if precision == "bf16" and layer:
        raise ConfigError(
            f"train.precision bf16: on a CPU, torch writes beyond its memory at {layer} (a 1x1 convolution with a "
            f"stride and fewer than {MIN_SAFE_CHANNELS} channels); use fp32, or a wider layer before it"
        )
    if precision in ("auto", "bf16_if_native"):
        on_gpu = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        on_cpu = device.type == "cpu" and precision == "bf16_if_native" and multiplies_bf16() and layer is None
        return torch.bfloat16 if on_gpu or on_cpu else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def unsafe_in_bf16(backbone: nn.Module) -> str | None:
    """The name of a layer at which oneDNN's bfloat16 corrupts the heap, or None.

    Seen with torch 2.14: 1x1 convolutions with a stride and 5 to 15 input channels, channels-last.

    >>> unsafe_in_bf16(nn.Sequential(nn.Conv2d(8, 32, 1, stride=2)))
    '0'
    """
    for name, layer in backbone.named_modules():
        pointwise = isinstance(layer, nn.Conv1d | nn.Conv2d) and set(layer.kernel_size) == {1}
        if pointwise and max(layer.stride) > 1 and layer.in_channels // layer.groups < MIN_SAFE_CHANNELS:
            return name
    return None


def multiplies_bf16() -> bool:
    """Whether this CPU has bfloat16 instructions. Without them it emulates bfloat16, which is many times slower."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # missing in older versions of torch
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def default_threads() -> tuple[int, str]:
    """The CPU threads that torch uses in this process if a recipe names none, and what limits them.

    At most torch's own number, which follows OMP_NUM_THREADS and MKL_NUM_THREADS, and otherwise counts cores; without
    those variables at most `cpu_limit`.
    """
    own, asked, (cpus, why) = torch.get_num_threads(), threads_of_user(), cpu_limit()
    if asked is not None:
        return own, asked[1]
    return (own, "cores of this process") if own < cpus else (cpus, why)


def configure_torch(threads: int | None, deterministic: bool) -> None:
    """Sets the threads, determinism and memory of this process.

    The bits of a CPU run depend on the number of threads; None is `default_threads`. More than the CPUs of this process
    are reduced to those, with a line that says so. `deterministic` makes torch refuse operations that CUDA has only in
    a nondeterministic form.
    """
    keep_freed_memory()
    if threads is not None and threads > cpu_count():
        print(f"note: train.threads: {threads}, but this process may use {cpu_count()} CPUs; {cpu_count()} threads")
        threads = cpu_count()
    torch.set_num_threads(default_threads()[0] if threads is None else threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(deterministic)


def compiled(function: Callable[..., Tensor], mode: bool | str) -> Callable[..., Tensor]:
    """`function` by torch.compile, for `train.compile`; dropout draws the same numbers as without it.

    The number of clips and frames is a symbol in the compiled code as soon as it has changed once, so that nothing is
    compiled again later. A CUDA graph is recorded for each size instead.

    >>> compiled(torch.relu, False) is torch.relu
    True
    """
    if mode is False:
        return function
    from torch._inductor import config  # noqa: PLC0415 - takes a second

    config.fallback_random = True
    return torch.compile(function) if mode is True else torch.compile(function, mode=mode, dynamic=False)


def environment(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What the bits of a run depend on besides its seed and configuration; stored in checkpoints.

    >>> environment(torch.device("cpu"), torch.float32)["precision"]
    'float32'
    """
    return {
        "serx": serx.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": str(device),
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "precision": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
