"""torch.compile of the network that trains; evaluation, prediction and checkpoints never see it."""

from __future__ import annotations

import os
import shutil
import statistics
from typing import Any

import torch
from torch import nn

from densedet.core.distributed import from_main
from densedet.core.errors import UsageError, sentence
from densedet.core.recipe.sections import Budget
from densedet.core.training.random_states import seeded
from densedet.core.training.run import Run
from densedet.core.training.trials import forward_backward, seconds_of, trial_batch
from densedet.core.types import Batch

PARTS = ("backbone", "neck", "head")
"""Attributes of a detector that are compiled, each by itself; one without them is left alone."""
OPTIONS: dict[str, dict[str, Any]] = {"cuda": {"mode": "reduce-overhead"}, "cpu": {}}
"""Of torch.compile by the device: on a GPU the kernels of a part are started as one CUDA graph."""
SHORTEST = 5000
"""Optimizer steps of a run in which ``auto`` tries it: compiling takes up to a minute, and 10 ms a step are
gained at best where a network is small."""
ROUNDS, GAIN = 3, 0.97


class Compiled:
    """Compiled forward passes of a detector's parts, in use while the detector itself is called.

    The engine calls the detector to train it. Evaluation, pictures and warnings call its methods, with other
    shapes and modes, each of which would be compiled anew. Names of weights stay as they are.

    Args:
        detector: the network.
        options: of torch.compile.
    """

    def __init__(self, detector: nn.Module, options: dict[str, Any]) -> None:
        parts = [getattr(detector, name, None) for name in PARTS]
        self._calls = [
            (part, torch.compile(part._call_impl, **options)) for part in parts if isinstance(part, nn.Module)
        ]
        self._hooks = [
            detector.register_forward_pre_hook(self._begin),
            detector.register_forward_hook(self._end, always_call=True),
        ]

    def _begin(self, *arguments: Any) -> None:
        if torch.cuda.is_available():
            torch.compiler.cudagraph_mark_step_begin()  # what the last step has left may be written over
        for part, call in self._calls:
            part._compiled_call_impl = call

    def _end(self, *arguments: Any) -> None:
        for part, _ in self._calls:
            part._compiled_call_impl = None

    def remove(self) -> None:
        """Let the detector compute as it was written again."""
        for hook in self._hooks:
            hook.remove()


def compile_network(run: Run, budget: Budget | None = None) -> None:
    """Do what ``train.compile`` says, before the first step of a run.

    Args:
        run: a run whose precision is chosen.
        budget: of the run; None: as its recipe says.

    Raises:
        UsageError: a CPU has no C++ compiler.
    """
    wish = run.settings.compile
    if wish == "off" or run.device.type not in OPTIONS:
        return
    if wish == "on":
        if run.device.type == "cpu":
            check_compiler()
        Compiled(run.detector, OPTIONS[run.device.type])
        run.notes.append(f"compile: on ({', '.join(PARTS)})")
        return
    steps = run.steps_in(budget or run.settings.budget)
    if run.device.type == "cuda" and _shapes_are_fixed(run) and (steps is None or steps >= SHORTEST):
        _compile_where_it_pays(run, 60 * (run.settings.budget.minutes or 0))


def check_compiler() -> None:
    """Raise UsageError where torch has no C++ compiler to compile for a CPU with."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++", "cl"]
    if not any(shutil.which(name) for name in names):
        raise UsageError(
            f"train.compile=on needs a C++ compiler on a CPU, and there is none ({', '.join(names)}): "
            f"install one, or write train.compile=off"
        )


def _shapes_are_fixed(run: Run) -> bool:
    """Whether all batches have one size, as far as the first images tell: others are compiled anew."""
    images = range(min(64, len(run.train_set)))
    return not run.recipe.data.input_sizes_wh and len({run.train_set.canvas_wh([i]) for i in images}) == 1


def _compile_where_it_pays(run: Run, seconds: float) -> None:
    """Measure a batch as the network is written and compiled, and keep what is faster. ``seconds`` of a
    budget in minutes; 0: it is long enough."""
    batch = trial_batch(run)
    run.detector.train()
    run.hand_on_progress(run.detector)
    run.buffers[0].keep()
    compiled: Compiled | None = None
    try:
        with seeded(run.settings.seed):
            plain = _measured(run, batch)
            if seconds and SHORTEST * plain > seconds:
                return
            compiled = Compiled(run.detector, OPTIONS[run.device.type])
            taken = seconds_of(lambda: _pass(run, batch), run)
            fast = _measured(run, batch)
    except Exception as error:  # the compiler's own classes; the network trains without it
        if compiled is None:
            raise
        compiled.remove()
        run.notes.append(f"compile: off, since torch.compile failed: {sentence(error)[:200]}")
        return
    finally:
        run.buffers[0].put_back()
        run.detector.zero_grad(set_to_none=True)
    pays = fast <= GAIN * plain
    if not pays:
        compiled.remove()
    run.measured_ms |= {"as written": round(1e3 * plain, 2), "compiled": round(1e3 * fast, 2)}
    run.notes.append(
        f"compile: {'on' if pays else 'off'}, measured forward and backward before the first step (as "
        f"written {1e3 * plain:.3g} ms, compiled {1e3 * fast:.3g} ms, compiling took {taken:.0f} s)"
    )


def _measured(run: Run, batch: Batch) -> float:
    """Median seconds of a batch in rank 0, after passes that do not count."""
    times = [seconds_of(lambda: _pass(run, batch), run) for _ in range(2 + ROUNDS)][2:]
    return from_main(lambda: statistics.median(times))


def _pass(run: Run, batch: Batch) -> None:
    run.detector.zero_grad(set_to_none=True)
    forward_backward(run, run.detector, batch, run.dtype)
