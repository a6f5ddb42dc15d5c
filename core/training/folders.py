"""Run folders: FOLDER/RECIPE/1, 2, 3 ..., none of them ever overwritten. No torch here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from densedet.core.errors import CheckpointError, UsageError
from densedet.core.files import make_folder, name_fault, unwritable
from densedet.core.signals import STOPPING

BY_SIGNAL = {number.name for number in STOPPING}
"""Reasons in summary.json for which a run has stopped that is to go on."""


def summary_of(folder: Path) -> dict[str, Any]:
    """Return the content of summary.json, empty where there is none."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}


def stage_of(folder: Path) -> Literal["new", "begun", "ended"]:
    """Return how far the run in a folder is.

    Returns:
        "ended": it has used its budget, or has stopped by a rule of its recipe. summary.json is written last,
        so all of it is there. "begun": it can go on from its last.pt. "new": nothing is there that counts.
    """
    summary = summary_of(folder)
    status, reason = summary.get("status"), summary.get("reason")
    if status == "done" or (status == "stopped" and reason not in BY_SIGNAL):
        return "ended"
    return "begun" if os.path.isfile(folder / "last.pt") else "new"


def new_folder(root: Path, name: str) -> Path:
    """Make the next free folder below ``root/name`` and return it.

    Raises:
        UsageError: no folder should have this name.
        OutputError: it cannot be made.
    """
    if fault := name_fault(name):
        raise UsageError(f"a run needs a name that a folder may have: {fault}")
    parent = root / name
    make_folder(parent, "give another run.folder")
    number = max(_numbers(parent), default=0)
    while True:
        number += 1
        try:
            (parent / str(number)).mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise unwritable(parent / str(number), error) from error
        return parent / str(number)


def numbered(made: Path) -> Path:
    """Rename a folder that has been filled to the next free number beside it. Returns the new path.

    Raises:
        OutputError: it cannot be renamed.
    """
    number = max(_numbers(made.parent), default=0)
    while True:
        number += 1
        path = made.with_name(str(number))
        try:
            made.rename(path)
        except OSError as error:
            if not os.path.lexists(path):
                raise unwritable(path, error) from error
        else:
            return path


def latest_folder(root: Path, name: str) -> Path:
    """Return the newest run folder of a recipe.

    Raises:
        CheckpointError: there is none.
    """
    numbers = _numbers(root / name)
    if not numbers:
        raise CheckpointError(f"there is no run of {name!r} under {root} to resume")
    return root / name / str(max(numbers))


def _numbers(parent: Path) -> list[int]:
    """Return the numbers of the run folders in a folder, none where it cannot be read."""
    try:
        names = os.listdir(parent)
    except OSError:
        return []
    return [int(name) for name in names if name.isdecimal()]
