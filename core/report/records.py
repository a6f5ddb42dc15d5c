"""A run as its folder describes it, finished or not. Reading fails on a folder that is no run, never on a
missing number."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densedet.core.errors import UsageError
from densedet.core.mappings import at_path
from densedet.core.recipe.faults import RecipeError
from densedet.core.recipe.yaml_marks import parse_yaml


@dataclass
class RunRecord:
    """The contents of a run folder. Each may be empty.

    Attributes:
        name: name of the run in tables.
        folder: the run folder.
        recipe: plain values of the complete recipe.
        steps: the lines of metrics.jsonl with the event "step", in order.
        evaluations: the lines of metrics.jsonl with the event "evaluation", in order.
        summary: summary.json.
        pictures: pictures.json.
        damaged: sentences on files of the run that cannot be used.
        changes: to its recipe, under which its detector is judged: for another data set.
        plugins: plug-in files that its recipe needs and that the user has named.
    """

    name: str
    folder: Path
    recipe: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Any] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    changes: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()

    @property
    def metric(self) -> str:
        """Name of the number that the run goes by (``evaluate.metric``), e.g. "AP" or "classes.cat.AP50"."""
        return str(at_path(self.recipe, "evaluate.metric") or "AP")

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger `metric` is better."""
        return at_path(self.recipe, "evaluate.higher_is_better") is not False

    def metrics(self) -> dict[str, Any]:
        """Return the numbers at the end of the run: those of the summary, else of the last evaluation."""
        if number(at_path(self.summary, self.metric)) is not None:
            return self.summary
        return next(reversed(self._evaluated()), {})

    def _evaluated(self) -> list[dict[str, Any]]:
        return [e["metrics"] for e in self.evaluations if isinstance(e.get("metrics"), dict)]

    def value(self, key: str) -> float | None:
        """Return a number of the run, or None where it is unknown.

        Args:
            key: a key of summary.json or a dotted path into the metrics. Where the summary lacks it, it is
                taken from metrics.jsonl if it can be.
        """
        known = number(at_path(self.summary, key))
        if known is not None:
            return known
        if key == "macs":
            flops = number(self.summary.get("flops"))
            return None if flops is None else flops / 2
        if key == "best_value":
            values = [v for m in self._evaluated() if (v := number(at_path(m, self.metric))) is not None]
            return (max if self.higher_is_better else min)(values, default=None)
        last = self.steps[-1:] + self.evaluations[-1:]
        if key == "steps":
            return max((v for e in last if (v := number(e.get("step"))) is not None), default=None)
        if key == "minutes":
            seconds = max((v for e in last if (v := number(e.get("seconds"))) is not None), default=None)
            return None if seconds is None else seconds / 60
        return number(at_path(self.metrics(), key))

    def class_names(self) -> list[str]:
        """Return the classes that the run was evaluated on, in the order of the labels."""
        classes = self.metrics().get("classes")
        return [str(name) for name in classes] if isinstance(classes, dict) else []


def number(value: Any) -> float | None:
    """Return a finite number as it is, and None for anything else, COCO's -1 for a class without objects
    included."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or value == -1
    ):
        return None
    return value


def read_run(folder: Path | str) -> RunRecord:
    """Read recipe.yaml, metrics.jsonl, summary.json and pictures.json of a run folder.

    A run that was killed lacks its summary and may have half a line at the end of metrics.jsonl, which is
    left out.

    Raises:
        UsageError: the folder does not exist, or holds none of the first three files.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise UsageError(
            f"there is no run folder {str(folder)!r}: give one that densedet train wrote, such as "
            f"runs/quickstart_ssd/1"
        )
    if (
        not os.path.isfile(folder / "recipe.yaml")
        and not os.path.isfile(folder / "metrics.jsonl")
        and not os.path.isfile(folder / "summary.json")
    ):
        inner = [path for path in folder.iterdir() if os.path.isfile(path / "recipe.yaml")]
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
        pictures=read_pictures(folder),
        damaged=_damaged(folder),
    )


def _damaged(folder: Path) -> list[str]:
    """Return a sentence for each file of a run that is there and holds something else than it should."""
    from densedet.core.sealed_file import damage  # imports torch, which reading a run else does without

    found = [
        f"{folder / name} cannot be used: {told}"
        for name in ("best.pt", "last.pt")
        if os.path.lexists(folder / name) and (told := damage(folder / name))
    ]
    readers = {"recipe.yaml": _recipe, "summary.json": _mapping, "pictures.json": _mapping}
    return found + [
        f"{folder / name} cannot be read"
        for name, reader in readers.items()
        if os.path.lexists(folder / name) and not reader(folder / name)
    ]


def read_pictures(folder: Path) -> dict[str, Any]:
    """Read the list of the pictures in a folder, as `densedet.core.report.pictures.write_run_pictures` has
    written it; empty where there is none."""
    return _mapping(folder / "pictures.json")


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
