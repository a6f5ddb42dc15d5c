"""How much memory this process and its children take."""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch


def used_mb() -> float:
    """Return the memory of this process and its descendants in MB.

    On Linux it is the proportional set size: pages that several processes share are divided among them.
    Elsewhere it is the unique set size, which leaves shared pages out.
    """
    own, total = psutil.Process(), 0
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # a child that has just ended
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.uss)
    return total / 2**20


def peak_mb() -> float:
    """Return the most memory that this process and its descendants have had since `forget_peak`, in MB, as
    `used_mb` counts it.

    It is the present use, and of each process by how much the largest resident set size exceeded today's:
    pages that are shared hardly change. Processes that have ended do not count.
    """
    own, beyond = psutil.Process(), 0.0
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.Error, OSError):
            beyond += max(0.0, _largest_rss(process) - process.memory_info().rss)
    return used_mb() + beyond / 2**20


def _largest_rss(process: psutil.Process) -> float:
    """The largest resident set size of a process in bytes; 0 where the system does not tell that of
    another process."""
    if psutil.LINUX:
        with open(f"/proc/{process.pid}/status", encoding="ascii", errors="replace") as status:
            return next((1024.0 * int(row.split()[1]) for row in status if row.startswith("VmHWM")), 0.0)
    if psutil.WINDOWS:
        return float(process.memory_info().peak_wset)
    import resource

    own = process.pid == os.getpid()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if psutil.MACOS else 1024) if own else 0


def forget_peak() -> None:
    """Let `peak_mb` start anew with the present use, where the system can (on Linux)."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def gpu_peak_mb(device: torch.device) -> float | None:
    """Return the most memory that torch has held on a GPU since the process began, or since
    ``torch.cuda.reset_peak_memory_stats``, in MB; None where the device is no GPU of CUDA.

    It is what the allocator took from the card: tensors and what is kept free for the next ones. The CUDA
    context takes some 0.5 GB beside it.
    """
    if device.type != "cuda":
        return None
    import torch

    return torch.cuda.max_memory_reserved(device) / 2**20


KEPT_MB = 256
"""Freed memory that the allocator may keep for the next step."""


def keep_freed_memory() -> bool:
    """Let the allocator keep up to `KEPT_MB` of freed memory instead of giving it back after each layer.

    Without it, a training step of a small network had 4,000 page faults, which took a tenth of its time.

    Returns:
        Whether it took effect: with glibc (most of Linux), unless the user has set glibc's own variables
        (MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_, GLIBC_TUNABLES).
    """
    if any(
        name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
    ):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    trim_threshold, mmap_threshold, largest = -1, -3, 32 * 2**20  # malloc.h
    return bool(set_option(mmap_threshold, largest) and set_option(trim_threshold, KEPT_MB * 2**20))
