"""A launcher for tests whose jobs are forks of one process, so that torch is imported once."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Generator, Sequence
from multiprocessing.process import BaseProcess

import densedet
from densedet.core.arguments import PositiveInt
from densedet.core.jobs import LOG, Job, JobOutcome


@densedet.register("launcher", "forked")
class ForkedLauncher:
    """Run jobs as forks of one process.

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
        waiting, running = list(jobs), list[tuple[BaseProcess, Job]]()
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs:
                    job = waiting.pop(0)
                    running.append((fork(job), job))
                for process, job in list(running):
                    if process.exitcode is not None:
                        running.remove((process, job))
                        code = process.exitcode
                        yield JobOutcome(job, code if code >= 0 else 128 - code)
                time.sleep(0.02)
        finally:
            for process, _ in running:
                process.terminate()
            for process, _ in running:
                process.join()


CHILD = """
import os, sys
os.chdir(cwd)
os.environ.clear()
os.environ.update(environment)
from densedet.core.signals import end_with_parent
end_with_parent()
os.setsid()
os.makedirs(folder, exist_ok=True)
log = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(log, 1)
os.dup2(log, 2)
sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
code = 99
try:
    from densedet.tools.main import main
    code = main(words)
    sys.stdout.flush()
finally:
    os._exit(code)
"""


def fork(job: Job) -> BaseProcess:
    """Start a job: a fork of a server that has imported torch and done nothing else. This process may have
    used hotcoco, whose threads a fork of its own would lack and wait for."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["densedet.core.training.session", "densedet.core.training.judging"])
    given = {
        "cwd": os.getcwd(),
        "environment": dict(os.environ),
        "folder": str(job.folder),
        "name": LOG,
        "words": list(job.command[3:]),
    }
    process = context.Process(target=exec, args=(CHILD, given))
    process.start()
    return process
