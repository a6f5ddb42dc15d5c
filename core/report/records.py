"""A finished (or stopped) run as its folder tells it. Reading never fails on a missing number, only on a
folder that is no run."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densedet.core.errors import UsageError
from densedet.core.recipe.faults import RecipeError
from densedet.core.recipe.yaml_marks import parse_yaml


@dataclass
class RunRecord:
    """What a run folder holds.

    name: what to call it in tables. recipe: the resolved recipe. steps, evaluations: the lines of
    metrics.jsonl with that event, in order. summary: summary.json. pictures: pictures.json, ``{}`` where
    there is none. Each may be empty.
    """

    name: str
    folder: Path
    recipe: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Any] = field(default_factory=dict)

    def metrics(self) -> dict[str, Any]:
        """The numbers at the end of the run: the summary's, or without one those of the last evaluation;
        ``{}`` where there is none."""
        if number(self.summary.get("AP")) is not None:
            return self.summary
        return next(
            (e["metrics"] for e in reversed(self.evaluations) if isinstance(e.get("metrics"), dict)), {}
        )

    def value(self, key: str) -> float | None:
        """A number of the summary, or where it lacks, what metrics.jsonl tells (AP..., steps, minutes); None
        where nobody knows."""
        known = number(self.summary.get(key))
        if known is not None:
            return known
        if key == "macs":
            flops = number(self.summary.get("flops"))
            return None if flops is None else flops / 2
        if key == "best_AP":
            judged = [e["metrics"] for e in self.evaluations if isinstance(e.get("metrics"), dict)]
            return max(
                (ap for metrics in judged if (ap := number(metrics.get("AP"))) is not None), default=None
            )
        last = self.steps[-1:] + self.evaluations[-1:]
        if key == "steps":
            return max((v for e in last if (v := number(e.get("step"))) is not None), default=None)
        if key == "minutes":
            seconds = max((v for e in last if (v := number(e.get("seconds"))) is not None), default=None)
            return None if seconds is None else seconds / 60
        return number(self.metrics().get(key))

    def class_value(self, name: str, key: str) -> float | None:
        """AP or AP50 of one class."""
        classes = self.metrics().get("classes")
        row = classes.get(name) if isinstance(classes, dict) else None
        return number(row.get(key)) if isinstance(row, dict) else None

    def class_names(self) -> list[str]:
        """Names in the order of the labels."""
        classes = self.metrics().get("classes")
        return [str(name) for name in classes] if isinstance(classes, dict) else []


def number(value: Any) -> float | None:
    """A finite number as it is, None for anything else. COCO's -1 ("nothing to judge") is None too: no figure
    of a run is negative."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or value == -1
    ):
        return None
    return value


def read_run(folder: Path | str) -> RunRecord:
    """The run in ``folder`` (recipe.yaml, metrics.jsonl, summary.json, pictures.json).

    A run that was killed lacks its summary and may have half a line at the end of metrics.jsonl: that line is
    passed over. UsageError where the folder does not exist or holds neither a recipe nor metrics.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(
            f"there is no run folder {str(folder)!r}: give one that densedet train wrote, such as "
            f"runs/quickstart_ssd/1"
        )
    if (
        not (folder / "recipe.yaml").is_file()
        and not (folder / "metrics.jsonl").is_file()
        and not (folder / "summary.json").is_file()
    ):
        inner = [path for path in folder.iterdir() if (path / "recipe.yaml").is_file()]
        newest = max(inner, key=lambda path: (path / "recipe.yaml").stat().st_mtime, default=None)
        hint = (
            f"give the run in it, {str(newest)!r}"
            if newest
            else "give a folder that densedet train wrote, such as runs/quickstart_ssd/1"
        )
        raise UsageError(
            f"{str(folder)!r} is not a run (no recipe.yaml, metrics.jsonl or summary.json in it): {hint}"
        )
    summary = _mapping(folder / "summary.json")
    events = _lines(folder / "metrics.jsonl")
    absolute = folder.resolve()
    name = summary.get("recipe")
    return RunRecord(
        name=name
        if isinstance(name, str) and name
        else absolute.parent.name
        if absolute.name.isdigit()
        else absolute.name,
        folder=folder,
        recipe=_recipe(folder / "recipe.yaml"),
        steps=[e for e in events if e.get("event") == "step"],
        evaluations=[e for e in events if e.get("event") == "evaluation"],
        summary=summary,
        pictures=_mapping(folder / "pictures.json"),
    )


def _mapping(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _recipe(path: Path) -> dict[str, Any]:
    try:
        value = parse_yaml(path.read_text(encoding="utf-8"), str(path)).plain()
    except (OSError, ValueError, RecipeError):
        return {}
    return value if isinstance(value, dict) else {}


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    events = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            events.append(event)
    return events
