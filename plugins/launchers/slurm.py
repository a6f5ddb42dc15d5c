"""Jobs on a Slurm cluster, by submitit."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from densedet.core.arguments import NonNegativeInt, PositiveFloat, PositiveInt
from densedet.core.errors import PartError
from densedet.core.files import write_text
from densedet.core.jobs import Job, JobOutcome, run_job
from densedet.core.text import counted

TICKET = "slurm.json"
"""File in a run folder with the number of its job, by which a second `densedet compare` finds the job."""


class SlurmLauncher:
    """Submit jobs to a Slurm cluster; needs the extra ``slurm`` (submitit).

    The jobs do not depend on the terminal: where `densedet compare` is interrupted, they go on, and the same
    command waits for them. The run folders must lie on a disk that the nodes share. A job that Slurm preempts
    or that reaches its time is queued again, and goes on from its last checkpoint.

    Args:
        partition: of the cluster; null: its default.
        minutes: time limit of a job.
        cpus: cores of a job.
        memory_gb: memory of a job; null: the cluster's default.
        gpus: GPUs of a job.
        jobs: jobs that run at a time, as the limit of a job array; null: as many as the cluster runs.
        requeues: how often a job that reaches its time limit is queued again.
        parameters: further parameters, by the names that submitit has for them without "slurm_", such as
            {account: vision, constraint: a100, qos: high}; null: none.
        cluster: "slurm", or "local" for processes of this machine, to try the launcher out.
        poll_seconds: time between two questions whether a job has ended.
    """

    def __init__(
        self,
        *,
        partition: str | None = None,
        minutes: PositiveInt = 240,
        cpus: PositiveInt = 4,
        memory_gb: PositiveFloat | None = None,
        gpus: NonNegativeInt = 0,
        jobs: PositiveInt | None = None,
        requeues: NonNegativeInt = 10,
        parameters: Mapping[str, str | int | float | bool] | None = None,
        cluster: Literal["slurm", "local"] = "slurm",
        poll_seconds: PositiveFloat = 10.0,
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise PartError(
                "the launcher slurm needs submitit: pip install 'densedet[slurm]', or take launcher local"
            ) from error
        self._submitit = submitit
        self.cpus, self.gpus, self.jobs, self.requeues = cpus, gpus, jobs, requeues
        self.cluster, self.poll_seconds = cluster, poll_seconds
        self.partition, self.minutes = partition, minutes
        given = {"partition": partition, "array_parallelism": jobs, **(parameters or {})}
        self._parameters: dict[str, Any] = {
            "timeout_min": minutes,
            "cpus_per_task": cpus,
            "gpus_per_node": gpus,
            **({} if memory_gb is None else {"mem_gb": memory_gb}),
            **{f"slurm_{name}": value for name, value in given.items() if value is not None},
        }

    @property
    def cores(self) -> int:
        """Cores of a job."""
        return self.cpus

    @property
    def on_this_machine(self) -> bool:
        """Whether the jobs are processes of this machine."""
        return self.cluster == "local"

    def describe(self, jobs: Sequence[Job], /) -> str:
        """Say where the jobs run, and what each gets."""
        where = "on this machine by submitit" if self.cluster == "local" else "on Slurm"
        part = f", partition {self.partition}" if self.partition else ""
        most = f", {self.jobs} at a time" if self.jobs else ""
        gpus = f", {counted(self.gpus, 'GPU')}" if self.gpus else ""
        each = f"each with {counted(self.cpus, 'core')}{gpus} for {counted(self.minutes, 'minute')}"
        return f"{counted(len(jobs), 'job')} {where}{part}{most}, {each}"

    def __call__(self, jobs: Sequence[Job], /) -> Generator[JobOutcome, None, None]:
        """Run jobs; see `densedet.core.contracts.Launcher`."""
        running = self._running(jobs)
        new = [job for job in jobs if job not in {known for known, _ in running}]
        running += self._submit(new)
        while running:
            ended: list[tuple[Job, Any]] = [pair for pair in running if pair[1].done()]
            running = [pair for pair in running if pair not in ended]
            for job, handle in ended:
                (job.folder / TICKET).unlink(missing_ok=True)
                yield self._outcome(job, handle)
            if running and not ended:
                time.sleep(self.poll_seconds)

    def _executor(self, folder: Path) -> Any:
        executor = self._submitit.AutoExecutor(
            folder, cluster=self.cluster, slurm_max_num_timeout=self.requeues
        )
        try:
            executor.update_parameters(**self._parameters)
        except NameError as error:  # submitit's way to complain of an unknown parameter
            raise PartError(f"parameters: {error}") from error
        return executor

    def _submit(self, jobs: Sequence[Job]) -> list[tuple[Job, Any]]:
        """Submit jobs, as one array where a limit is asked for."""
        if not jobs:
            return []
        executor = self._executor(_papers(jobs[0]))
        with executor.batch():
            handles = [executor.submit(Command(job, os.getcwd(), self.cpus)) for job in jobs]
        for job, handle in zip(jobs, handles):
            write_text(job.folder / TICKET, json.dumps({"job": handle.job_id}))
        return list(zip(jobs, handles))

    def _running(self, jobs: Sequence[Job]) -> list[tuple[Job, Any]]:
        """Find the jobs that an earlier process has submitted and that have not ended."""
        found = []
        for job in jobs:
            ticket = job.folder / TICKET
            try:
                number = str(json.loads(ticket.read_text(encoding="utf-8"))["job"])
                written = ticket.stat().st_mtime
            except (OSError, ValueError, KeyError, TypeError):
                continue
            handle: Any
            if self.cluster == "local":
                process: Any = Orphan(int(number), written)
                handle = self._submitit.LocalJob(_papers(job), number, process=process)
            else:
                handle = self._submitit.SlurmJob(_papers(job), number)
            if not handle.done(force_check=True):
                found.append((job, handle))
        return found

    def _outcome(self, job: Job, handle: Any) -> JobOutcome:
        try:
            return JobOutcome(job, int(handle.result()))
        except Exception as error:  # the node has died, or the job was cancelled
            text = " ".join(str(error).split())
            return JobOutcome(job, None, f"job {handle.job_id} has no result: {text[:200]}")


def _papers(job: Job) -> Path:
    """The folder of submitit's scripts, logs and results: it stands beside the run folders."""
    return job.folder.parent / "submitit"


class Orphan:
    """A process that an earlier one has started, as submitit's local jobs look at theirs.

    Args:
        pid: of the process; another one may have its number by now.
        since: time at which it was running.
    """

    def __init__(self, pid: int, since: float) -> None:
        self.pid, self.since = pid, since

    def poll(self) -> int | None:
        """Return None where it still runs, else 0: the file of its result has the exit status."""
        import psutil

        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            if process.create_time() <= self.since and process.status() != psutil.STATUS_ZOMBIE:
                return None
        return 0


class Command:
    """A job as submitit calls it on a node.

    Args:
        job: the job.
        working_folder: where its command runs.
        threads: of its process.
    """

    def __init__(self, job: Job, working_folder: str, threads: int) -> None:
        self.job, self.working_folder, self.threads = job, working_folder, threads

    def __call__(self) -> int:
        """Run the command. Returns its exit status."""
        return run_job(self.job, self.working_folder, {"OMP_NUM_THREADS": str(self.threads)})

    def checkpoint(self) -> Any:
        """Queue the job again where Slurm preempts it: its command goes on from the last checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
