"""The training loop. Everything that is not training itself hangs on the hooks."""

from __future__ import annotations

import contextlib
import itertools
import time
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from densedet.core.distributed import gather_objects, mean_over_processes, synchronize
from densedet.core.errors import TrainingError
from densedet.core.training.evaluation import metric_value
from densedet.core.training.first_batch import first_batch_warnings
from densedet.core.training.run import Run
from densedet.core.types import Batch


def fit(run: Run) -> None:
    """Take optimizer steps until the budget is used."""
    run.detector.train()
    batches = run.batches()
    evaluations = run.evaluations_due
    while not run.finished:
        # Data: the loader's worker processes work ahead; what is waited for here is what they are short of.
        begin = time.perf_counter()
        taken, ends = zip(*itertools.islice(batches, run.settings.accumulate))
        waited = time.perf_counter() - begin
        # Step. The clock stops here: a budget in minutes pays for neither hooks nor evaluations.
        report = optimizer_step(run, taken)
        run.seconds += time.perf_counter() - begin
        run.note_memory()
        report |= {"step_seconds": time.perf_counter() - begin, "data_seconds": waited}
        report["images"] = sum(map(len, taken)) * run.world
        run.hooks.hook.densedet_run_step(run=run, step=report)
        _agree(run)
        if any(ends):
            run.hooks.hook.densedet_run_epoch(run=run, epoch=run.epoch)
        # Evaluation: spread evenly over the budget, and once more where the run ends.
        if run.evaluations_due > evaluations or run.finished:
            evaluations = run.evaluations_due
            evaluate(run)


def optimizer_step(run: Run, batches: tuple[Batch, ...]) -> dict[str, Any]:
    """Run forward and backward on ``batches`` (several where gradients are accumulated), then one step.

    Returns:
        "losses" by name, their sum "loss", "learning_rate" (of the first group) and "grad_norm" (before
        clipping), for the hooks.

    Raises:
        TrainingError: the loss is not finite; the weights are then those before the step.
    """
    # Learning rate: a function of progress alone, so that a resumed run cannot be off.
    factor = run.schedule(run.progress, run.step)
    for group, base in zip(run.optimizer.param_groups, run.base_lrs):
        group["lr"] = base * factor
    run.hand_on_progress(run.detector)
    run.optimizer.zero_grad(set_to_none=True)
    losses: dict[str, Tensor] = {}
    for number, batch in enumerate(batches, start=1):
        batch = batch.to(run.device, non_blocking=True)
        if run.step == 0 and number == 1 and run.is_main:
            for warning in first_batch_warnings(run.detector, batch):
                warnings.warn(warning, RuntimeWarning, stacklevel=2)
        if run.settings.channels_last:
            batch.images = batch.images.contiguous(memory_format=torch.channels_last)
        # Processes exchange gradients once a step, with the last batch.
        with _unsynchronised(run) if number < len(batches) else contextlib.nullcontext():
            # Forward, in the training precision; the detector leaves it for matching and losses.
            with run.autocast():
                parts = run.model(batch)
            total = torch.stack([part.float() for part in parts.values()]).sum()
            if not torch.isfinite(total):
                raise not_finite(run, parts, batch)
            # Backward. Scaled, since small float16 gradients would round to 0; the scale is 1 in other
            # precisions.
            run.scaler.scale(total / len(batches)).backward()
        for name, part in parts.items():
            share = part.detach().float() / len(batches)
            losses[name] = losses[name] + share if name in losses else share
    # Groups whose time has not come yet lose their gradients: the optimizer passes them over.
    for group in run.optimizer.param_groups:
        if run.progress < group.get("start", 0.0):
            for parameter in group["params"]:
                parameter.grad = None
    # Unscale before clipping: the limit is meant for the true gradients.
    run.scaler.unscale_(run.optimizer)
    norm = clip_gradients(run.detector, run.settings.clip_norm)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.step += 1
    if run.ema is not None:
        run.ema.update(run.detector, run.step)
    synchronize(run.device)
    values = {name: float(mean_over_processes(value)) for name, value in losses.items()}
    rate = run.base_lrs[0] * factor
    return {"losses": values, "loss": sum(values.values()), "learning_rate": rate, "grad_norm": norm}


def _unsynchronised(run: Run) -> contextlib.AbstractContextManager[Any]:
    """Keep DistributedDataParallel from averaging the gradients of this backward pass over the processes."""
    wrapped = isinstance(run.model, nn.parallel.DistributedDataParallel)
    return run.model.no_sync() if wrapped else contextlib.nullcontext()  # type: ignore[operator]


def clip_gradients(module: nn.Module, limit: float | None) -> float:
    """Scale gradients in place so that their total L2 norm is at most ``limit``.

    Gradients that are short enough are not touched, which saves one pass over them.

    Returns:
        The norm before scaling.
    """
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))) if gradients else 0.0
    if limit is not None and norm > limit:
        torch._foreach_mul_(gradients, limit / (norm + 1e-6))
    return norm


def evaluate(run: Run) -> None:
    """Evaluate, keep the best result, and stop early where the recipe says so."""
    metrics = run.evaluate()
    run.detector.train()
    if not metrics:
        return
    run.metrics = metrics
    value = metric_value(run.recipe, metrics)
    sign = 1 if run.recipe.evaluate.higher_is_better else -1
    if run.best["value"] is None or sign * value > sign * run.best["value"]:
        run.best, run.stale = {"value": value, "step": run.step}, 0
    else:
        run.stale += 1
    run.hooks.hook.densedet_run_evaluated(run=run, metrics=metrics)
    patience = run.settings.early_stop
    if patience is not None and run.stale >= patience:
        run.stop(f"no better {run.recipe.evaluate.metric} in {run.stale} evaluations")


def not_finite(run: Run, parts: dict[str, Tensor], batch: Batch) -> TrainingError:
    """Name the loss that broke and its images, and what usually helps."""
    listed = ", ".join(f"{name} {float(value.detach()):g}" for name, value in parts.items())
    ids = ", ".join(str(i) for i in batch.image_ids[:16])
    rate = run.optimizer.param_groups[0]["lr"]
    return TrainingError(
        f"the loss is not finite at step {run.step + 1} ({listed}; image ids {ids}): nothing was changed by "
        f"this step. The learning rate was {rate:g}: try a smaller train.optimizer.lr, a longer "
        "train.schedule.warmup_steps or a smaller train.clip_norm"
    )


def _agree(run: Run) -> None:
    """Take rank 0's clock and anybody's wish to stop, so that all processes stop at the same step."""
    if run.world == 1:
        return
    clock = torch.tensor(run.seconds, dtype=torch.float32, device=run.device)
    torch.distributed.broadcast(clock, 0)
    run.seconds = float(clock)
    reasons = [reason for reason in gather_objects(run.stop_reason) if reason]
    if reasons:
        run.stop(str(reasons[0]))
