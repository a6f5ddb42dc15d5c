"""Jobs on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from typing import Any

from densedet.core.arguments import PositiveInt
from densedet.core.errors import PartError
from densedet.core.jobs import Job, JobOutcome, run_job
from densedet.core.text import counted


class RayLauncher:
    """Run jobs as tasks of a Ray cluster; needs the extra ``ray``.

    Ray starts as many as have room. The run folders must lie on a disk that the machines share. The tasks end
    with `densedet compare`, and the same command goes on from their checkpoints.

    Args:
        address: of a cluster, e.g. auto or ray://HOST:10001; null: Ray is started on this machine, unless
            this process has started it already.
        cpus: cores of a job; Ray runs as many jobs at a time as this leaves room for.
        runs_per_gpu: runs at a time on each GPU.
    """

    def __init__(
        self, *, address: str | None = None, cpus: PositiveInt = 1, runs_per_gpu: PositiveInt = 1
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise PartError(
                "the launcher ray needs Ray: pip install 'densedet[ray]', or take launcher local"
            ) from error
        self._ray: Any = ray
        self.address, self.cpus, self.runs_per_gpu = address, cpus, runs_per_gpu

    @property
    def cores(self) -> int:
        """Cores of a job."""
        return self.cpus

    @property
    def on_this_machine(self) -> bool:
        """Whether Ray runs on this machine alone."""
        return self.address is None and "RAY_ADDRESS" not in os.environ

    def describe(self, jobs: Sequence[Job], /) -> str:
        """Say where the jobs run, and what each gets."""
        where = f"of the cluster {self.address}" if self.address else "of Ray on this machine"
        return f"{counted(len(jobs), 'task')} {where}, each with {counted(self.cpus, 'core')}"

    def __call__(self, jobs: Sequence[Job], /) -> Generator[JobOutcome, None, None]:
        """Run jobs; see `densedet.core.contracts.Launcher`."""
        ray, ours = self._ray, not self._ray.is_initialized()
        if ours:
            ray.init(address=self.address, include_dashboard=False, log_to_driver=False)
        try:
            has_gpus = ray.cluster_resources().get("GPU", 0) > 0
            running = {}
            for job in jobs:
                share = 1 / self.runs_per_gpu if has_gpus and job.gpus else 0
                task = ray.remote(num_cpus=self.cpus, num_gpus=share, max_retries=0)(run_job)
                running[task.remote(job, os.getcwd(), {"OMP_NUM_THREADS": str(self.cpus)})] = job
            try:
                while running:
                    ended, _ = ray.wait(list(running))
                    for reference in ended:
                        yield self._outcome(running.pop(reference), reference)
            finally:
                for reference in running:  # run_job ends its command when it is interrupted
                    ray.cancel(reference)
                if running:
                    ray.wait(list(running), num_returns=len(running))
        finally:
            if ours:
                ray.shutdown()

    def _outcome(self, job: Job, reference: Any) -> JobOutcome:
        try:
            return JobOutcome(job, int(self._ray.get(reference)))
        except Exception as error:  # the machine has died
            return JobOutcome(job, None, " ".join(str(error).split())[:200])
