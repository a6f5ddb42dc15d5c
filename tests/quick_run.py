"""The smallest run of the quick start, for tests of the commands that take a run."""

from __future__ import annotations

from pathlib import Path

from densedet.tools.main import main

QUICK = (
    "data.train.count=16",
    "data.val.count=4",
    "train.batch_size=8",
    "train.evaluations=1",
    "model.backbone.widths=[8, 8, 8]",
    "train.budget.steps=2",
    "run.hooks=[{name: metrics}, {name: checkpoint}]",
)


def train_quickly(folder: Path) -> str:
    """Train `QUICK` below ``folder``, and return the folder of the run."""
    assert main(["train", "quickstart_ssd", *QUICK, f"run.folder={folder}"]) == 0
    return str(folder / "quickstart_ssd" / "1")
