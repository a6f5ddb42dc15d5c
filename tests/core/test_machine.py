"""Cores and memory in containers, from made-up trees of control groups."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from densedet.core import machine

MB = 2**20


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make a tree of control groups: the rows of /proc/self/cgroup, and the files by their paths."""
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(machine, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)

    def make(own: str, files: dict[str, str]) -> None:
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            file = tmp_path / "groups" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    return make


def test_the_cores_it_may_run_on(group) -> None:
    assert machine.usable_cores() == 16
    group("0::/\n", {"cpu.max": "max 100000\n"})
    assert machine.usable_cores() == 16


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/job\n", {"job/cpu.max": "350000 100000\n"}, 3),  # 3.5
        ("0::/job\n", {"job/cpu.max": "50000 100000\n"}, 1),  # half of one
        ("0::/pod/job\n", {"pod/job/cpu.max": "max 100000\n", "pod/cpu.max": "200000 100000\n"}, 2),
        ("0::/../elsewhere\n", {"cpu.max": "400000 100000\n"}, 4),  # a container sees its own root alone
        (
            "5:cpu,cpuacct:/docker/x\n",
            {"cpu/docker/x/cpu.cfs_quota_us": "300000", "cpu/docker/x/cpu.cfs_period_us": "100000"},
            3,
        ),
        (
            "5:cpu,cpuacct:/docker/x\n",  # the path of the host: in the container the root is its own group
            {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"},
            3,
        ),
        ("5:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
    ],
)
def test_a_share_of_the_cores(group, own: str, files: dict[str, str], cores: int) -> None:
    group(own, files)
    assert machine.usable_cores() == cores


def test_slurm_gives_cores(group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    assert machine.usable_cores() == 6
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "40")  # more than the process may use
    assert machine.usable_cores() == 16
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "many")
    assert machine.usable_cores() == 16


@pytest.mark.parametrize(
    ("own", "files", "left"),
    [
        ("0::/\n", {"memory.max": "max", "memory.current": "0"}, 8000),
        # 2000 - 1500, and 300 of pages of files that can be dropped
        (
            "0::/job\n",
            {
                "job/memory.max": f"{2000 * MB}",
                "job/memory.current": f"{1500 * MB}",
                "job/memory.stat": f"anon 7\ninactive_file {300 * MB}\n",
            },
            800,
        ),
        (
            "4:memory:/job\n",
            {
                "memory/job/memory.limit_in_bytes": f"{2000 * MB}",
                "memory/job/memory.usage_in_bytes": f"{1500 * MB}",
                "memory/memory.limit_in_bytes": f"{2**63 - 4096}",
                "memory/memory.usage_in_bytes": "0",
            },
            500,
        ),
        ("0::/job\n", {"job/memory.max": f"{MB}", "job/memory.current": f"{2 * MB}"}, 0),
    ],
)
def test_free_memory(
    group, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str], left: int
) -> None:
    group(own, files)
    available = type("Memory", (), {"available": 8000 * MB})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: available)
    assert machine.free_memory_mb() == left


SLEEPS = """
import os, sys
from densedet.core.machine import sleep_while_waiting
{before}
print(sleep_while_waiting(), os.environ.get("OMP_WAIT_POLICY"))
"""


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("", "True PASSIVE"),
        ("import torch", "False None"),  # it has read the variable already
        ("os.environ['GOMP_SPINCOUNT'] = '9'", "False None"),
        ("os.environ['OMP_WAIT_POLICY'] = 'ACTIVE'", "False ACTIVE"),
    ],
)
def test_threads_sleep_where_nobody_has_said_otherwise(before: str, said: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", SLEEPS.format(before=before)], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == said, done.stderr
