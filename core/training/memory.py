"""How much memory this process and its children take."""

from __future__ import annotations

import contextlib
import ctypes
import os

import psutil


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
    """Return the largest resident set size that this process has had, in MB."""
    try:
        import resource
    except ImportError:  # Windows
        return float(psutil.Process().memory_info().peak_wset) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** (20 if psutil.MACOS else 10)


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
