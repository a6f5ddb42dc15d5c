"""A run in miniature: the same parts, steps, evaluations and hooks as in the run, a few of each, in a folder
that is deleted. What it took is what `densedet.core.training.plan` goes by."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from densedet.core import assembly
from densedet.core.annotations.views import Subset
from densedet.core.data.dataset import DetectionDataset
from densedet.core.data.loader import eval_loader
from densedet.core.data.sampling import BatchKey
from densedet.core.recipe.loading import Recipe
from densedet.core.training import engine, session
from densedet.core.training.compiling import compile_network
from densedet.core.training.evaluation import evaluate_on
from densedet.core.training.memory import forget_peak, keep_freed_memory, peak_mb, used_mb
from densedet.core.training.probing import choose_precision
from densedet.core.training.run import Run
from densedet.core.training.trials import Trial, seconds_of, tried, try_steps, within_memory
from densedet.core.types import Batch

STEPS, SECONDS = 30, 4.0
"""Timed steps: so many at most, and so long at most, but `FEWEST` at least."""
FEWEST, UNTIMED = 3, 2
"""The first steps build kernels and states that later ones find."""
FAR = 2_000_000
"""Steps of the budget that a rehearsal pretends to have. It stands in the middle of it, where all parameters
train, and never comes to an end."""
CHECKPOINTS = ("last.pt", "best.pt")


@dataclass
class Rehearsal:
    """What a run in miniature has measured. Seconds are those of the machine as busy as it was.

    Attributes:
        import_memory_mb: memory before anything was built.
        built_mb: memory when everything was built, before the first step.
        started: when it was, in seconds since the epoch.
        uncached: shares of the training and the validation images that were not in the cache, 0..1.
        cache_bytes: what they will take there.
        peak_memory_mb: the largest memory of all that was done whole.
        gpu_peak_memory_mb: the same on the GPU; None on other devices.
        pixels: the largest and the mean size of the batches that were taken, in pixels of one image.
        warming: seconds that the first steps take more than later ones.
        step: seconds of a step that are not spent waiting for data.
        first_data: seconds to make a batch whose images are not cached.
        later_data: seconds to make one whose images are.
        hooks: seconds of the hooks after a step.
        evaluation: seconds of an evaluation beside its images, its hooks included.
        evaluated_image: seconds for each of its images.
        image_mb: memory that an evaluation needs more for each image.
        first_evaluation: seconds that the first one takes more.
        ending: seconds from the last step to the end, evaluation not counted.
        step_bytes: of files, by which a step makes the run folder grow.
        evaluation_bytes: the same of an evaluation.
        other_bytes: the other files of the run folder, without checkpoints.
        checkpoint_bytes: of last.pt and of best.pt.
        training: trials of a training step with fewer images than the recipe's, where that would take too
            long or too much memory; empty where it was taken whole.
        evaluating: the same of an evaluation's batch.
    """

    import_memory_mb: float = 0.0
    built_mb: float = 0.0
    started: float = 0.0
    uncached: tuple[float, float] = (1.0, 1.0)
    cache_bytes: float = 0.0
    peak_memory_mb: float = 0.0
    gpu_peak_memory_mb: float | None = None
    pixels: tuple[float, float] = (1.0, 1.0)
    warming: float = 0.0
    step: float = 0.0
    first_data: float = 0.0
    later_data: float = 0.0
    hooks: float = 0.0
    evaluation: float = 0.0
    evaluated_image: float = 0.0
    image_mb: float = 0.0
    first_evaluation: float = 0.0
    ending: float = 0.0
    step_bytes: float = 0.0
    evaluation_bytes: float = 0.0
    other_bytes: float = 0.0
    checkpoint_bytes: tuple[int, int] = (0, 0)
    training: list[Trial] = field(default_factory=list)
    evaluating: list[Trial] = field(default_factory=list)


def rehearse(recipe: Recipe) -> tuple[Rehearsal, Run]:
    """Run a recipe in miniature. Nothing is left behind but images in the cache.

    Of the hooks those are called that write into the run folder alone (``in_folder = True``).

    Returns:
        What it took, and the run, with its whole data again.

    Raises:
        DensedetError: what the run itself would raise.
        TooLargeError: not even one image fits into the memory.
    """
    keep_freed_memory()
    own = recipe.with_overrides(
        [f"train.budget.{name}=null" for name in ("epochs", "minutes")] + [f"train.budget.steps={FAR}"]
    )
    found = Rehearsal()
    with tempfile.TemporaryDirectory() as name:
        run = Run(own, folder=Path(name) / "run")
        run.step = FAR // 2
        validation = run.val_set
        for hook in run.hooks.get_plugins():
            if not getattr(hook, "in_folder", False):
                run.hooks.unregister(hook)
        found.import_memory_mb = run.import_memory_mb
        caches = [None if dataset is None else dataset.cache for dataset in (run.train_set, validation)]
        train, val = (1.0 if cache is None else cache.missing() for cache in caches)
        found.uncached = train, val
        found.cache_bytes = sum(
            cache.bytes * share for cache, share in zip(caches, found.uncached) if cache is not None
        )
        with run.held, session.process_settings(run), within_memory():
            _begin(run, recipe, found)
            _time_data(run, found)
            sizes: list[int] = []
            batches = _noted(run.batches(), sizes)
            first = next(batches)[0]
            trials, whole = try_steps(run, first)
            found.warming = trials[0].warming if trials else 0.0
            found.training = [] if whole else trials
            found.peak_memory_mb = max([found.peak_memory_mb, *(trial.memory_mb for trial in trials)])
            if not found.training:
                _take_steps(run, batches, found)
            run.confirm()
            if validation is not None:
                found.evaluating = _evaluations_of_fewer(run, validation, found)
                if not (found.training or found.evaluating):
                    _take_evaluations(run, validation, found)
            if not (found.training or found.evaluating):
                _end(run, found)
            found.pixels = max(sizes), statistics.fmean(sizes)
            found.peak_memory_mb = max(found.peak_memory_mb, peak_mb())
        found.gpu_peak_memory_mb = run.gpu_peak_memory_mb
    run.evaluate_from_now_on(validation)
    return found, run


def _noted(batches: Iterator[tuple[Batch, bool]], sizes: list[int]) -> Iterator[tuple[Batch, bool]]:
    """Hand batches on and note the pixels of an image of each."""
    for batch, ends in batches:
        sizes.append(batch.images.shape[-2] * batch.images.shape[-1])
        yield batch, ends


def _begin(run: Run, recipe: Recipe, found: Rehearsal) -> None:
    run.start()
    choose_precision(run, recipe.train.budget)
    compile_network(run, recipe.train.budget)
    run.hooks.hook.densedet_run_start(run=run)
    run.detector.train()
    found.started, found.built_mb = time.time(), used_mb()
    found.other_bytes = _bytes(run.folder)
    found.peak_memory_mb = peak_mb()


def _evaluations_of_fewer(run: Run, validation: DetectionDataset, found: Rehearsal) -> list[Trial]:
    """Try evaluations of the first images, in one batch."""
    recipe = run.recipe

    def act(count: int) -> None:
        batches = eval_loader(validation, batch_size=count, pad_to=recipe.data.pad_to, limit=count)
        evaluate_on(recipe, run.eval_detector, validation, run.classes, batches, device=run.device)

    trials, whole = tried(act, min(recipe.evaluate.batch_size, len(validation)), run)
    found.peak_memory_mb = max([found.peak_memory_mb, *(trial.memory_mb for trial in trials)])
    return [] if whole else trials


def _take_steps(run: Run, batches: Iterator[tuple[Batch, bool]], found: Rehearsal) -> None:
    """Take whole steps with their hooks."""
    forget_peak()
    reports = [engine.advance(run, batches) for _ in range(UNTIMED)]
    before, taken, own, others = _bytes(run.folder), 0, [], []
    begin = time.perf_counter()
    while taken < FEWEST or (taken < STEPS and time.perf_counter() - begin < SECONDS):
        now = time.perf_counter()
        report = engine.advance(run, batches)
        own.append(report["step_seconds"] - report["data_seconds"])
        others.append(time.perf_counter() - now - report["step_seconds"])
        taken += 1
    found.step, found.hooks = statistics.fmean(own), statistics.fmean(others)
    begun = sum(report["step_seconds"] - report["data_seconds"] for report in reports)
    found.warming += max(0.0, begun - UNTIMED * found.step)
    found.step_bytes = (_bytes(run.folder) - before) / taken
    found.peak_memory_mb = max(found.peak_memory_mb, peak_mb())


def _take_evaluations(run: Run, validation: DetectionDataset, found: Rehearsal) -> None:
    """Evaluate a few images twice, and more of them once, each time with the hooks."""
    few = min(run.recipe.evaluate.batch_size, len(validation))
    many = min(3 * few, len(validation))
    validation.samples(0, range(many), replacing=False)  # from now on they are cached
    files, seconds, memory = [_bytes(run.folder)], [], []
    for count in (few, few, *([many] if many > few else [])):
        run.evaluate_from_now_on(_first(run, validation, count))
        seconds.append(seconds_of(lambda: engine.evaluate(run), run))
        files.append(_bytes(run.folder))
        memory.append(peak_mb())
    if many > few:
        found.evaluated_image = max(0.0, seconds[2] - seconds[1]) / (many - few)
        found.image_mb = (memory[2] - memory[1]) / (many - few)
    else:
        found.evaluated_image = 0.0
    found.evaluation = max(0.0, seconds[1] - few * found.evaluated_image)
    found.first_evaluation = max(0.0, seconds[0] - seconds[1])
    found.evaluation_bytes = files[2] - files[1]
    found.peak_memory_mb = max(found.peak_memory_mb, *memory)


def _first(run: Run, dataset: DetectionDataset, count: int) -> DetectionDataset:
    return assembly.make_dataset(run.recipe, Subset(dataset.source, range(count)), run.classes)


def _end(run: Run, found: Rehearsal) -> None:
    """End the run with all that is written then."""
    before = _bytes(run.folder)
    found.ending = seconds_of(lambda: session.finish(run, "stopped", "rehearsed"), run)
    found.other_bytes += _bytes(run.folder) - before
    last, best = (_size(run.folder / name) for name in CHECKPOINTS)
    found.checkpoint_bytes = last, best


def _time_data(run: Run, found: Rehearsal) -> None:
    """Make batches of the last images, before a step has had them: they are decoded once at most. What is
    done for the first time of all does not count."""
    own, images = run.sampler.batch_size // run.world, len(run.train_set)
    ends = [images - number * own for number in range(3) if images > number * own]
    keys = [BatchKey(0, 0, tuple(range(max(0, end - own), end))) for end in ends]
    found.first_data = [seconds_of(partial(run.loader.made, key), run) for key in keys][-1]
    found.later_data = min(seconds_of(partial(run.loader.made, key), run) for key in keys)


def _bytes(folder: Path) -> int:
    """The size of the files in a folder, checkpoints not counted."""
    return sum(
        _size(Path(at) / name)
        for at, _, names in os.walk(folder)
        for name in names
        if name not in CHECKPOINTS
    )


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0
