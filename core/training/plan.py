"""What a run will take: memory, disk and minutes, from a run in miniature and from the sizes of the data."""

from __future__ import annotations

import math
import random
import shutil
import time
from pathlib import Path
from typing import Any

from densedet.core import assembly, machine
from densedet.core.data.dataset import KEPT, DetectionDataset
from densedet.core.data.image_cache import cache_root
from densedet.core.recipe.loading import Recipe
from densedet.core.training.batch_size import with_batch_size
from densedet.core.training.rehearsal import Rehearsal, rehearse
from densedet.core.training.run import Run
from densedet.core.training.session import FIRST_TRY_BATCHES
from densedet.core.training.trials import line, memory_for, seconds_for

KEPT_MB = 0.004
"""Of each image whose boxes stay in memory, with five objects."""
SAMPLED = 100
"""Batches whose sizes are looked at, where images have sizes of their own."""
GRID = 32
"""Input sizes are proposed in multiples of it."""
SPARE = 0.02
"""Share of the memory that is left to the rest of the machine."""


def plan(recipe: Recipe, *, started: float | None = None) -> dict[str, Any]:
    """Predict what training a recipe takes on this machine, as busy as it is now.

    Args:
        recipe: what to train.
        started: the time at which this process was started, in seconds since the epoch; None: the imports
            are not counted.

    Returns:
        "recipe", "batch_size" and "note" (a sentence where it was ``auto``, or None); "steps", "epochs",
        "seconds_per_step"; "minutes" from the start to the end, and of them "minutes_starting",
        "minutes_training" (the loop, which a budget in minutes counts), "minutes_evaluating" and
        "minutes_writing" (hooks and the end); "peak_memory_mb" and of it "import_memory_mb",
        "gpu_peak_memory_mb" (None on other devices), each as in summary.json, and "free_memory_mb", beside
        what the imports take; "disk_mb" at the end, and of it "cache_mb" for images that are not cached yet,
        "meanwhile_disk_mb" and "free_disk_mb"; "too_large": sentences about what does not fit and what to
        change, empty where all does.

    Raises:
        TooLargeError: it cannot even be tried.
    """
    started = time.time() if started is None else started
    free = machine.free_memory_mb()
    recipe, told = with_batch_size(recipe)
    found, run = rehearse(recipe)
    numbers: dict[str, Any] = {"recipe": recipe.name, "batch_size": recipe.train.images, "note": told}
    numbers |= _minutes(recipe, run, found, started)
    numbers |= _memory(recipe, run, found)
    numbers["free_memory_mb"] = round(free)
    numbers |= _disk(recipe, run, found, numbers["steps"])
    numbers["too_large"] = [*_beyond_memory(recipe, run, found, numbers), *_beyond_disk(recipe, numbers)]
    return numbers


# -- minutes --------------------


def _minutes(recipe: Recipe, run: Run, found: Rehearsal, started: float) -> dict[str, Any]:
    settings, validation = recipe.train, run.val_set
    held = 0 if validation is None else len(validation)
    per_epoch = run.sampler.batches_per_epoch / settings.accumulate
    _, mean = _growth(run, run.train_set, settings.images, found)
    step = found.step if not found.training else settings.accumulate * seconds_for(found.training, _own(run))
    step *= mean
    # Data: decoded in the first epoch, read from the cache in all later ones.
    first, later = (
        _waiting(settings.accumulate * seconds, step, assembly.worker_count(recipe))
        for seconds in (
            found.later_data + found.uncached[0] * max(0.0, found.first_data - found.later_data),
            found.first_data if run.train_set.cache is None else found.later_data,
        )
    )
    steps = _steps(recipe, run, step, first, later)
    early = min(steps, per_epoch)
    training = found.warming + steps * step + early * first + max(0.0, steps - early) * later
    if settings.budget.minutes:
        training = 60 * settings.budget.minutes
    # Evaluation: a few images before the first step, all of them as often as the recipe says.
    image = seconds_for(found.evaluating, 1) if found.evaluating else found.evaluated_image
    decoding = max(0.0, found.first_data - found.later_data) / max(1, min(_own(run), len(run.train_set)))
    tried = min(held, FIRST_TRY_BATCHES * recipe.evaluate.batch_size)
    once = found.first_evaluation + held * found.uncached[1] * decoding
    evaluating = settings.evaluations * (found.evaluation + held * image) + once if held else 0.0
    parts = {
        "starting": found.started - started + tried * image,
        "training": training,
        "evaluating": evaluating,
        "writing": steps * found.hooks + found.ending,
    }
    return {
        "steps": steps,
        "epochs": round(steps / per_epoch, 2),
        "seconds_per_step": round(training / steps, 4),
        "minutes": round(sum(parts.values()) / 60, 3),
        **{f"minutes_{name}": round(seconds / 60, 3) for name, seconds in parts.items()},
    }


def _own(run: Run) -> int:
    """Images of a batch that are this process's own."""
    return math.ceil(run.settings.images / run.world)


def _waiting(data: float, step: float, workers: int) -> float:
    """Seconds that a step waits for its data, which take ``data`` seconds to make."""
    return data if not workers else max(0.0, data / workers - step)


def _steps(recipe: Recipe, run: Run, step: float, first: float, later: float) -> int:
    """Optimizer steps that the budget comes to."""
    steps = run.steps_in(recipe.train.budget)
    if steps is not None:
        return steps
    per_epoch = run.sampler.batches_per_epoch / recipe.train.accumulate
    seconds = 60 * float(recipe.train.budget.minutes or 1)
    early = min(per_epoch, seconds / (step + first))
    return max(1, math.ceil(early + max(0.0, seconds - early * (step + first)) / (step + later)))


# -- memory --------------------


def _memory(recipe: Recipe, run: Run, found: Rehearsal) -> dict[str, Any]:
    validation = run.val_set
    held = 0 if validation is None else len(validation)
    largest, _ = _growth(run, run.train_set, recipe.train.images, found)
    peaks = [found.peak_memory_mb]
    if found.training:
        peaks.append(memory_for(found.training, _own(run), found.built_mb))
    if found.evaluating:
        peaks.append(memory_for(found.evaluating, min(held, recipe.evaluate.batch_size), found.built_mb))
    peak = found.built_mb + (max(peaks) - found.built_mb) * largest
    # Boxes that stay in memory, in each process that makes batches.
    kept = sum(
        min(len(dataset), KEPT)
        for dataset in (run.train_set, validation)
        if dataset is not None and dataset.cache is not None and not dataset.transforms
    )
    peak += KEPT_MB * kept * max(1, assembly.worker_count(recipe))
    peak += max(0.0, found.image_mb) * max(0, held - 3 * recipe.evaluate.batch_size)
    gpu = found.gpu_peak_memory_mb
    return {
        "peak_memory_mb": round(peak),
        "import_memory_mb": round(found.import_memory_mb),
        "gpu_peak_memory_mb": None if gpu is None else round(gpu),
    }


def _growth(run: Run, dataset: DetectionDataset, count: int, found: Rehearsal) -> tuple[float, float]:
    """By how much the largest and the mean batch of a run have more pixels than those that were taken."""
    data = run.recipe.data
    if data.input_sizes_wh:
        sizes = [width * height for width, height in data.input_sizes_wh]
    elif data.working_size_wh:
        return 1.0, 1.0
    else:
        draw = random.Random(0)
        images = range(len(dataset))
        batches = [draw.sample(images, min(count, len(dataset))) for _ in range(SAMPLED)]
        sizes = [math.prod(dataset.canvas_wh(batch)) for batch in batches]
        if min(sizes) == max(sizes):
            return 1.0, 1.0
    return max(1.0, max(sizes) / found.pixels[0]), sum(sizes) / len(sizes) / found.pixels[1]


# -- disk --------------------


def _disk(recipe: Recipe, run: Run, found: Rehearsal, steps: int) -> dict[str, Any]:
    last, best = found.checkpoint_bytes
    if found.training or found.evaluating:
        weights = _bytes(run.detector.state_dict().values())
        states = _bytes(v for state in run.optimizer.state.values() for v in state.values())
        best = (1 + (run.ema is not None)) * weights
        last = best + states
    folder = last + best + found.other_bytes
    folder += steps * found.step_bytes + recipe.train.evaluations * found.evaluation_bytes
    places = [_existing(Path(recipe.run.folder)), _existing(cache_root(recipe.data.cache_folder))]
    return {
        "disk_mb": round((folder + found.cache_bytes) / 1e6, 1),
        "cache_mb": round(found.cache_bytes / 1e6, 1),
        # While a checkpoint is written, the one before it is there, too.
        "meanwhile_disk_mb": round((folder + max(last, best) + found.cache_bytes) / 1e6, 1),
        "free_disk_mb": round(min(shutil.disk_usage(place).free for place in places) / 1e6),
    }


def _bytes(values: Any) -> int:
    return sum(value.numel() * value.element_size() for value in values if hasattr(value, "numel"))


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())


# -- what does not fit --------------------


def _beyond_memory(recipe: Recipe, run: Run, found: Rehearsal, numbers: dict[str, Any]) -> list[str]:
    """Say what needs more memory than there is, and what would fit."""
    room = (1 - SPARE) * numbers["free_memory_mb"] + found.import_memory_mb
    if numbers["peak_memory_mb"] <= room:
        return []
    width, height = recipe.data.input_size_wh
    advice = []
    for key, trials, now in (
        ("train.batch_size", found.training, recipe.train.images),
        ("evaluate.batch_size", found.evaluating, recipe.evaluate.batch_size),
    ):
        none, each = line(trials, "memory_mb", found.built_mb) if trials else (0.0, 0.0)
        if not each or none + now * each <= room:
            continue
        fits = int((room - none) / each)
        if fits >= 1:
            parts = math.ceil(now / fits)
            fits = math.ceil(now / parts)
            more = f" with train.accumulate={parts}" if key.startswith("train") else ""
            advice.append(f"{key}={fits}{more} ({none + fits * each:,.0f} MB)")
        share = math.sqrt(max(0.0, room - found.built_mb) / (now * each))
        sides = [int(side * share) // GRID * GRID for side in (width, height)]
        if min(sides) >= GRID:
            advice.append(f"data.input_size_wh=[{sides[0]}, {sides[1]}] with the batch as it is")
    if assembly.worker_count(recipe):
        advice.append("data.workers=0, which spares the memory of the loader's processes")
    advice = advice or ["a smaller train.batch_size, evaluate.batch_size or data.input_size_wh"]
    return [
        f"memory: the run takes {numbers['peak_memory_mb']:,} MB, and {room:,.0f} MB are there: write "
        + ", or ".join(dict.fromkeys(advice))
    ]


def _beyond_disk(recipe: Recipe, numbers: dict[str, Any]) -> list[str]:
    """Say what needs more disk than is free, and what to change."""
    needed, cache, free = (numbers[key] for key in ("meanwhile_disk_mb", "cache_mb", "free_disk_mb"))
    if needed <= free:
        return []
    advice = ["run.folder on another disk"]
    if cache:
        advice.append(f"data.cache_gb=0 (then {needed - cache:,.0f} MB; images are decoded every time)")
        advice.append("data.cache_folder on another disk")
    return [
        f"disk: the run takes {needed:,.0f} MB, and {free:,.0f} MB are free for {recipe.run.folder} or the "
        f"cache: write " + ", or ".join(advice)
    ]


def lines(numbers: dict[str, Any]) -> list[str]:
    """The plan in words."""
    gpu = numbers["gpu_peak_memory_mb"]
    return [
        *([numbers["note"]] if numbers["note"] else []),
        f"{numbers['recipe']}: {numbers['steps']} steps ({numbers['epochs']:g} epochs) of "
        f"{numbers['seconds_per_step']:.3f} s",
        f"  training    {numbers['minutes_training']:8.1f} minutes",
        f"  evaluating  {numbers['minutes_evaluating']:8.1f} minutes",
        f"  all in all  {numbers['minutes']:8.1f} minutes, of which {numbers['minutes_starting']:.1f} go by "
        f"before the first step and {numbers['minutes_writing']:.1f} with writing",
        f"  memory      {numbers['peak_memory_mb']:8.0f} MB (of it {numbers['import_memory_mb']} MB "
        f"are torch and torchvision themselves)",
        *([] if gpu is None else [f"  GPU memory  {gpu:8.0f} MB"]),
        f"  disk        {numbers['disk_mb']:8.1f} MB (of it {numbers['cache_mb']:.1f} MB for the cache of "
        f"decoded images)",
    ]
