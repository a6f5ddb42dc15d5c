"""How much memory this process and its children take."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path


def _proportional_kb(pid: str) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))


def _children(pid: str) -> list[str]:
    found: list[str] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [child, *_children(child)]
    return found


def used_mb() -> float:
    """Proportional set size of the process tree in MB (shared pages divided among their users); elsewhere
    than on Linux the peak resident size of this process, 0 where the system tells neither."""
    try:
        own = str(os.getpid())
        return sum(_proportional_kb(pid) for pid in (own, *_children(own))) / 1024
    except (OSError, ValueError):
        return peak_mb()


def peak_mb() -> float:
    """Largest resident set size of this process so far, in MB."""
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


KEPT_MB = 256
"""Freed memory that the allocator may keep for the next step."""


def keep_freed_memory() -> bool:
    """Let this process's allocator keep up to `KEPT_MB` instead of giving memory back to the system after
    each layer and asking for it
    anew: a training step of a small network had 4,000 page faults, a tenth of its time. Whether it took
    effect: with glibc (most of Linux), unless the user has set glibc's own variables (MALLOC_TRIM_THRESHOLD_,
    GLIBC_TUNABLES)."""
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
