"""metrics.jsonl: one JSON object a line for each step and each evaluation."""

from __future__ import annotations

import json
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
            self._write(run, "step", {**step, "losses": {k: round(v, 6) for k, v in step["losses"].items()}})

    @hookimpl
    def densedet_run_evaluated(self, run: Any, metrics: dict[str, Any]) -> None:
        self._write(run, "evaluation", {"metrics": metrics})

    @hookimpl
    def densedet_state(self, run: Any) -> None:
        """Bring the lines to the disk before the checkpoint of their step."""
        if self._file is not None:
            self._file.sync()

    @hookimpl
    def densedet_run_end(self, run: Any, summary: dict[str, Any]) -> None:
        if self._file is not None:
            if run.report is not None and self._seen != run.step:  # a hook before this one has failed
                self.densedet_run_step(run, run.report)
            self._file.close()
            self._file = None

    def _write(self, run: Any, event: str, values: dict[str, Any]) -> None:
        assert self._file is not None
        line = {
            "event": event,
            "step": run.step,
            "epoch": run.epoch,
            "seconds": round(run.seconds, 4),
            **values,
        }
        self._file.write(json_text(line))


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
