"""The training loop. Everything that is not training itself hangs on the hooks."""

from __future__ import annotations

import contextlib
import itertools
import math
import signal
import time
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from densedet.core.assembly.evaluators import metric_value
from densedet.core.distributed import (
    alone,
    average_statistics,
    gather_objects,
    sum_over_processes,
)
from densedet.core.text import counted, visible
from densedet.core.training.first_batch import first_batch_warnings
from densedet.core.training.random_states import seed_draws
from densedet.core.training.run import Run
from densedet.core.training.step_numbers import NotFiniteError, StepNumbers, StepReport
from densedet.core.types import Batch

SMALLEST_SCALE = 1e-4
"""Of float16's scaler: where gradients are not finite even at this scale, the scale is not what is wrong."""


def fit(run: Run) -> None:
    """Take optimizer steps until the budget is used."""
    run.detector.train()
    batches = run.batches()
    _stop_early(run)  # a run that was killed just after it
    agree(run)
    while True:
        if run.evaluations_due > run.evaluations or run.finished:
            run.confirm()
        # Evaluation: spread evenly over the budget; first of all where a resumed run was killed in it.
        if run.evaluations_due > run.evaluations and run.signal is None:
            evaluate(run)
            agree(run)
        if run.finished:
            return
        advance(run, batches)
        agree(run)


def advance(run: Run, batches: Iterator[tuple[Batch, bool]]) -> dict[str, Any]:
    """Wait for the batches of a step, take it, and tell the hooks.

    Args:
        run: the run.
        batches: from `densedet.core.training.run.Run.batches`.

    Returns:
        What hooks get of a step.
    """
    # Data: the loader's worker processes work ahead; what is waited for here is what they are short of.
    begin = time.perf_counter()
    taken, ends = zip(*itertools.islice(batches, run.settings.accumulate))
    waited = time.perf_counter() - begin
    # Step. The clock stops here: a budget in minutes pays for neither hooks nor evaluations.
    report = optimizer_step(run, taken)
    run.seconds += time.perf_counter() - begin
    _settle(run, taken)
    run.note_memory()
    report |= {"step_seconds": time.perf_counter() - begin, "data_seconds": waited}
    report["images"] = run.settings.accumulate * run.sampler.batch_size
    run.images_seen += report["images"]
    run.report = report
    run.history.append((run.step, report))
    run.settle()
    with alone():
        run.hooks.hook.densedet_run_step(run=run, step=report)
        if any(ends):
            run.hooks.hook.densedet_run_epoch(run=run, epoch=run.epoch)
    return report


def optimizer_step(run: Run, batches: tuple[Batch, ...]) -> dict[str, Any]:
    """Run forward and backward on ``batches`` (several where gradients are accumulated), then one step.

    Returns:
        "losses" by name, their sum "loss", "learning_rate" (of the first group) and "grad_norm" (before
        clipping; None where float16's scaler skipped the step), for the hooks.

    Raises:
        NotFiniteError: a loss, a gradient, a buffer or a box is not finite; weights, averages, buffers and
            the optimizer's state are then those before the step.
    """
    place = run.place()
    _set_rates(run)
    rate = run.optimizer.param_groups[0]["lr"]
    for buffers in run.buffers:
        buffers.keep()
    try:
        numbers = gradients_of(run, batches)
        skipped = not run.lag and skips(run, numbers, batches)
    except BaseException:
        run.buffers[0].put_back()
        run.optimizer.zero_grad(set_to_none=True)
        raise
    run.unsettle()
    if run.refused is not None:
        # The device decides: from the first step on that is not finite, no weight is changed any more.
        run.refused = torch.maximum(run.refused, numbers.refused)
        run.unread.append(partial(_confirm, run, numbers, batches, place, len(run.optimizer.state)))
    if not skipped:
        clip_gradients(run.detector, numbers.norm if run.lag else numbers.grad_norm, run.settings.clip_norm)
    with refusing(run.optimizer, run.refused):
        run.scaler.step(run.optimizer)
    run.scaler.update()
    run.step += 1
    average_statistics(run.detector)
    if run.ema is not None:
        run.ema.update(run.detector, run.step, run.refused)
    run.confirm(keep=run.lag)
    if run.lag:
        return StepReport(numbers, {"learning_rate": rate})
    return {
        "losses": numbers.losses,
        "loss": sum(numbers.losses.values()),
        "learning_rate": rate,
        "grad_norm": None if skipped else numbers.grad_norm,
    }


def _set_rates(run: Run) -> None:
    """Set what follows from progress alone, so that a resumed run cannot be off: the learning rate and the
    detector's progress."""
    factor = run.schedule(run.progress, run.step)
    for group, base in zip(run.optimizer.param_groups, run.base_lrs):
        group["lr"] = base * factor
    run.hand_on_progress(run.detector)


def _confirm(
    run: Run,
    numbers: StepNumbers,
    batches: tuple[Batch, ...],
    place: tuple[int, dict[str, Any] | None],
    states: int,
) -> None:
    """Read the numbers of a step that the device took or refused; go back before one that it refused.

    Raises:
        NotFiniteError: it was refused.
    """
    if all(map(math.isfinite, numbers.read())):
        run.dropped += numbers.lost
        return
    later = len(run.unread)
    run.unread.clear()
    run.rewind(*place)
    for parameter in list(run.optimizer.state)[states:]:
        del run.optimizer.state[parameter]  # made by a step that was not taken
    for buffers in run.buffers:
        buffers.put_back(later=later)
    # Once more, to see what is not finite: the gradients of that step are gone.
    _set_rates(run)
    try:
        numbers = gradients_of(run, batches)
        raise refused(run, batches, numbers)
    finally:
        run.buffers[0].put_back(later=later)
        run.optimizer.zero_grad(set_to_none=True)


@contextlib.contextmanager
def refusing(optimizer: torch.optim.Optimizer, refused: Tensor | None) -> Iterator[None]:
    """Let a fused optimizer leave weights and state alone where ``refused`` is 1, as torch's gradient scaler
    tells it; None: it takes the step."""
    if refused is None:
        yield
        return
    scaled: Any = optimizer
    scaled.found_inf, scaled.grad_scale = refused, None
    try:
        yield
    finally:
        del scaled.found_inf, scaled.grad_scale


def gradients_of(run: Run, batches: tuple[Batch, ...]) -> StepNumbers:
    """Run forward and backward on ``batches``; the network's buffers move, too.

    Returns:
        The mean losses and the norm of the gradients, the same on all processes, so that they refuse a step
        together.
    """
    seed_draws(run.device, run.settings.seed, "step", run.step, run.rank)
    run.optimizer.zero_grad(set_to_none=True)
    taken: list[dict[str, Tensor]] = []
    boxes: list[Tensor] = []
    for number, batch in enumerate(batches, start=1):
        batch = batch.to(run.device)
        if run.step == 0 and number == 1 and run.is_main:
            with alone():
                for warning in first_batch_warnings(run.detector, batch):
                    warnings.warn(visible(warning), RuntimeWarning, stacklevel=2)
        if run.settings.channels_last:
            batch.images = batch.images.contiguous(memory_format=torch.channels_last)
        # Processes exchange gradients once a step, with the last batch.
        with _unsynchronised(run) if number < len(batches) else contextlib.nullcontext():
            # Forward, in the training precision; the detector leaves it for matching and losses.
            with run.autocast():
                parts = run.model(batch)
            total = torch.stack([part.float() for part in parts.values()]).sum()
            # Backward, whatever the loss is: other processes wait here for this one's gradients. Scaled,
            # since small float16 gradients would round to 0; the scale is 1 in other precisions.
            run.scaler.scale(total / len(batches)).backward()
        taken.append({name: part.detach().float() for name, part in parts.items()})
        boxes.append(finite_boxes(batch))
    # Groups whose time has not come yet lose their gradients: the optimizer passes them over.
    for group in run.optimizer.param_groups:
        if run.progress < group.get("start", 0.0):
            for parameter in group["params"]:
                parameter.grad = None
    # Unscale before clipping: the limit is meant for the true gradients.
    run.scaler.unscale_(run.optimizer)
    losses: dict[str, Tensor] = {}
    for parts in taken:
        for name, part in parts.items():
            losses[name] = losses.get(name, torch.zeros_like(part)) + part / len(taken)
    others = run.buffers[0].finite() + torch.stack(boxes).sum()
    values = [*losses.values(), gradient_norm(run.detector), others]
    mean = sum_over_processes(torch.stack([value.to(run.device) for value in values])) / run.world
    lost = [batch.dropped for batch in batches if isinstance(batch.dropped, Tensor)] if run.lag else []
    return StepNumbers(list(losses), mean, taken, lost=torch.stack(lost).sum() if lost else None)


def finite_boxes(batch: Batch) -> Tensor:
    """Return a scalar on the batch's device: 0 where the boxes of all objects are finite, else NaN.

    A box that is not finite overlaps no anchor, so that its image would be trained as background, unseen.
    """
    return (torch.where(batch.valid.unsqueeze(-1), batch.boxes, 0.0) * 0).sum()


def skips(run: Run, numbers: StepNumbers, batches: tuple[Batch, ...]) -> bool:
    """Read a step's numbers, and refuse the step where one is not finite.

    Returns:
        Whether the scaler of float16 skips the step, which it does now and then, to find the largest scale.

    Raises:
        NotFiniteError: a number is not finite.
    """
    if not numbers.finite_losses:
        raise refused(run, batches, numbers)
    if math.isfinite(numbers.grad_norm):
        return False
    if not run.scaler.is_enabled() or run.scaler.get_scale() < SMALLEST_SCALE:
        raise refused(run, batches, numbers)
    return True


def _unsynchronised(run: Run) -> contextlib.AbstractContextManager[Any]:
    """Keep DistributedDataParallel from averaging the gradients of this backward pass over the processes."""
    wrapped = isinstance(run.model, nn.parallel.DistributedDataParallel)
    return run.model.no_sync() if wrapped else contextlib.nullcontext()  # type: ignore[operator]


def gradient_norm(module: nn.Module) -> Tensor:
    """Return the L2 norm of all gradients together, a scalar on their device."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))


def clip_gradients(module: nn.Module, norm: float | Tensor, limit: float | None) -> None:
    """Scale gradients in place so that their L2 norm is at most ``limit``.

    Where the norm is known, gradients that are short enough are not touched, which saves one pass over them.

    Args:
        module: the network.
        norm: from `gradient_norm`; on a GPU the tensor, at which the host does not look.
        limit: null: gradients stay.
    """
    if limit is None or (isinstance(norm, float) and norm <= limit):
        return
    factor = limit / (norm + 1e-6)
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    torch._foreach_mul_(gradients, factor.clamp(max=1.0) if isinstance(factor, Tensor) else factor)


def evaluate(run: Run) -> None:
    """Evaluate, keep the best result, and stop early where the recipe says so."""
    seed_draws(run.device, run.settings.seed, "evaluation", run.step, run.rank)
    metrics = run.evaluate(leave=lambda: run.asked is not None)
    run.detector.train()
    if not metrics and run.val_set is not None:
        return  # a signal came; it is done anew when the run is resumed
    run.evaluations = run.evaluations_due
    if not metrics:
        return
    refuse_losses(run, metrics)
    value = metric_value(run.recipe, metrics)
    run.metrics = metrics
    sign = 1 if run.recipe.evaluate.higher_is_better else -1
    best = run.best["value"]
    if not math.isnan(value) and (best is None or sign * value > sign * best):
        run.best, run.stale = {"value": value, "step": run.step}, 0
    else:
        run.stale += 1
    with alone():
        run.hooks.hook.densedet_run_evaluated(run=run, metrics=metrics)
    run.settle()
    _stop_early(run)


def _stop_early(run: Run) -> None:
    patience = run.settings.early_stop
    if patience is not None and run.stale >= patience:
        run.stop(f"no better {run.recipe.evaluate.metric} in {counted(run.stale, 'evaluation')}")


def refuse_losses(run: Run, metrics: dict[str, Any]) -> None:
    """Refuse an evaluation whose losses are not finite; a failed run keeps no checkpoint of such weights.

    Raises:
        NotFiniteError: the weights or an image are at fault.
    """
    losses = metrics.get("losses") or {}
    if not all(map(math.isfinite, losses.values())):
        run.unsettle()
        raise NotFiniteError(
            f"the validation loss is not finite after step {run.step} ({_listed(losses)}): no checkpoint is "
            f"written of it. Look for validation images with values that no picture has, or try a smaller "
            f"train.optimizer.lr or a longer train.schedule.warmup_steps"
        )


def refused(run: Run, batches: tuple[Batch, ...], numbers: StepNumbers) -> NotFiniteError:
    """Return the error of a refused step, which names what is not finite, in which images, and what usually
    helps."""
    faults = gather_objects(_fault(run, batches, numbers))
    fault = next((fault for fault in faults if fault), "the gradients are too large for their norm")
    rate = run.optimizer.param_groups[0]["lr"]
    return NotFiniteError(
        f"{fault} at step {run.step + 1}: nothing was changed by this step. The learning rate was {rate:g}: "
        "try a smaller train.optimizer.lr, a longer train.schedule.warmup_steps or a smaller train.clip_norm",
        batches,
    )


def _fault(run: Run, batches: tuple[Batch, ...], numbers: StepNumbers) -> str:
    """What is not finite in this process's share of a step; empty where nothing is."""
    for batch in batches:
        wrong = batch.valid & ~batch.boxes.isfinite().all(-1)
        for image, slot in wrong.nonzero().tolist()[:1]:
            box = batch.boxes[image, slot].tolist()
            return f"the box {box} of image id {batch.image_ids[image]} is not finite"
    ids = ", ".join(str(i) for batch in batches for i in batch.image_ids[:16])
    for batch, parts in zip(batches, numbers.parts):
        losses = {name: float(value) for name, value in parts.items()}
        if not all(map(math.isfinite, losses.values())):
            own = ", ".join(str(i) for i in batch.image_ids[:16])
            return f"the loss is not finite ({_listed(losses)}; image ids {own})"
    for what, names in (
        ("buffer", run.buffers[0].broken()),
        ("gradient of", [n for n, p in run.detector.named_parameters() if _is_broken(p.grad)]),
    ):
        if names:
            more = f" and of {len(names) - 1} more" if len(names) > 1 else ""
            return f"the {what} {names[0]}{more} is not finite, though the loss is (image ids {ids})"
    return ""


def _is_broken(value: Tensor | None) -> bool:
    return value is not None and not bool(value.isfinite().all())


def _listed(losses: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in losses.items())


def _settle(run: Run, taken: tuple[Batch, ...]) -> None:
    """Take rank 0's clock, and count what was lost in the ``taken`` batches of all processes."""
    counts = [b.dropped for b in taken if not (run.lag and isinstance(b.dropped, Tensor))]
    dropped = sum(map(int, counts))  # the others come with the step's numbers
    broken = dict(b for batch in taken for b in batch.broken)
    if run.world > 1:
        clock = run.seconds if run.is_main else 0.0
        run.seconds, *counted_all = sum_over_processes(
            torch.tensor([clock, dropped, len(broken)]).double()
        ).tolist()
        dropped = int(counted_all[0])
        if counted_all[1]:
            broken = {index: text for part in gather_objects(broken) for index, text in part.items()}
    run.dropped += dropped
    run.broken.update(broken)


def agree(run: Run) -> None:
    """Take any process's signal or wish to stop, so that all processes stop after the same step."""
    told = torch.tensor([run.asked is not None, run.stop_wish is not None]).float()
    if not bool(sum_over_processes(told).any()):
        return
    asked = next((number for number in gather_objects(run.asked) if number is not None), None)
    if asked is not None and run.signal is None:
        run.signal = asked
        run.stop(signal.Signals(asked).name)
    run.stop_reason = next((reason for reason in gather_objects(run.stop_wish) if reason), None)
