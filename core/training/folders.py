"""Run folders: FOLDER/RECIPE/1, 2, 3 ..., none of them ever overwritten. No torch here."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Literal

from densedet.core.errors import CheckpointError, UsageError
from densedet.core.files import make_folder, move_all, name_fault, temporary_folder, unwritable
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
    return _numbered(parent, Path.mkdir)


def write_together(path: Path, write: Callable[[Path], object], *, in_number: bool) -> Path:
    """Write a file and those that belong to it, and give them their names when all are complete.

    Args:
        path: the file.
        write: writes it at the path that it is given, and the others beside it.
        in_number: whether they get the next free number beside ``path`` for a folder of their own.

    Returns:
        The file.

    Raises:
        UsageError: something is at one of the names.
        OutputError: they cannot be written.
    """
    with temporary_folder(path) as made:
        write(made / path.name)
        if in_number:
            return _numbered(path.parent, made.rename) / path.name
        move_all(made)
    return path


def _numbered(parent: Path, make: Callable[[Path], object]) -> Path:
    """Make a folder called by the next free number; of several processes each gets its own."""
    for number in count(max(_numbers(parent), default=0) + 1):
        path = parent / str(number)
        try:
            make(path)
        except OSError as error:
            # A folder that is there is no FileExistsError where it is renamed onto.
            if not isinstance(error, FileExistsError) and not os.path.lexists(path):
                raise unwritable(path, error) from error
        else:
            break
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
