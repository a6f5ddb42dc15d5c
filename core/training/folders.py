"""Run folders: FOLDER/RECIPE/1, 2, 3 ..., none of them ever overwritten."""

from __future__ import annotations

import os
from pathlib import Path

from densedet.core.errors import CheckpointError, UsageError
from densedet.core.files import make_folder, name_fault, unwritable


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
