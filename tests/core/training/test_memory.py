"""The allocator keeps what a step frees; asked of a fresh process, since it cannot be undone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from densedet.core.training.memory import peak_mb, used_mb

FAULTS = """
import ctypes, resource
from densedet.core.training.memory import keep_freed_memory
print(keep_freed_memory())
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def faults(times, size=16 * 2**20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        block = libc.malloc(size)
        ctypes.memset(block, 1, size)
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(1, size=4 * 2**20)
faults(1)
print(faults(3))
"""
"""Three times 16 MB in pages of 4 KB are 12,288 faults, unless the pages are still there."""


PEAK = """
from densedet.core.training.memory import forget_peak, peak_mb, used_mb
forget_peak()
before = used_mb()
held = b"x" * (60 * 2**20)
del held
print(before, peak_mb())
forget_peak()
print(peak_mb())
"""


def test_the_memory_of_a_child_counts() -> None:
    before = used_mb()
    code = "held = b'x' * (50 * 2**20); print(len(held), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline() == b"52428800\n"
        assert used_mb() > before + 49
        child.communicate(b"\n")
    assert 0 < used_mb() < before + 49
    assert peak_mb() > 10  # Python alone takes more


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems never forget a peak")
def test_the_peak_is_what_was_freed_since_and_can_be_forgotten() -> None:
    before, peak, forgotten = map(float, fresh(PEAK))
    assert 59 < peak - before < 70
    assert forgotten < before + 10


def fresh(code: str, **environment: str) -> list[str]:
    """The words that code prints in a process of its own, whose memory no other test has used."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env={**clean, **environment}
    ).stdout.split()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's options")
def test_a_freed_block_is_used_again_without_page_faults() -> None:
    took_effect, faults = fresh(FAULTS)
    if took_effect == "False":
        pytest.skip("another C library than glibc")
    assert int(faults) < 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's options")
def test_the_users_own_settings_win() -> None:
    assert fresh(FAULTS, MALLOC_TRIM_THRESHOLD_="1000000")[0] == "False"
