"""Which device, precision and threads a run uses, and what is recorded of them."""

import ctypes
import os
import platform
from contextlib import suppress
from typing import Any

import torch
from torch import nn

import serx
from serx.errors import ConfigError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT = 2**30  # bytes
SAFE_CHANNELS = 16


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


def autocast_dtype(precision: str, device: torch.device, backbone: nn.Module) -> torch.dtype:
    """What `backbone` computes in.

    `auto` is bf16 where a GPU's matrix units have it, else float32; `native` is bf16 on a CPU that multiplies in it as
    well, which is up to a third faster there, where it is safe.

    Raises:
        ConfigError: bf16 is asked for where it is not safe.
    """
    layer = unsafe_in_bf16(backbone) if device.type == "cpu" else None
    if precision == "bf16" and layer:
        raise ConfigError(
            f"train.precision bf16: on a CPU, torch writes beyond its memory at {layer} (a 1x1 convolution with a "
            f"stride, of fewer than {SAFE_CHANNELS} channels); use fp32, or a wider layer before it"
        )
    if precision in ("auto", "bf16_if_native"):
        on_gpu = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        on_cpu = device.type == "cpu" and precision == "bf16_if_native" and multiplies_bf16() and layer is None
        return torch.bfloat16 if on_gpu or on_cpu else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def unsafe_in_bf16(backbone: nn.Module) -> str | None:
    """The name of a layer at which oneDNN's bf16 corrupts the heap (torch 2.14; channels-last, 5 to 15 channels)."""
    for name, layer in backbone.named_modules():
        pointwise = isinstance(layer, nn.Conv1d | nn.Conv2d) and set(layer.kernel_size) == {1}
        if pointwise and max(layer.stride) > 1 and layer.in_channels // layer.groups < SAFE_CHANNELS:
            return name
    return None


def multiplies_bf16() -> bool:
    """Whether this CPU has instructions for it; without them it is emulated, and many times slower."""
    told: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch do not tell
    return bool(told.get("avx512_bf16") or told.get("amx_bf16"))


def configure_torch(threads: int | None, deterministic: bool) -> None:
    """Threads, determinism and memory of this process. The bits of a CPU run depend on the number of threads."""
    keep_freed_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(deterministic)


def keep_freed_memory() -> None:
    """Has glibc keep what a step frees for the next step; by default it gives large tensors back to the system.

    What comes anew from the system is zeroed page by page: some 5 % of a CPU's training step. Nothing is done where the
    C library is another one.
    """
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_MMAP_THRESHOLD, KEPT)


def environment(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What the bits of a run depend on, beside seed and configuration."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "serx": serx.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": str(device),
        "hardware": name,
        "precision": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
