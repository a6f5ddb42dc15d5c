"""Commands that a launcher runs, and what came of them. No torch here."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from densedet.core.signals import end_with_parent

LOG = "log.txt"
"""File in a run folder that gets what the run's command prints."""


@dataclass(frozen=True)
class Job:
    """One command to run.

    A job may be run again at any time: `densedet train --folder` goes on where the last process ended.

    Attributes:
        name: of the run, for messages; jobs that are handed over together have different names.
        command: the words of the command; no shell reads them.
        folder: the run folder. It is made where it is missing, and its log.txt grows by what the command
            prints.
        cores: CPU cores that the command can use; None: as many as the launcher gives.
        gpus: GPUs that the command can use, 0 or 1. A machine without one runs it all the same.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    cores: int | None = None
    gpus: int = 0


@dataclass(frozen=True)
class JobOutcome:
    """What came of a job.

    Attributes:
        job: the job.
        code: exit status of its command, 128 + the number of a signal where one ended it, as a shell has it;
            None where the engine has lost the job, or never ran it.
        reason: what the engine says of a job without an exit status; empty for all others.
    """

    job: Job
    code: int | None
    reason: str = ""


def start_job(
    job: Job, environment: dict[str, str] | None = None, *, working_folder: str | None = None
) -> subprocess.Popen[bytes]:
    """Start a job as a process of this machine.

    A signal to this process' group does not reach it: whoever started it ends it by `end_job`. It also gets
    SIGTERM where this process is killed (on Linux).

    Args:
        job: the job.
        environment: variables beside those of this process.
        working_folder: where the command runs; None: where this process does.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    with open(job.folder / LOG, "ab") as log:
        return subprocess.Popen(
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            cwd=working_folder,
            start_new_session=True,
            preexec_fn=end_with_parent if os.name == "posix" else None,
        )


def end_job(process: subprocess.Popen[bytes]) -> None:
    """Ask a job to end, and wait until it has written its checkpoint. An interrupt meanwhile kills it."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise


def exit_code(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process. Returns its exit status, 128 + the number of a signal that has ended it."""
    code = process.wait()
    return code if code >= 0 else 128 - code


def run_job(job: Job, working_folder: str, environment: dict[str, str] | None = None) -> int:
    """Run a job to its end, for launchers whose engine calls a function on some machine.

    Args:
        job: the job, with paths relative to ``working_folder``.
        working_folder: where the command runs.
        environment: variables beside those of this process.

    Returns:
        Its exit status, see `JobOutcome`. Whatever ends this call ends the command first.
    """
    placed = Job(job.name, job.command, Path(working_folder) / job.folder, job.cores, job.gpus)
    process = start_job(placed, environment, working_folder=working_folder)
    try:
        return exit_code(process)
    finally:
        end_job(process)
