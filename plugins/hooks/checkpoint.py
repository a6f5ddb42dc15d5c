"""last.pt (everything, to resume) and best.pt (the weights of the best evaluation)."""

from __future__ import annotations

import contextlib
from typing import Any

from densedet.core.arguments import PositiveFloat, PositiveInt
from densedet.core.errors import DensedetError
from densedet.core.hookspecs import hookimpl
from densedet.core.text import say
from densedet.core.training import checkpoint


class CheckpointHook:
    """Write last.pt now and then and at the end, also of the last whole step of a run that fails. Write
    best.pt whenever ``evaluate.metric`` improves, or at the end where there is no validation set.

    Args:
        every_minutes: minutes of training between two last.pt.
        every_steps: steps between two last.pt, beside the minutes; null: none.
    """

    essential = True
    in_folder = True

    def __init__(self, *, every_minutes: PositiveFloat = 5.0, every_steps: PositiveInt | None = None) -> None:
        self.every_minutes, self.every_steps = every_minutes, every_steps
        self._written_at = 0.0
        self._written_step = -1

    @hookimpl
    def densedet_run_start(self, run: Any) -> None:
        self._written_at = run.seconds

    @hookimpl(trylast=True)  # what other hooks keep of this step belongs into it
    def densedet_run_step(self, run: Any, step: dict[str, Any]) -> None:
        due = self.every_steps is not None and run.step % self.every_steps == 0
        # The last one before the evaluation, which may take minutes and be killed.
        if due or run.progress >= 1 or run.seconds - self._written_at >= 60 * self.every_minutes:
            self._write_last(run)

    @hookimpl(trylast=True)
    def densedet_run_evaluated(self, run: Any, metrics: dict[str, Any]) -> None:
        if run.best["step"] == run.step:
            self._save(run, "best.pt", with_optimizer=False)
        self._write_last(run)

    @hookimpl
    def densedet_run_end(self, run: Any, summary: dict[str, Any]) -> None:
        if summary["status"] == "failed":
            self._rescue(run)
            return
        if self._written_step != run.step:
            self._write_last(run)
        if run.best["value"] is None:
            self._save(run, "best.pt", with_optimizer=False)

    def _rescue(self, run: Any) -> None:
        """Write last.pt of the last whole step of a run that has failed, and say where it goes on."""
        if self._written_step != run.step and run.go_back():
            with contextlib.suppress(DensedetError):  # not finite, or what made the run fail
                self._write_last(run)
        file = run.folder / "last.pt"
        if self._written_step >= 0 and file.is_file():
            say(
                f"{file} holds step {self._written_step}: go on with densedet train --resume {run.folder}",
                error=True,
            )

    def _write_last(self, run: Any) -> None:
        self._save(run, "last.pt", with_optimizer=True)
        self._written_at, self._written_step = run.seconds, run.step

    def _save(self, run: Any, name: str, *, with_optimizer: bool) -> None:
        run.check_folder()  # writing makes it anew
        checkpoint.save(run.folder / name, run.state(with_optimizer=with_optimizer))
