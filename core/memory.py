"""How much memory this process and its children take."""

from __future__ import annotations

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
    """Proportional set size of the process tree in MB (shared pages divided among their users); elsewhere than on Linux the peak
    resident size of this process, 0 where the system tells neither."""
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
