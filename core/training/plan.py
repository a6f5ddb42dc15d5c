"""What a run will take, from two probe steps and one probe evaluation: memory, disk, minutes. Nothing is left
behind."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from densedet.core.recipe.loading import Recipe
from densedet.core.training import engine
from densedet.core.training.memory import keep_freed_memory, peak_mb, used_mb
from densedet.core.training.run import Run

PROBES = 2
"""The first step pays for warm-up; the last one is the one that counts."""


def plan(recipe: Recipe) -> dict[str, Any]:
    """{"steps", "epochs", "minutes_training", "minutes_evaluating", "peak_memory_mb", "import_memory_mb",
    "disk_mb", ...}.

    minutes are for this machine as busy as it is now. disk: last.pt and best.pt, twice over while one
    replaces the other, and a line of metrics a step; TensorBoard's pictures are not counted.
    """
    keep_freed_memory()  # as training does: the probe steps take the time and the memory that its steps will
    quiet = recipe.with_overrides(["run.hooks=[]"])
    with tempfile.TemporaryDirectory() as folder:
        run = Run(quiet, folder=Path(folder))
        run.detector.train()
        batches = run.batches()
        seconds = 0.0
        for _ in range(PROBES):
            begin = time.perf_counter()
            engine.optimizer_step(run, tuple(next(batches)[0] for _ in range(run.settings.accumulate)))
            seconds = time.perf_counter() - begin
        memory = max(used_mb(), peak_mb())
        evaluation = _evaluation_seconds(run)
        weights = sum(v.numel() * v.element_size() for v in run.detector.state_dict().values())
        states = sum(
            v.numel() * v.element_size()
            for s in run.optimizer.state.values()
            for v in s.values()
            if hasattr(v, "numel")
        )
    steps, epochs, training = _length(run, seconds)
    copies = 1 + (run.ema is not None)
    return {
        "recipe": recipe.name,
        "steps": steps,
        "epochs": round(epochs, 2),
        "seconds_per_step": round(seconds, 4),
        "minutes_training": round(training / 60, 2),
        "minutes_evaluating": round(evaluation * (run.settings.evaluations + 1) / 60, 2),
        "peak_memory_mb": round(memory),
        "import_memory_mb": round(run.import_memory_mb),
        "disk_mb": round((2 * (2 * copies * weights + states) + 400 * steps) / 1e6, 1),
    }


def _length(run: Run, seconds: float) -> tuple[int, float, float]:
    """(optimizer steps, epochs, seconds of training) that the budget comes to at ``seconds`` a step."""
    budget = run.settings.budget
    per_epoch = run.sampler.batches_per_epoch / run.settings.accumulate
    if budget.minutes:
        steps = max(1, round(60 * budget.minutes / seconds))
        return steps, steps / per_epoch, 60 * budget.minutes
    steps = budget.steps or -(
        -round((budget.epochs or 0) * run.sampler.batches_per_epoch) // run.settings.accumulate
    )
    return steps, steps / per_epoch, steps * seconds


def _evaluation_seconds(run: Run) -> float:
    if run.val_set is None:
        return 0.0
    count = min(len(run.val_set), run.recipe.evaluate.batch_size)
    begin = time.perf_counter()
    run.evaluate(limit=count)
    return (time.perf_counter() - begin) * len(run.val_set) / count


def lines(numbers: dict[str, Any]) -> list[str]:
    """The plan in words."""
    return [
        f"{numbers['recipe']}: {numbers['steps']} steps ({numbers['epochs']:g} epochs) of "
        f"{numbers['seconds_per_step']:.3f} s",
        f"  training    {numbers['minutes_training']:8.1f} minutes",
        f"  evaluating  {numbers['minutes_evaluating']:8.1f} minutes",
        f"  memory      {numbers['peak_memory_mb']:8.0f} MB (of it {numbers['import_memory_mb']} MB "
        f"are torch and torchvision themselves)",
        f"  disk        {numbers['disk_mb']:8.1f} MB",
    ]
