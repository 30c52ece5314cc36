"""Which device, precision and threads a run uses, and what is recorded of them."""

import ctypes
import os
import platform
from contextlib import suppress
from typing import Any

import torch

import serx
from serx.errors import ConfigError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT = 2**30  # bytes


def choose_device(name: str, asked_by: str = "train.device") -> torch.device:
    """`auto` is the first CUDA GPU, else the CPU; anything else is torch's own name. `asked_by` is told in errors.

    Raises:
        ConfigError: the name is unknown or the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"{asked_by} {name}: not usable here ({first}); use auto or cpu") from error
    return device


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype:
    """`auto` is bf16 where a GPU's matrix units have it, else float32.

    On CPUs it is float32 even where they multiply in bf16: there oneDNN's convolutions are a third faster, but some
    corrupt the heap (torch 2.14, channels-last 1x1 convolutions with a stride and fewer than 16 input channels).
    """
    if precision == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def set_up(threads: int | None, deterministic: bool) -> None:
    """Threads, determinism and memory of this process. The bits of a CPU run depend on the number of threads."""
    keep_freed()
    if threads is not None:
        torch.set_num_threads(threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(deterministic)


def keep_freed() -> None:
    """Has glibc keep what a step frees for the next step; by default it gives large tensors back to the system.

    What comes anew from the system is zeroed page by page: some 5 % of a CPU's training step. Nothing is done where the
    C library is another one.
    """
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_MMAP_THRESHOLD, KEPT)


def environment(device: torch.device) -> dict[str, Any]:
    """What the bits of a run depend on, beside seed and configuration."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "serx": serx.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": str(device),
        "hardware": name,
        "threads": torch.get_num_threads(),
    }
