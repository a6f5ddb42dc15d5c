"""Resumed runs: what changed since the checkpoint is said, applied or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from densedet.core.recipe.loading import load_recipe
from densedet.core.training import checkpoint
from densedet.core.training.run import Run

SMALL = (
    "data.train.count=24",
    "data.val=null",
    "train.batch_size=8",
    "model.backbone.widths=[8, 8, 8]",
    "run.hooks=[]",
    "train.budget.steps=6",
)


def recipe(*overrides: str) -> Any:
    return load_recipe("quickstart_ssd", [*SMALL, *overrides])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last.pt of a run of two steps out of six."""
    from densedet.core.training import engine

    run = Run(recipe("train.ema_decay=null"), folder=tmp_path_factory.mktemp("run"))
    batches = run.batches()
    for _ in range(2):
        engine.optimizer_step(run, (next(batches)[0],))
    checkpoint.save(run.folder / "last.pt", run.state())
    return run.folder / "last.pt"


def test_an_average_that_starts_late_starts_at_the_trained_weights(trained: Path) -> None:
    run = Run(recipe("train.ema_decay=0.9"), resume=checkpoint.load(trained))
    assert run.ema is not None
    weights = run.detector.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in run.ema.model.state_dict().items())
    assert any("train.ema_decay is new" in note for note in run.notes)
    again = Run(recipe("train.ema_decay=null"), resume=run.state())
    assert any("train.ema_decay is null" in note for note in again.notes)
