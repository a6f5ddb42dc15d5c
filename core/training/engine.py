"""The training loop, as prose. Everything that is not training itself hangs on the hooks."""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from densedet.core import files
from densedet.core.distributed import gather_objects, mean_over_processes, synchronize
from densedet.core.errors import CheckpointError, DensedetError, TrainingError
from densedet.core.recipe.loading import Recipe
from densedet.core.report.pictures import write_run_pictures
from densedet.core.training import checkpoint, profile
from densedet.core.training.memory import keep_freed_memory
from densedet.core.training.run import Run, machine
from densedet.core.types import Batch

FIRST_TRY_BATCHES = 2


def train(recipe: Recipe, *, folder: Path | None = None) -> Run:
    """Train what the recipe describes and leave a run folder; `Run.folder` says where."""
    return _conduct(Run(recipe, folder=folder))


def resume(folder: Path, overrides: tuple[str, ...] = (), plugins: tuple[str, ...] = ()) -> Run:
    """Continue the run in ``folder`` from its last.pt, with the recipe that it was started with. plugins:
    files that it needs."""
    state = checkpoint.load(folder / "last.pt")
    recipe = checkpoint.recipe_of(state, plugins)
    if overrides:
        recipe = recipe.with_overrides(overrides)
    run = Run(recipe, resume=state, folder=folder)
    if run.progress >= 1:
        raise CheckpointError(
            f"{folder} has used its whole budget ({run.step} steps): give a larger one, e.g. "
            f"train.budget.epochs=20"
        )
    return _conduct(run)


def _conduct(run: Run) -> Run:
    """Start, fit, finish; whatever happens, the hooks hear the end."""
    keep_freed_memory()
    status = "failed"
    if run.is_main:
        files.write_text(run.folder / "recipe.yaml", run.recipe.to_yaml())
    try:
        run.hooks.hook.densedet_run_start(run=run)
        with _interruptible(run):
            if not run.resumed:
                run.evaluate(limit=FIRST_TRY_BATCHES * run.recipe.evaluate.batch_size)
            fit(run)
        status = "stopped" if run.stop_reason else "done"
        draw(run)
    finally:
        summary = summarise(run, status)
        if run.is_main:
            files.write_text(run.folder / "summary.json", json.dumps(summary, indent=1))
        run.hooks.hook.densedet_run_end(run=run, summary=summary)
    return run


def fit(run: Run) -> None:
    """Optimizer steps until the budget is used up."""
    run.detector.train()
    stream = run.stream()
    evaluated = int(run.progress * run.settings.evaluations)
    while not run.finished:
        begin = time.perf_counter()
        batches, ends = zip(*itertools.islice(stream, run.settings.accumulate))
        waited = time.perf_counter() - begin
        report = optimizer_step(run, batches)
        run.seconds += time.perf_counter() - begin
        run.note_memory()
        report |= {
            "step_seconds": time.perf_counter() - begin,
            "data_seconds": waited,
            "images": sum(map(len, batches)) * run.world,
        }
        run.hooks.hook.densedet_run_step(run=run, step=report)
        _agree(run)
        if any(ends):
            run.hooks.hook.densedet_run_epoch(run=run, epoch=run.epoch)
        due = int(run.progress * run.settings.evaluations + 1e-9)
        if due > evaluated or run.finished:
            evaluated = due
            judge(run)


def optimizer_step(run: Run, batches: tuple[Batch, ...]) -> dict[str, Any]:
    """Forward, backward and one step on ``batches`` (more than one where gradients are accumulated); what
    happened, for the hooks."""
    factor = run.schedule(run.progress, run.step)
    for group, base in zip(run.optimizer.param_groups, run.base_lrs):
        group["lr"] = base * factor
    run.optimizer.zero_grad(set_to_none=True)
    losses: dict[str, Tensor] = {}
    for batch in batches:
        batch = batch.to(run.device, non_blocking=True)
        if run.settings.channels_last:
            batch.images = batch.images.contiguous(memory_format=torch.channels_last)
        with run.autocast():
            parts = run.model(batch)
        total = torch.stack([part.float() for part in parts.values()]).sum()
        if not torch.isfinite(total):
            raise not_finite(run, parts, batch)
        run.scaler.scale(total / len(batches)).backward()
        for name, part in parts.items():
            losses[name] = losses.get(name, torch.zeros((), device=run.device)) + part.detach().float() / len(
                batches
            )
    run.scaler.unscale_(run.optimizer)
    norm = clip(run.detector, run.settings.clip_norm)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.step += 1
    if run.ema is not None:
        run.ema.update(run.detector, run.step)
    synchronize(run.device)
    values = {name: float(mean_over_processes(value)) for name, value in losses.items()}
    return {
        "losses": values,
        "loss": sum(values.values()),
        "learning_rate": run.base_lrs[0] * factor,
        "grad_norm": norm,
    }


def clip(module: nn.Module, limit: float | None) -> float:
    """Scale the gradients so that their norm is at most ``limit``; the norm they had. Where they are short
    enough they are left alone: torch's clip_grad_norm_ would multiply every one of them by 1."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))) if gradients else 0.0
    if limit is not None and norm > limit:
        torch._foreach_mul_(gradients, limit / (norm + 1e-6))
    return norm


def judge(run: Run) -> None:
    """Evaluate, keep the best, stop early where the recipe says so."""
    metrics = run.evaluate()
    run.detector.train()
    if not metrics:
        return
    run.metrics = metrics
    ap = metrics.get("AP", -1.0)
    if run.best["AP"] is None or ap > run.best["AP"]:
        run.best, run.stale = {"AP": ap, "step": run.step}, 0
    else:
        run.stale += 1
    run.hooks.hook.densedet_run_evaluated(run=run, metrics=metrics)
    patience = run.settings.early_stop
    if patience is not None and run.stale >= patience:
        run.stop(f"no better AP in {run.stale} evaluations")


def not_finite(run: Run, parts: dict[str, Tensor], batch: Batch) -> TrainingError:
    """Which loss broke, on which images, and what usually helps."""
    listed = ", ".join(f"{name} {float(value.detach()):g}" for name, value in parts.items())
    ids = ", ".join(str(i) for i in batch.image_ids[:16])
    rate = run.optimizer.param_groups[0]["lr"]
    return TrainingError(
        f"the loss is not finite at step {run.step + 1} ({listed}; image ids {ids}): nothing was "
        f"changed by this step. "
        f"The learning rate was {rate:g}: try a smaller train.optimizer.lr, a longer "
        f"train.schedule.warmup_steps or a smaller train.clip_norm"
    )


def draw(run: Run, count: int = 6) -> None:
    """Truth, predictions and score maps of the first validation images, for reports."""
    if not run.is_main:
        return
    batch, detector = run.sample_batch("val", count), run.eval_detector.eval()
    found = detector.predict(batch)  # type: ignore[operator]
    inside = detector.explain(batch) if hasattr(detector, "explain") else None  # type: ignore[operator]
    write_run_pictures(run.folder, batch, found, inside, run.classes)


def summarise(run: Run, status: str) -> dict[str, Any]:
    """What summary.json holds."""
    width, height = run.recipe.data.input_size_wh
    channels = run.recipe.data.channels
    detector = run.eval_detector
    one, many = (
        profile.blank_batch(n, channels, height, width, run.device)
        for n in (1, min(16, run.settings.batch_size))
    )
    speed = flops = None
    if status != "failed":
        flops = profile.forward_flops(detector, one)
        speed = profile.images_per_second(detector, many)
    images = run.step * run.settings.accumulate * run.settings.batch_size
    return {
        "status": status,
        "reason": run.stop_reason,
        "recipe": run.recipe.name,
        **{key: run.metrics.get(key) for key in ("AP", "AP50", "AP75", "APs", "APm", "APl", "classes")},
        "best_AP": run.best["AP"],
        "best_step": run.best["step"],
        "parameters": profile.parameter_count(run.detector),
        "flops": flops,
        "macs": None if flops is None else flops // 2,
        "images_per_second": round(images / run.seconds, 2) if run.seconds else None,
        "predict_images_per_second": None if speed is None else round(speed, 1),
        "peak_memory_mb": round(run.peak_memory_mb),
        "import_memory_mb": round(run.import_memory_mb),
        "minutes": round(run.seconds / 60, 3),
        "steps": run.step,
        "epochs": run.epoch,
        "images_seen": images,
        "dropped_boxes": run.dropped,
        "broken_images": [
            *(run.broken[i] for i in sorted(run.broken)),
            *run.metrics.get("broken_images", ()),
        ],
        "seed": run.settings.seed,
        "precision": run.precision,
        "device": str(run.device),
        "machine": machine(),
    }


def _agree(run: Run) -> None:
    """Rank 0's clock and anybody's wish to stop, so that all processes stop at the same step."""
    if run.world == 1:
        return
    clock = torch.tensor(run.seconds, dtype=torch.float32, device=run.device)
    torch.distributed.broadcast(clock, 0)
    run.seconds = float(clock)
    reasons = [reason for reason in gather_objects(run.stop_reason) if reason]
    if reasons:
        run.stop(str(reasons[0]))


@contextmanager
def _interruptible(run: Run) -> Iterator[None]:
    """The first Ctrl-C ends the run after its step, with a checkpoint; the second one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        if run.stop_reason:
            raise KeyboardInterrupt
        run.stop("interrupted")

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


__all__ = ["DensedetError", "fit", "resume", "train"]
