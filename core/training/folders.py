"""Run folders: FOLDER/RECIPE/1, 2, 3 ..., none of them ever overwritten."""

from __future__ import annotations

import contextlib
from pathlib import Path

from densedet.core.errors import CheckpointError, UsageError
from densedet.core.files import name_fault


def new_folder(root: Path, name: str) -> Path:
    """Make the next free folder below ``root/name`` and return it.

    Raises:
        UsageError: no folder should have this name.
    """
    if fault := name_fault(name):
        raise UsageError(f"a run needs a name that a folder may have: {fault}")
    parent = root / name
    parent.mkdir(parents=True, exist_ok=True)
    number = max((int(p.name) for p in parent.iterdir() if p.name.isdigit()), default=0)
    while True:
        number += 1
        with contextlib.suppress(FileExistsError):
            (parent / str(number)).mkdir()
            return parent / str(number)


def latest_folder(root: Path, name: str) -> Path:
    """Return the newest run folder of a recipe.

    Raises:
        CheckpointError: there is none.
    """
    numbers = [int(p.name) for p in (root / name).glob("*") if p.name.isdigit()]
    if not numbers:
        raise CheckpointError(f"there is no run of {name!r} under {root} to resume")
    return root / name / str(max(numbers))
