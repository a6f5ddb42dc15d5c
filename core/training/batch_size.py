"""What ``train.batch_size: auto`` comes to on this machine, and the learning rate with it."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from densedet.core import machine
from densedet.core.data.sampling import BatchKey
from densedet.core.distributed import alone, from_main, world
from densedet.core.mappings import at_path
from densedet.core.recipe.loading import Recipe
from densedet.core.recipe.sections import LR_IS_FOR
from densedet.core.training import engine
from densedet.core.training.memory import used_mb
from densedet.core.training.random_states import seeded
from densedet.core.training.run import Run
from densedet.core.training.trials import is_full, memory_for, seconds_of, try_steps, within_memory
from densedet.core.types import Batch

MOST = 512
"""Images a step of each GPU. A CPU takes `LR_IS_FOR` at most: more make no image faster there."""
FEWEST_STEPS = 8
"""Of an epoch, however large the memory is."""
SHARE = 0.8
"""Of the free memory that a step may take: evaluation and larger objects need some, too."""
GAIN = 1.1
"""Factor in images a second that twice the batch must bring on a GPU."""


def with_batch_size(recipe: Recipe) -> tuple[Recipe, str | None]:
    """Replace ``train.batch_size: auto`` by a number, and the learning rate by the one for so many images.

    The learning rate of the recipe is meant for `LR_IS_FOR` images, and grows and shrinks in proportion to
    the batch (Goyal et al. 2017).

    Args:
        recipe: a recipe; one that has a number stays as it is.

    Returns:
        The recipe with numbers, and a sentence about them; None where nothing was replaced.

    Raises:
        TooLargeError: not even one image fits into the memory.
    """
    if recipe.train.batch_size != "auto":
        return recipe, None
    processes = world()[1]

    def found() -> int:
        with alone(), seeded(recipe.train.seed):
            return _own_share(recipe, processes)

    size = from_main(found) * processes
    changes: dict[str, float] = {"train.batch_size": size}
    told = f"train.batch_size: auto is {size} on this machine"
    rate = at_path(recipe.values, "train.optimizer.lr")
    if isinstance(rate, int | float) and size != LR_IS_FOR:
        changes["train.optimizer.lr"] = rate * size / LR_IS_FOR
        told += (
            f"; train.optimizer.lr {rate:g}, meant for {LR_IS_FOR} images, grows in proportion to "
            f"{changes['train.optimizer.lr']:g}"
        )
    return recipe.with_overrides(changes), told


def _own_share(recipe: Recipe, processes: int) -> int:
    """The images that one of the processes takes."""
    run = _run_of(recipe, LR_IS_FOR)
    largest = max(1, len(run.train_set) // FEWEST_STEPS // processes)
    if run.device.type == "cuda":
        return largest_worth_it(lambda size: _on_gpu(recipe, size), start=LR_IS_FOR, most=min(MOST, largest))
    largest = min(LR_IS_FOR, largest)
    run = _run_of(recipe, largest)
    run.detector.train()
    before, free = used_mb(), SHARE * machine.free_memory_mb() / processes
    with within_memory():
        trials, whole = try_steps(run, _batch(run, largest))
    return largest_that_fits(
        lambda size: whole or memory_for(trials, size, before) - before <= free, most=largest
    )


def _batch(run: Run, size: int) -> Batch:
    return run.loader.made(BatchKey(0, 0, tuple(range(size))))


def _run_of(recipe: Recipe, size: int) -> Run:
    run = Run(recipe.with_overrides({"train.batch_size": size, "run.hooks": [], "data.workers": 0}))
    run.step = 1  # the first step's warnings are given when it trains
    return run


def largest_that_fits(fits: Callable[[int], bool], *, most: int) -> int:
    """Return the largest of ``most``, a half, a quarter ... that fits; 1 where none does."""
    while most > 1 and not fits(most):
        most //= 2
    return most


def largest_worth_it(speed: Callable[[int], float | None], *, start: int, most: int) -> int:
    """Double a batch while it fits and images get faster by `GAIN`; halve it where ``start`` does not fit.

    Args:
        speed: images a second at a batch size; None: it does not fit.
        start: the first size.
        most: the largest size.
    """
    size = min(start, most)
    best = speed(size)
    if best is None:
        return largest_that_fits(lambda fewer: speed(fewer) is not None, most=max(1, size // 2))
    while 2 * size <= most and (faster := speed(2 * size)) is not None and faster >= GAIN * best:
        size, best = 2 * size, faster
    return size


def _on_gpu(recipe: Recipe, size: int) -> float | None:
    """Images a second of training steps on this GPU; None where they do not fit."""
    run: Any = None
    batch: Any = None
    try:
        torch.cuda.reset_peak_memory_stats()
        run = _run_of(recipe, size)
        run.detector.train()
        room = SHARE * (torch.cuda.mem_get_info(run.device)[0] + torch.cuda.memory_reserved(run.device))
        batch = _batch(run, size).to(run.device)
        seconds = [seconds_of(partial(engine.optimizer_step, run, (batch,)), run) for _ in range(5)][2:]
        taken = torch.cuda.max_memory_reserved(run.device)
        return size / statistics.median(seconds) if taken <= room else None
    except (MemoryError, RuntimeError) as error:
        if not is_full(error):
            raise
        return None
    finally:
        run = batch = None
        gc.collect()
        torch.cuda.empty_cache()
