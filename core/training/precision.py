"""Device and arithmetic: ``auto`` is resolved once, here."""

from __future__ import annotations

import torch
from torch import nn

from densedet.core.distributed import local_rank, world
from densedet.core.errors import UsageError
from densedet.core.text import counted


def resolve_device(name: str) -> torch.device:
    """Return the device of that name; "auto" means cuda, mps or cpu, whichever is there first.

    Raises:
        UsageError: the device is not there.
    """
    if world()[1] > 1:
        _check_shared(name)
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device {name!r} is none: write auto, cpu, cuda, cuda:0 or mps") from error
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, False):
        raise UsageError(f"device {name!r} is not available on this machine: write device=auto or device=cpu")
    if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise UsageError(
            f"device {name!r} is not there: this machine has "
            f"{counted(torch.cuda.device_count(), 'CUDA device')}"
        )
    return device


def _check_shared(name: str) -> None:
    """Raise UsageError where the processes of a torchrun cannot have a device of this name each."""
    if name.startswith("cuda:"):
        raise UsageError(
            f"device {name!r} would be that of all processes: write train.device=auto, and each process "
            f"takes the GPU of its LOCAL_RANK"
        )
    if name in ("auto", "cuda") and 0 < torch.cuda.device_count() <= local_rank():
        raise UsageError(
            f"this machine has {torch.cuda.device_count()} GPUs for {local_rank() + 1} or more processes: "
            f"write torchrun --nproc-per-node {torch.cuda.device_count()}, or train.device=cpu"
        )


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware computes in bf16 (AVX512-BF16 or AMX on CPUs); emulated bf16 is slower than
    float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(bool(getattr(torch.cpu, check, lambda: False)()) for check in checks)
    return False


def has_depthwise(model: nn.Module) -> bool:
    """Whether it has grouped convolutions: their backward pass in bf16 is many times slower on CPUs."""
    return any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in model.modules())


def resolve_precision(name: str, device: torch.device, model: nn.Module) -> torch.dtype | None:
    """Return the dtype of autocast, or None for plain float32.

    Raises:
        UsageError: float16 without a CUDA device.
    """
    if name == "auto":
        suits = has_bf16(device) and not (device.type == "cpu" and has_depthwise(model))
        return torch.bfloat16 if suits else None
    if name == "float16" and device.type != "cuda":
        raise UsageError(
            f"precision float16 needs a CUDA device, not {device.type}: write precision: bf16 or auto"
        )
    return {"float32": None, "bf16": torch.bfloat16, "float16": torch.float16}[name]
