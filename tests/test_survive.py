"""A short form of survive.py, which stops runs at random moments and compares what they end with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("survive.py")


def survive(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--folder", str(folder), *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="a disk is filled by Linux's prlimit")
def test_a_killed_and_a_stopped_run_end_as_one_that_was_not(tmp_path: Path) -> None:
    said = survive(tmp_path, "--moments", "1", "--variants", "0", "--ways", "kill", "hup", "disk")
    assert "3 of 3 runs end bit-identical" in said


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="a disk is filled by Linux's prlimit")
@pytest.mark.timeout(1800)
def test_runs_with_workers(tmp_path: Path) -> None:
    said = survive(
        tmp_path, "--moments", "1", "--seed", "1", "--variants", "fork", "--ways", "kill", "term", "int"
    )
    assert "3 of 3 runs end bit-identical" in said
