"""Snapshots of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from densedet.core.hookspecs import hookimpl
from densedet.core.recipe.loading import load_recipe
from densedet.core.training import checkpoint, session
from densedet.core.training.prediction import load
from densedet.core.training.snapshots import path_of, snapshots_of
from densedet.tests.quick_run import QUICK


class StopAfter:
    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def densedet_run_step(self, run: Any) -> None:
        if run.step == self.step:
            run.stop("the test says so")


def recipe(folder: Path, *hooks: str) -> Any:
    """Four steps, of which each writes last.pt."""
    listed = ", ".join([*hooks, "{name: checkpoint, every_steps: 1}"])
    changes = (f"run.hooks=[{listed}]", f"run.folder={json.dumps(str(folder))}", "train.budget.steps=4")
    return load_recipe("quickstart_ssd", [*QUICK, *changes])


def weights(file: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(file)["detector"]


def test_snapshots_are_spread_over_the_training_and_survive_a_resume(tmp_path: Path) -> None:
    # 2 moments of 4 steps: after steps 2 and 4; and the untrained weights.
    whole = session.train(recipe(tmp_path / "whole", "{name: snapshots, count: 2}"))
    kept = snapshots_of(whole.folder)
    assert list(kept) == [0, 2, 4]
    assert checkpoint.load(kept[0])["step"] == 0
    # They hold what is evaluated, the averaged weights, once and without the optimizer.
    last = checkpoint.load(kept[4])
    assert last["optimizer"] is None
    assert last["ema"] is None
    average = checkpoint.load(whole.folder / "last.pt")["ema"]
    assert all(torch.equal(average[name], value) for name, value in last["detector"].items())
    assert not torch.equal(*(next(iter(weights(kept[step]).values())) for step in (2, 4)))
    load(kept[2], device="cpu")  # a checkpoint as any other

    halves = session.train(recipe(tmp_path / "halves", "{name: snapshots, count: 2}"), hooks=[StopAfter(3)])
    assert list(snapshots_of(halves.folder)) == [0, 2]
    # What a killed process left behind its last.pt goes: the step that it belongs to is done anew.
    later = path_of(halves.folder, 4)
    later.write_bytes(b"of a process that was killed")
    path_of(halves.folder, 9).write_bytes(b"of a longer budget")
    resumed = session.resume(halves.folder)
    assert list(snapshots_of(resumed.folder)) == [0, 2, 4]
    again = weights(later)
    assert all(torch.equal(again[name], value) for name, value in last["detector"].items())


def test_a_run_that_is_not_asked_keeps_none(tmp_path: Path) -> None:
    run = session.train(recipe(tmp_path))
    assert snapshots_of(run.folder) == {}
