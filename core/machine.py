"""What this process may use of its machine: cores and memory, in a container too. No torch here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

GROUPS = Path("/sys/fs/cgroup")
"""Where Linux shows the control groups by which containers and schedulers share a machine."""
OWN_GROUPS = Path("/proc/self/cgroup")
UNLIMITED = 1 << 60
"""Bytes; version 1 of the control groups writes a number above it where there is no limit."""


def usable_cores() -> int:
    """Count the cores that this process may keep busy: the least of those it may run on, the share of its
    container, and those that Slurm gave to its task.

    A share is rounded down, to 1 at least: one thread too many, and all are stopped for the rest of each
    tenth of a second.
    """
    counts = [float(os.cpu_count() or 1)]
    if hasattr(os, "sched_getaffinity"):
        counts.append(len(os.sched_getaffinity(0)))
    counts += _quotas()
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if given.isdecimal() and int(given):
        counts.append(int(given))
    return max(1, int(min(counts)))


def sleep_while_waiting() -> bool:
    """Let torch's idle threads sleep where they would otherwise spin for a while until there is more to do.

    Spinning starts the next layer sooner, which a training needs. But where threads that decode images share
    the cores with a network, it takes a third of all processor time.

    Returns:
        Whether it took effect: where torch is not imported yet, and the user has set neither of OpenMP's own
        variables (OMP_WAIT_POLICY, GOMP_SPINCOUNT).
    """
    if "torch" in sys.modules or any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")):
        return False
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # OpenMP reads it when torch loads it
    return True


def free_memory_mb() -> float:
    """Return how much more memory this process could take, in MB: what the machine has available, or what is
    left of its container's limit where that is less."""
    left = [float(psutil.virtual_memory().available), *_left_of_limits()]
    return max(0.0, min(left)) / 2**20


def _folders(controller: str) -> Iterator[Path]:
    """The folders of this process's control group and of those around it, inner ones first.

    Args:
        controller: "cpu" or "memory", which has a tree of its own in version 1; "": the one of version 2.
    """
    try:
        rows = [row.split(":", 2) for row in OWN_GROUPS.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return
    for _, controllers, path in (row for row in rows if len(row) == 3):
        if controller in controllers.split(","):
            folder = GROUPS / controller / path.strip("/")
            # In a container the path may be that of the host, of which nothing but the root is visible.
            while GROUPS in folder.parents:
                yield folder
                folder = folder.parent
            if not controller:
                yield GROUPS


def _quotas() -> list[float]:
    """The limits in cores of the groups around this process."""
    found = []
    for folder in _folders(""):
        quota, period = (_numbers(folder / "cpu.max") + [0, 0])[:2]
        found.append((quota, period))
    for folder in _folders("cpu"):
        quota = (_numbers(folder / "cpu.cfs_quota_us") + [0])[0]
        found.append((quota, (_numbers(folder / "cpu.cfs_period_us") + [0])[0]))
    return [quota / period for quota, period in found if quota > 0 and period > 0]


def _left_of_limits() -> list[float]:
    """Bytes that are left of the limits of the groups around this process. Pages of files that the kernel
    can drop count as left."""
    left = []
    for controller, limit, used, inactive in (
        ("", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        for folder in _folders(controller):
            limits, uses = _numbers(folder / limit), _numbers(folder / used)
            if limits and uses and limits[0] < UNLIMITED:
                left.append(limits[0] - uses[0] + _statistic(folder / "memory.stat", inactive))
    return left


def _statistic(file: Path, name: str) -> float:
    try:
        rows = [row.split() for row in file.read_text(encoding="ascii").splitlines()]
    except (OSError, ValueError):
        return 0.0
    return next((float(row[1]) for row in rows if len(row) == 2 and row[0] == name), 0.0)


def _numbers(file: Path) -> list[float]:
    """The numbers in a file of one line; empty where it is missing or has a word, such as max."""
    try:
        return [float(word) for word in file.read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        return []
