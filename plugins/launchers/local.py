"""Jobs as processes of this machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Generator, Sequence

from densedet.core.arguments import PositiveInt
from densedet.core.jobs import Job, JobOutcome, end_job, exit_code, start_job
from densedet.core.machine import usable_cores
from densedet.core.text import counted

POLL_SECONDS = 0.1


class LocalLauncher:
    """Run jobs as processes of this machine, which share its cores and its GPUs.

    A process that is alone uses all cores, as `densedet train` does. Of several, each gets its share of them
    by OMP_NUM_THREADS. A GPU has one run at a time, and a run sees its own GPU alone (CUDA_VISIBLE_DEVICES).

    Args:
        jobs: processes at a time; null: as many as the GPUs take, and 1 where there is none.
        runs_per_gpu: runs at a time on each GPU.
    """

    on_this_machine = True

    def __init__(self, *, jobs: PositiveInt | None = None, runs_per_gpu: PositiveInt = 1) -> None:
        self.jobs, self.runs_per_gpu = jobs, runs_per_gpu

    @property
    def cores(self) -> int | None:
        """The share of the cores that each of several jobs has; None where one runs at a time."""
        return self._share(self._at_once(self._slots(1)))

    def _share(self, at_once: int) -> int | None:
        if at_once == 1:
            return None
        given = os.environ.get("OMP_NUM_THREADS", "")
        most = int(given) if given.isdigit() and int(given) else usable_cores()
        return max(1, min(most, usable_cores() // at_once))

    def describe(self, jobs: Sequence[Job], /) -> str:
        """Say how many run at a time, and what each gets."""
        slots = self._slots(max((job.gpus for job in jobs), default=0))
        at_once = self._at_once(slots)
        text = f"{counted(len(jobs), 'run')} on this machine, {at_once} at a time"
        if slots:
            share = f"one of {self.runs_per_gpu} on a GPU" if self.runs_per_gpu > 1 else "a GPU of its own"
            text += f", each with {share}"
        cores = self._share(at_once)
        if cores is not None:
            text += f"{' and' if slots else ', each with'} {cores} of {counted(usable_cores(), 'core')}"
        return text

    def _slots(self, gpus: int) -> list[str]:
        """The GPU of each place for a run that wants one; empty where there is no GPU."""
        return [gpu for _ in range(self.runs_per_gpu) for gpu in visible_gpus()] if gpus else []

    def _at_once(self, slots: Sequence[str]) -> int:
        return self.jobs or len(slots) or 1

    def __call__(self, jobs: Sequence[Job], /) -> Generator[JobOutcome, None, None]:
        """Run jobs; see `densedet.core.contracts.Launcher`."""
        free = self._slots(max((job.gpus for job in jobs), default=0))
        has_gpus, at_once = bool(free), self._at_once(free)
        cores = self._share(at_once)
        waiting, running = list(jobs), dict[subprocess.Popen[bytes], tuple[Job, str | None]]()
        try:
            while waiting or running:
                while waiting and len(running) < at_once and (free or not (has_gpus and waiting[0].gpus)):
                    job = waiting.pop(0)
                    gpu = free.pop(0) if has_gpus and job.gpus else None
                    environment = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
                    if cores is not None:
                        environment["OMP_NUM_THREADS"] = str(min(cores, job.cores or cores))
                    try:
                        process = start_job(job, environment)
                    except OSError as error:
                        free += [] if gpu is None else [gpu]
                        yield JobOutcome(job, None, str(error))
                        continue
                    running[process] = job, gpu
                ended = [process for process in running if process.poll() is not None]
                for process in ended:
                    job, gpu = running.pop(process)
                    free += [] if gpu is None else [gpu]
                    yield JobOutcome(job, exit_code(process))
                if running and not ended:
                    time.sleep(POLL_SECONDS)
        finally:
            for process in running:  # all are asked before one is waited for
                with contextlib.suppress(OSError):
                    process.terminate()
            for process in running:
                end_job(process)


def visible_gpus() -> list[str]:
    """Return the GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    import torch  # here and not above: a listing of the parts does not pay for it

    return [str(number) for number in range(torch.cuda.device_count())]
