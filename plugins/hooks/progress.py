"""The display at the terminal while a run trains."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from densedet.core.arguments import PositiveFloat
from densedet.core.hookspecs import hookimpl
from densedet.core.terminal import Terminal, progress
from densedet.core.text import counted

if TYPE_CHECKING:
    from rich.progress import Progress

SHOWN_EVERY = 0.25
"""Seconds between two looks at the losses for the bar, for which a GPU would have to be waited for."""

NAMED = 10
"""Broken images named at the end; the others stand in summary.json."""


class ProgressHook:
    """Show a bar with losses, speed and time left, or plain lines where the output is no terminal.

    Args:
        seconds: time between two plain lines.
    """

    def __init__(self, *, seconds: PositiveFloat = 10.0) -> None:
        self.seconds = seconds
        self._bar: Progress | None = None
        self._task: Any = None
        self._printed = self._images = self._shown = 0.0
        self._busy = self._waited = 0.0
        self._console = Terminal(error=True)

    @hookimpl
    def densedet_run_start(self, run: Any) -> None:
        data = run.recipe.data
        held = 0 if run.val_set is None else len(run.val_set)
        width, height = data.input_size_wh
        self._say(
            f"{run.recipe.name}: {counted(len(run.train_set), 'training image')}, "
            f"{counted(held, 'validation image')}, {counted(len(run.classes), 'class')}, {width}x{height} "
            f"{data.color}, "
            f"on {run.device} in {run.precision} -> {run.folder}"
        )
        for note in run.notes:
            self._say(note)
        if run.resumed:
            self._say(f"resuming after step {run.step} (epoch {run.epoch})")
        if self._console.is_terminal:
            self._bar = progress()
            self._task = self._bar.add_task("training", total=1.0, completed=run.progress)
            self._bar.start()
        self._printed = time.monotonic()

    @hookimpl
    def densedet_run_step(self, run: Any, step: dict[str, Any]) -> None:
        self._images += step["images"]
        self._busy += step["step_seconds"]
        self._waited += step["data_seconds"]
        if self._bar is not None and time.monotonic() - self._shown >= SHOWN_EVERY:
            self._shown = time.monotonic()
            with contextlib.suppress(OSError):
                self._bar.update(self._task, completed=run.progress, description=self._line(run, step))
        if time.monotonic() - self._printed >= self.seconds:
            if self._bar is None:
                self._say(f"{100 * run.progress:5.1f}%  {self._line(run, step)}")
            self._printed = time.monotonic()
            self._images = self._busy = self._waited = 0.0

    @hookimpl
    def densedet_run_evaluated(self, run: Any, metrics: dict[str, Any]) -> None:
        losses = metrics.get("losses", {})
        total = f"  val loss {sum(losses.values()):.3f}" if losses else ""
        self._say(
            f"{100 * run.progress:5.1f}%  step {run.step}: AP {metrics['AP']:.3f}  AP50 "
            f"{metrics['AP50']:.3f}  AP75 {metrics['AP75']:.3f}{total}"
            if {"AP", "AP50", "AP75"} <= set(metrics)
            else f"{100 * run.progress:5.1f}%  step {run.step}: "
            + ", ".join(f"{k} {v:.3f}" for k, v in metrics.items() if isinstance(v, float))
        )

    @hookimpl
    def densedet_run_end(self, run: Any, summary: dict[str, Any]) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.stop()
        reason = f" ({summary['reason']})" if summary.get("reason") else ""
        self._say(
            f"{summary['status']}{reason} after {counted(run.step, 'step')}, {summary['minutes']:.2f} "
            f"minutes of "
            f"training -> {run.folder}"
        )
        broken = summary.get("broken_images") or []
        if broken:
            self._say(
                f"left out {counted(len(broken), 'image')} that could not be read (all in summary.json):"
            )
        for sentence in broken[:NAMED]:
            self._say(f"  {sentence}")

    def _line(self, run: Any, step: dict[str, Any]) -> str:
        losses = "  ".join(f"{name} {value:.3f}" for name, value in step["losses"].items())
        speed = self._images / self._busy if self._busy else 0.0
        waiting = self._waited / self._busy if self._busy else 0.0
        bound = f"  waiting for data {waiting:.0%}" if waiting > 0.5 else ""
        return (
            f"epoch {run.epoch + 1}  step {run.step}  loss {step['loss']:.3f}  ({losses})  "
            f"{speed:.1f} images/s{bound}"
        )

    def _say(self, text: str) -> None:
        console = self._bar.console if self._bar is not None else self._console
        with contextlib.suppress(OSError):  # the terminal is closed, or the reader of a pipe has ended
            console.print(text, soft_wrap=True)
