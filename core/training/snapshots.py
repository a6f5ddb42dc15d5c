"""Snapshots of a run: the weights as they were at several moments of the training, in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from densedet.core.training import checkpoint

FOLDER = "snapshots"
"""Folder of a run that holds them."""


def path_of(run_folder: Path, step: int) -> Path:
    """Return the file of the snapshot of a step."""
    return run_folder / FOLDER / f"{step:08d}.pt"


def snapshots_of(run_folder: Path) -> dict[int, Path]:
    """Return the file of each snapshot by its step, ascending; empty where the run kept none."""
    files = sorted((run_folder / FOLDER).glob("*.pt"))
    return {int(file.stem): file for file in files if file.stem.isdecimal()}


def save(run: Any) -> None:
    """Write the weights that are evaluated at this step as a checkpoint of weights alone, atomically."""
    run.check_folder()  # writing makes it anew
    state = run.state(with_optimizer=False)
    state |= {"detector": run.eval_detector.state_dict(), "ema": None}  # once: half the bytes
    checkpoint.save(path_of(run.folder, run.step), state)


def drop_later(run_folder: Path, step: int) -> None:
    """Delete the snapshots of steps after ``step``, which a resumed run takes anew."""
    for taken_at, file in snapshots_of(run_folder).items():
        if taken_at > step:
            file.unlink(missing_ok=True)
