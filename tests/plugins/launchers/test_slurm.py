"""Jobs by submitit on this machine: they outlive the process that has submitted them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from densedet.core.jobs import Job
from densedet.plugins.launchers import slurm

pytest.importorskip("submitit")

WORK = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
with open(folder / "begun", "a") as file:
    file.write("x")
while not (folder / "go").exists():
    time.sleep(0.02)
sys.exit(3)
"""
SUBMIT = """
import pathlib, sys
from densedet.core.jobs import Job
from densedet.plugins.launchers.slurm import SlurmLauncher
folder = pathlib.Path(sys.argv[1])
job = Job("a", (sys.executable, "-S", *sys.argv[2:]), folder / "run")
list(SlurmLauncher(cluster="local", poll_seconds=0.1, cpus=1)([job]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="submitit knows no Windows")
def test_a_running_job_is_found_again_and_not_started_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["-c", WORK, str(tmp_path)]
    first = subprocess.Popen([sys.executable, "-c", SUBMIT, str(tmp_path), *words])
    ticket = tmp_path / "run" / slurm.TICKET
    while not ((tmp_path / "begun").exists() and ticket.exists()):
        assert first.poll() is None
        time.sleep(0.02)
    first.kill()
    first.wait()
    sleep = time.sleep

    def release(seconds: float) -> None:
        """The job ends as soon as the second launcher waits for it."""
        (tmp_path / "go").touch()
        sleep(0.05)

    monkeypatch.setattr(time, "sleep", release)
    job = Job("a", (sys.executable, "-S", *words), tmp_path / "run")
    launcher = slurm.SlurmLauncher(cluster="local", poll_seconds=0.1, cpus=1)
    [outcome] = launcher([job])
    assert (outcome.job, outcome.code) == (job, 3)
    assert (tmp_path / "begun").read_text() == "x"
    assert not ticket.exists()


def test_a_ticket_of_a_process_that_has_ended_is_none(tmp_path: Path) -> None:
    """Its number may be another process' by now, one that began later."""
    job = Job("a", (sys.executable, "-S", "-c", "pass"), tmp_path / "run")
    job.folder.mkdir()
    ended = subprocess.Popen([sys.executable, "-S", "-c", "pass"])
    ended.wait()
    launcher = slurm.SlurmLauncher(cluster="local")
    for text in (f'{{"job": {ended.pid}}}', "no JSON", "{}"):
        (job.folder / slurm.TICKET).write_text(text)
        assert launcher._running([job]) == []
    assert slurm.Orphan(os.getpid(), time.time()).poll() is None
    assert slurm.Orphan(os.getpid(), 1.0).poll() == 0
