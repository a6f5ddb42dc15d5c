"""What a step or an evaluation takes, tried with ever more images before all are taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from densedet.core import machine
from densedet.core.data.sampling import BatchKey
from densedet.core.distributed import synchronize
from densedet.core.errors import TooLargeError
from densedet.core.text import counted
from densedet.core.training import engine
from densedet.core.training.memory import forget_peak, peak_mb, used_mb
from densedet.core.training.precision import autocast
from densedet.core.training.run import Run
from densedet.core.types import Batch

LONGEST = 6.0
"""Seconds that a step or an evaluation's batch may take, to be taken whole; longer ones are tried with fewer
images."""


@dataclass(frozen=True)
class Trial:
    """What one act took with so many images: its seconds, the largest memory meanwhile, in MB, and the
    seconds that it took more when it was done for the first time."""

    images: int
    seconds: float
    memory_mb: float
    warming: float = 0.0


@contextmanager
def within_memory() -> Iterator[None]:
    """Have allocations fail that the machine has no memory for, where the system can (on Linux), instead of
    being killed at their first use.

    Raises:
        TooLargeError: one has failed.
    """
    limits: Any = None
    try:
        import resource

        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        now = next(1024 * int(row.split()[1]) for row in status.splitlines() if row.startswith("VmData"))
        limits = resource.getrlimit(resource.RLIMIT_DATA)
        own = now + int(machine.free_memory_mb() * 2**20)
        highest = own if limits[1] == resource.RLIM_INFINITY else min(own, limits[1])
        resource.setrlimit(resource.RLIMIT_DATA, (highest, limits[1]))
    except (ImportError, OSError, StopIteration, ValueError):  # another system
        limits = None
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_full(error):
            raise
        raise TooLargeError(
            f"this does not fit into the memory that is free ({' '.join(str(error).split())[:200]}): write a "
            f"smaller train.batch_size, evaluate.batch_size or data.input_size_wh"
        ) from error
    finally:
        if limits is not None:
            resource.setrlimit(resource.RLIMIT_DATA, limits)


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, of the machine or of a GPU."""
    words = ("allocate memory", "out of memory", "bad_alloc", "not enough memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def tried(
    act: Callable[[int], object], whole: int, run: Run, *, factor: float = 1.0
) -> tuple[list[Trial], bool]:
    """Do something with 1, 2, 4 ... images, as long as that tells more.

    Args:
        act: does it with so many images.
        whole: how many it is meant for.
        run: the run, for its device.
        factor: how often the act is done in one go.

    Returns:
        What it took, with ever more images; and whether it can be done with all of them.

    Raises:
        TooLargeError: not even the first fits into memory.
    """
    trials: list[Trial] = []
    count = 1
    while count < whole:
        forget_peak()
        before, room = used_mb(), machine.free_memory_mb()
        try:
            first, seconds = (seconds_of(partial(act, count), run) for _ in range(2))
        except (MemoryError, RuntimeError) as error:
            if not is_full(error):
                raise
            if not trials:
                raise TooLargeError(
                    f"not even {counted(count, 'image')} of the batch fits into the {room:,.0f} MB of memory "
                    f"that are free: write a smaller data.input_size_wh, or take a smaller network"
                ) from error
            return trials, False
        except ValueError:  # batch norm wants more than one value a channel
            if count > 1:
                raise
            count = 2
            continue
        trials.append(Trial(count, min(first, seconds), peak_mb(), max(0.0, first - seconds)))
        larger = whole / count
        if factor * seconds * larger <= LONGEST and (trials[-1].memory_mb - before) * larger < room:
            return trials, True
        if 2 * seconds > LONGEST:
            return trials, False
        count *= 2
    return trials, not trials


def trial_batch(run: Run) -> Batch:
    """Return this process's share of the first batch, on its device, as the network gets it."""
    images = min(run.sampler.batch_size, len(run.train_set))
    batch = run.loader.made(BatchKey(0, 0, tuple(range(images)), run.rank, run.world)).to(run.device)
    if run.settings.channels_last:
        batch.images = batch.images.contiguous(memory_format=torch.channels_last)
    return batch


def forward_backward(run: Run, model: nn.Module, batch: Batch, dtype: torch.dtype | None) -> None:
    """Take a batch forward and backward in a precision, as a step of training does."""
    with autocast(run.device, dtype):
        losses = model(batch)
    torch.stack([loss.float() for loss in losses.values()]).sum().backward()


def seconds_of(act: Callable[[], object], run: Run) -> float:
    begin = time.perf_counter()
    act()
    synchronize(run.device)
    return time.perf_counter() - begin


def try_steps(run: Run, batch: Batch) -> tuple[list[Trial], bool]:
    """Take training steps on the first images of a batch; see `tried`."""
    return tried(
        lambda count: engine.optimizer_step(run, (batch.take(range(count)),)),
        len(batch),
        run,
        factor=run.settings.accumulate,
    )


def line(trials: Sequence[Trial], value: str, start: float) -> tuple[float, float]:
    """Fit a line to what trials took. Noise makes neither number negative.

    Args:
        trials: the last two count; of a single one, ``start`` is taken for no image.
        value: "seconds" or "memory_mb".
        start: the least that it can be.

    Returns:
        The value for no image, and what each image adds.
    """
    points = [(0, start), *((trial.images, getattr(trial, value)) for trial in trials)]
    (few, low), (many, high) = points[-2:]
    slope = max(0.0, (high - low) / (many - few))
    return max(start, high - slope * many), slope


def seconds_for(trials: Sequence[Trial], images: int) -> float:
    """Return the seconds that so many images take."""
    none, each = line(trials, "seconds", 0.0)
    return none + images * each


def memory_for(trials: Sequence[Trial], images: int, start: float) -> float:
    """Return the memory that so many images take, in MB, of which ``start`` was taken before."""
    none, each = line(trials, "memory_mb", start)
    return none + images * each
