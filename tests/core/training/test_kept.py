"""What a resumed run finds again: draws, counters, running means, an evaluation that was not finished."""

from __future__ import annotations

import json
import multiprocessing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from densedet.core.hookspecs import hookimpl
from densedet.core.recipe.loading import load_recipe
from densedet.core.training import checkpoint, session
from densedet.core.training.run import Run

SMALL = (
    "data.train.count=24",
    "data.val.count=6",
    "train.batch_size=8",
    "train.evaluations=2",
    "train.budget.steps=4",
    "run.hooks=[{name: metrics}, {name: checkpoint, every_steps: 1}]",
)
DRAWING = """
import random
import numpy as np
import torch
import densedet

@densedet.hookimpl
def densedet_run_start(run):
    run.detector.backbone.register_forward_hook(drop)

def drop(module, images, maps):
    return [torch.nn.functional.dropout(one, 0.5, module.training) for one in maps]

class Noise:
    def __call__(self, batch, generator):
        by = random.random() + np.random.rand() + float(torch.rand(()))
        batch.images = batch.images.float() * (by / 3)
        return batch

densedet.register("batch_transform", "noise")(Noise)
"""
"""Parts that draw from the global generators, in the main process and in workers."""
TIMES = ("seconds", "step_seconds", "data_seconds")


def lines(run: Run) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


class StopAfter:
    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def densedet_run_step(self, run: Run) -> None:
        if run.step == self.step:
            run.stop("the test says so")


def test_global_draws_are_equal_for_any_number_of_workers_and_after_a_resume(tmp_path: Path) -> None:
    (tmp_path / "drawing.py").write_text(DRAWING)
    yaml = tmp_path / "r.yaml"
    yaml.write_text(
        "base: densedet:quickstart_ssd.yaml\nplugins: [./drawing.py]\n"
        "data: {batch_transforms: [{name: noise}]}\n"
    )

    def recipe(name: str, workers: int) -> Any:
        folder = f"run.folder={json.dumps(str(tmp_path / name))}"
        return load_recipe(yaml, [*SMALL, folder, f"data.workers={workers}"])

    whole = session.train(recipe("whole", 0))
    before = multiprocessing.active_children()
    worked = session.train(recipe("workers", 2))
    assert multiprocessing.active_children() == before, (
        "they end with the run, not with the garbage collector"
    )
    assert lines(worked) == lines(whole)
    assert worked.evaluate()["AP"] == whole.evaluate()["AP"], "by new workers"
    halves = session.train(recipe("halves", 0), hooks=[StopAfter(3)])
    resumed = session.resume(halves.folder, plugins=[str(tmp_path / "drawing.py")])
    assert lines(resumed) == lines(whole)
    weights = [checkpoint.load(run.folder / "last.pt")["detector"] for run in (whole, resumed)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_counters_and_running_means_survive(tmp_path: Path) -> None:
    hooks = "run.hooks=[{name: checkpoint}, {name: tensorboard, every: 10, images: 0}]"
    given = [*SMALL, hooks, "model.backbone.widths=[8, 8, 8]", f"run.folder={json.dumps(str(tmp_path))}"]
    run = Run(load_recipe("quickstart_ssd", given), hooks=[StopAfter(3)])
    run.dropped, run.broken = 5, {7: "b.png is no image", 3: "a.png is no image"}
    session.conduct(run)
    state = checkpoint.load(run.folder / "last.pt")
    broken = {"7": "b.png is no image", "3": "a.png is no image"}
    seen = 3 * run.settings.batch_size
    assert state["counters"] == {"images_seen": seen, "lost_boxes": run.dropped, "broken_images": broken}
    # The curves' points are of steps 1 and 2 (an evaluation): the loss of step 3 waits for the next one.
    assert len(state["plugins"]["TensorBoardHook#1"]["sums"]["train/loss"]) == 1
    resumed = session.resume(run.folder, ["train.batch_size=2"])
    summary = json.loads((resumed.folder / "summary.json").read_text())
    assert summary["images_seen"] == seen + 2 * (resumed.step - 3)
    assert summary["lost_boxes"] >= 5
    assert summary["broken_images"] == ["a.png is no image", "b.png is no image"]


class Killed(BaseException):
    """Stands for kill -9: nothing is written any more."""


@pytest.mark.parametrize("where", ["densedet_run_evaluated", "densedet_run_end"])
def test_a_run_killed_after_its_last_step_is_finished(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recipe(name: str) -> Any:
        folder = f"run.folder={json.dumps(str(tmp_path / name))}"
        return load_recipe("quickstart_ssd", [*SMALL, "model.backbone.widths=[8, 8, 8]", folder])

    whole = session.train(recipe("whole"))
    run = Run(recipe("killed"))

    def kill(*arguments: Any, **named: Any) -> None:
        if run.step == 4:
            raise Killed

    # Between metrics.jsonl's line of the last evaluation and its checkpoint; and before summary.json.
    if where == "densedet_run_evaluated":
        hook = run.hooks.get_plugin("CheckpointHook#1")
        run.hooks.unregister(hook)
        hook.densedet_run_evaluated = hookimpl(trylast=True)(lambda run, metrics: kill())
        run.hooks.register(hook, "CheckpointHook#1")
    else:
        monkeypatch.setattr(session.hookspecs, "end_run", kill)
    monkeypatch.setattr(session.files, "write_text", lambda path, text: None)
    with pytest.raises(Killed):
        session.conduct(run)
    monkeypatch.undo()
    assert not (run.folder / "summary.json").exists()
    resumed = session.resume(run.folder)
    assert resumed.status == "done"
    assert lines(resumed) == lines(whole)
    with pytest.raises(checkpoint.CheckpointError, match="used its whole budget"):
        session.resume(run.folder)


def test_loaders_end_with_the_validation_set_that_they_are_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a limit and without: each is made once, and none is left to the garbage collector."""
    run = Run(load_recipe("quickstart_ssd", [*SMALL, f"run.folder={tmp_path}", "data.cache_gb=0"]))
    for limit in (2, None, 2):
        assert run.evaluate(limit)["images"] == (limit or 6)
    loaders, closed = list(run._eval_loaders.values()), []
    assert len(loaders) == 2
    for loader in loaders:
        monkeypatch.setattr(loader, "close", partial(closed.append, loader))
    run.evaluate_from_now_on(None)
    assert closed == loaders
    assert run.evaluate() == {}
