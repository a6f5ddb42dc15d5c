"""What ``train.precision: auto`` comes to, by measuring: before the first step, a copy of the network takes
the same batch in each precision, in turns."""

from __future__ import annotations

import copy
import statistics
from functools import partial

from torch import nn

from densedet.core.distributed import from_main, synchronize
from densedet.core.recipe.sections import Budget
from densedet.core.training.precision import DTYPES, candidates
from densedet.core.training.random_states import seeded
from densedet.core.training.run import Run
from densedet.core.training.trials import forward_backward, seconds_of, trial_batch
from densedet.core.types import Batch

ROUNDS, CLEAR = 3, 1.5
"""Times that each precision is measured, after once that does not count; fewer where one takes so many times
as long as the other."""
SHORTEST = 300
"""Optimizer steps of a run in which measuring pays: two precisions, two to four times each, are some 2 % of
it."""
FEW, HOPELESS = 2, 3.0
"""A precision that takes so many times as long as float32 for so few images is given up at once."""
GAIN = 0.97
"""Share of float32's time that another precision may take at most: it rounds more."""


def choose_precision(run: Run, budget: Budget | None = None) -> None:
    """Set what ``train.precision: auto`` comes to in a run, before its first step.

    A run of fewer than `SHORTEST` steps takes float32. In others each precision that the device has takes a
    batch forward and backward, on a copy of the network: weights, buffers, gradients and random states stay
    as they are. Rank 0 decides for all processes.

    Args:
        run: a run. Where its checkpoint has a choice, that stays.
        budget: of the run; None: as its recipe says.
    """
    if run.settings.precision != "auto" or run.chosen_precision is not None:
        return
    names, budget = candidates(run.device), budget or run.settings.budget
    steps = run.steps_in(budget)
    found: dict[str, float] = {}
    if len(names) > 1 and (steps is None or steps >= SHORTEST):
        with seeded(run.settings.seed):
            found = _measured(run, names, most=60 * (budget.minutes or 0) / SHORTEST or None)
    chosen = "float32"
    if found:
        best = min(found, key=found.__getitem__)
        chosen = best if found[best] <= GAIN * found["float32"] else chosen
        told = ", ".join(f"{name} {1e3 * seconds:.3g} ms" for name, seconds in found.items())
        run.notes.append(f"precision: {chosen}, measured forward and backward before the first step ({told})")
    run.measured_ms |= {name: round(1e3 * seconds, 2) for name, seconds in found.items()}
    run.use_precision(chosen)


def _measured(run: Run, names: tuple[str, ...], *, most: float | None) -> dict[str, float]:
    """Median seconds of a batch by the precision, of one that was given up at once by its first images; empty
    where float32 takes more than ``most`` seconds, so that the run is too short."""
    batch = trial_batch(run)
    few = batch.take(range(min(FEW, len(batch))))
    model = copy.deepcopy(run.detector).train()
    run.hand_on_progress(model)
    quick = {name: min(_seconds(run, model, few, name) for _ in range(2)) for name in names}
    factor = len(batch) / max(1, len(few))
    if most is not None and quick["float32"] * factor > most:
        return {}
    left = [name for name in names if quick[name] <= HOPELESS * quick["float32"]]
    for name in left:
        _seconds(run, model, batch, name)
    turns: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        turns.append({name: _seconds(run, model, batch, name) for name in left})
        if max(turns[-1].values()) >= CLEAR * min(turns[-1].values()):
            break
    return {
        name: statistics.median(turn[name] for turn in turns) if name in left else quick[name] * factor
        for name in names
    }


def _seconds(run: Run, model: nn.Module, batch: Batch, name: str) -> float:
    """Seconds that a batch takes forward and backward in rank 0; infinity where an operation lacks this
    precision."""
    synchronize(run.device)
    try:
        taken = seconds_of(partial(forward_backward, run, model, batch, DTYPES[name]), run)
    except (NotImplementedError, RuntimeError) as error:
        if name == "float32" or "not implemented" not in str(error).lower():
            raise
        return float("inf")
    finally:
        model.zero_grad(set_to_none=True)
    return from_main(lambda: taken)
