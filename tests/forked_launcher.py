"""A launcher for tests whose jobs are forks of this process, so that torch is imported once."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator, Sequence

import densedet
from densedet.core.arguments import PositiveInt
from densedet.core.jobs import LOG, Job, JobOutcome
from densedet.core.signals import end_with_parent


@densedet.register("launcher", "forked")
class ForkedLauncher:
    """Run jobs as forks of this process.

    Args:
        jobs: at a time.
    """

    on_this_machine = True
    cores = None

    def __init__(self, *, jobs: PositiveInt = 1) -> None:
        self.jobs = jobs

    def describe(self, jobs: Sequence[Job], /) -> str:
        """Say how many there are."""
        return f"{len(jobs)} forks"

    def __call__(self, jobs: Sequence[Job], /) -> Generator[JobOutcome, None, None]:
        """Run jobs; see `densedet.core.contracts.Launcher`."""
        waiting, running = list(jobs), dict[int, Job]()
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs:
                    job = waiting.pop(0)
                    running[fork(job)] = job
                for pid in list(running):
                    ended, status = os.waitpid(pid, os.WNOHANG)
                    if ended:
                        code = os.waitstatus_to_exitcode(status)
                        yield JobOutcome(running.pop(pid), code if code >= 0 else 128 - code)
                time.sleep(0.02)
        finally:
            for pid in running:
                os.kill(pid, 15)
            for pid in running:
                os.waitpid(pid, 0)


def fork(job: Job) -> int:
    """Start a job. Returns its process' id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        end_with_parent()
        os.setsid()
        job.folder.mkdir(parents=True, exist_ok=True)
        log = os.open(job.folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        from densedet.tools.main import main

        code = main(job.command[3:])
        sys.stdout.flush()
    finally:
        os._exit(code)
