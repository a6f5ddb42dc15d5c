"""metrics.jsonl: one JSON object a line for each step and each evaluation."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any

from densedet.core.arguments import PositiveInt
from densedet.core.files import LineFile, unwritable, write_text
from densedet.core.hookspecs import hookimpl
from densedet.core.text import json_text


class MetricsHook:
    """Write ``{"event": "step", ...}`` and ``{"event": "evaluation", ...}`` lines. First it drops the lines
    that the run writes anew: those after its checkpoint, or all where there is none.

    Args:
        every: steps between two step lines.
    """

    essential = True
    in_folder = True

    def __init__(self, *, every: PositiveInt = 1) -> None:
        self.every = every
        self._file: LineFile | None = None
        self._seen = 0
        self._waiting: deque[tuple[dict[str, Any], dict[str, Any]]] = deque()

    @hookimpl
    def densedet_run_start(self, run: Any) -> None:
        path = run.folder / "metrics.jsonl"
        if path.exists():  # of a run that is resumed, or that was killed before its first checkpoint
            evaluated = run.resumed and run.evaluations >= run.evaluations_due
            cut_back(path, run.step, evaluated=evaluated)
        self._file = LineFile(path)

    @hookimpl
    def densedet_run_step(self, run: Any, step: dict[str, Any]) -> None:
        self._seen = run.step
        if run.step % self.every == 0 or run.progress >= 1:
            self._waiting.append((_place(run, "step"), step))
        self._write_steps(run, until=run.step - run.lag)

    @hookimpl
    def densedet_run_evaluated(self, run: Any, metrics: dict[str, Any]) -> None:
        self._write_steps(run)
        self._write({**_place(run, "evaluation"), "metrics": metrics})

    @hookimpl
    def densedet_state(self, run: Any) -> None:
        """Bring the lines to the disk before the checkpoint of their step."""
        if self._file is not None:
            self._write_steps(run)
            self._file.sync()

    @hookimpl
    def densedet_run_end(self, run: Any, summary: dict[str, Any]) -> None:
        if self._file is not None:
            if run.report is not None and self._seen != run.step:  # a hook before this one has failed
                self.densedet_run_step(run, run.report)
            self._write_steps(run)
            self._file.close()
            self._file = None

    def _write_steps(self, run: Any, *, until: int | None = None) -> None:
        """Write the lines of the steps up to ``until``; None: up to the last one. A step of a GPU waits so
        long for its numbers, and one that the run has gone back before has no line."""
        last = run.step if until is None else until
        while self._waiting and (until is None or self._waiting[0][0]["step"] <= last):
            place, step = self._waiting.popleft()
            if place["step"] <= last:
                losses = {name: round(value, 6) for name, value in step["losses"].items()}
                self._write({**place, **step, "losses": losses})

    def _write(self, line: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json_text(line))


def _place(run: Any, event: str) -> dict[str, Any]:
    """The beginning of a line."""
    return {"event": event, "step": run.step, "epoch": run.epoch, "seconds": round(run.seconds, 4)}


def cut_back(path: Path, step: int, *, evaluated: bool) -> None:
    """Drop the lines that a resumed run writes anew, and one that was cut off when the process was killed.

    Args:
        path: the file.
        step: of the checkpoint; later lines go.
        evaluated: whether the checkpoint counts the evaluation after ``step``; else its line goes too.
    """
    kept = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise unwritable(path, error) from error
    for line in lines:
        try:
            row = json.loads(line)
            if row["step"] < step + (evaluated or row["event"] != "evaluation"):
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    write_text(path, "".join(line + "\n" for line in kept))
