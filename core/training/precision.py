"""Device and arithmetic."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from densedet.core.distributed import local_rank, world
from densedet.core.errors import UsageError
from densedet.core.machine import usable_cores
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


def own_threads() -> int:
    """Return how many threads torch may use of those that it has: it counts the cores of the machine,
    whatever share of them a container or a scheduler gives."""
    return min(torch.get_num_threads(), usable_cores())


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


DTYPES = {"float32": None, "bf16": torch.bfloat16, "float16": torch.float16}
"""``train.precision`` -> the dtype of autocast; None: there is none."""


def autocast(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager[Any]:
    """Compute in this dtype where that is safe, in float32 elsewhere and where it is None."""
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware computes in bf16 (AVX512-BF16 or AMX on CPUs); others emulate it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(bool(getattr(torch.cpu, check, lambda: False)()) for check in checks)
    return False


def candidates(device: torch.device) -> tuple[str, ...]:
    """Return the values of ``train.precision`` that ``auto`` measures on a device, float32 first.

    A CPU that emulates bf16 is among those that are measured. A GPU takes float16 where it lacks bf16.
    """
    if device.type == "cuda":
        return "float32", "bf16" if has_bf16(device) else "float16"
    return ("float32", "bf16") if device.type == "cpu" else ("float32",)


def check_precision(name: str, device: torch.device) -> None:
    """Raise UsageError where a device cannot train in the precision that a recipe names."""
    if name == "float16" and device.type != "cuda":
        raise UsageError(
            f"precision float16 needs a CUDA device, not {device.type}: write precision: bf16 or auto"
        )
