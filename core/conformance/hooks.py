"""Hooks of a run."""

from __future__ import annotations

import contextlib
import inspect
import io
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from densedet.core import hookspecs
from densedet.core.conformance.requirements import Factory, check, random_states, require, same, wire

PREFIX = f"{hookspecs.PROJECT}_"
STEP = {
    "losses": {"class": 0.5, "box": 0.25},
    "loss": 0.75,
    "learning_rate": 0.001,
    "grad_norm": 1.0,
    "step_seconds": 0.1,
    "data_seconds": 0.01,
    "images": 16,
}
METRICS = {
    "AP": 0.3,
    "AP50": 0.5,
    "AP75": 0.2,
    "losses": {"class": 0.5, "box": 0.25},
    "classes": {},
    "images": 5,
}


class Beyond(Exception):
    """A hook asked for more of a run than the example has: it cannot be called here."""


class ExampleRun:
    """What most hooks read of `densedet.core.training.run.Run`, without a run behind it."""

    is_main = True
    resumed = finished = False
    device = torch.device("cpu")
    precision = "float32"
    classes = ("cat", "dog")
    rank, world, lag = 0, 1, 0
    stop_reason: str | None = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.step = self.epoch = self.batch = 0
        self.seconds = self.progress = 0.0
        self.metrics: dict[str, Any] = {}
        self.best: dict[str, Any] = {"value": None, "step": 0}
        self.notes: list[str] = []
        self.detector = self.model = self.eval_detector = nn.Linear(2, 2)
        self.optimizer = torch.optim.SGD(self.detector.parameters(), lr=0.1)

    def stop(self, reason: str) -> None:
        """End the run after this step."""
        self.stop_reason = reason

    def __getattr__(self, name: str) -> Any:
        raise Beyond(name)


@check("hook")
def check_hook(factory: Factory, **arguments: Any) -> None:
    """Check that its methods are hooks of densedet, marked and with the arguments' right names, that it can
    be called in the order of a run, and that its state survives a resume.

    A hook that needs more of a run than `ExampleRun` has is checked only as far as it can be called.

    Args:
        factory: the class or function.
        **arguments: its arguments in a recipe.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        run = ExampleRun(Path(folder))
        part = wire(factory, arguments, run=run)
        methods = list(hookspecs.check_hooks(part))
        with contextlib.suppress(Beyond):
            _call_all(part, run, methods)
        with contextlib.suppress(Beyond):
            _check_state(part, wire(factory, arguments, run=run), run, methods)


def _call(part: Any, methods: list[str], event: str, **values: Any) -> Any:
    name = PREFIX + event
    if name not in methods:
        return None
    method = getattr(part, name)
    names = inspect.signature(method).parameters
    return method(**{key: value for key, value in values.items() if key in names})


def _call_all(part: Any, run: ExampleRun, methods: list[str]) -> None:
    """Start, steps, an epoch, an evaluation, the end."""
    state = random_states()
    weights = [p.detach().clone() for p in run.detector.parameters()]
    _call(part, methods, "run_start", run=run)
    for number in range(1, 4):
        run.step, run.seconds, run.progress = number, 0.1 * number, number / 3
        step = {**STEP, "losses": dict(STEP["losses"])}  # type: ignore[call-overload]
        _call(part, methods, "run_step", run=run, step=step)
        require(step == STEP, "densedet_run_step changes the step's numbers, which other hooks see too")
    run.epoch, run.metrics = 1, dict(METRICS)
    run.best = {"value": 0.3, "step": 3}
    _call(part, methods, "run_epoch", run=run, epoch=1)
    _call(part, methods, "run_evaluated", run=run, metrics=run.metrics)
    require(run.metrics == METRICS, "densedet_run_evaluated changes the metrics, which other hooks see too")
    summary: dict[str, Any] = {
        "status": "done",
        "reason": None,
        "minutes": 0.01,
        "AP": 0.3,
        "AP50": 0.5,
        "broken_images": [],
    }
    given = dict(summary)
    _call(part, methods, "run_end", run=run, summary=summary)
    require(summary == given, "densedet_run_end changes the summary, which other hooks see too")
    require(run.detector.training, "it leaves the detector in eval mode: call train() again")
    require(same(weights, list(run.detector.parameters())), "it changes the detector's weights")
    require(random_states() == state, "it draws from a global random generator: training would differ")


def _check_state(part: Any, fresh: Any, run: ExampleRun, methods: list[str]) -> None:
    """What densedet_state gives must be a dict that torch.load reads safely, and come back by restore."""
    if PREFIX + "state" not in methods:
        require(PREFIX + "restore" not in methods, "it has densedet_restore and no densedet_state to restore")
        return
    given = _call(part, methods, "state", run=run)
    if given is None and PREFIX + "restore" not in methods:
        return  # it brings its files to the disk, and keeps nothing
    require(PREFIX + "restore" in methods, "it has densedet_state and no densedet_restore to take it back")
    require(
        isinstance(given, dict) and given and all(isinstance(key, str) for key in given),
        f"densedet_state gives a dict of texts to tensors and plain values, not {given!r}",
    )
    buffer = io.BytesIO()
    torch.save(given, buffer)
    buffer.seek(0)
    try:
        loaded = torch.load(buffer, weights_only=True)
    except Exception as error:
        require(
            False, f"densedet_state holds what a checkpoint cannot: tensors and plain values only ({error})"
        )
    _call(fresh, methods, "restore", run=run, state=loaded)
    again = _call(fresh, methods, "state", run=run)
    require(
        repr(again) == repr(given) and same(again, given),
        f"after densedet_restore the state is another: {given} was saved, {again} came back",
    )
