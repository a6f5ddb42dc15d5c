"""Batches for this machine: the search with made-up speeds, and a real one where memory is short."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from densedet.core.recipe.loading import load_recipe
from densedet.core.training import batch_size, session
from densedet.core.training.batch_size import largest_that_fits, largest_worth_it, with_batch_size
from densedet.core.training.resuming import checked_stage
from densedet.core.training.trials import Trial


@pytest.mark.parametrize(
    ("speeds", "found"),
    [
        ({16: 100, 32: 150, 64: 160}, 32),  # twice the batch, 7 % faster
        ({16: 100, 32: 150, 64: None}, 32),  # out of memory
        ({16: 100, 32: 200, 64: 400, 128: 800}, 128),  # as many as there may be
        ({16: 100, 32: 90}, 16),
        ({16: None, 8: None, 4: 20}, 4),
        ({16: None, 8: None, 4: None, 2: None}, 1),
    ],
)
def test_the_search_on_a_gpu(speeds: dict[int, Any], found: int) -> None:
    assert largest_worth_it(speeds.__getitem__, start=16, most=128) == found


def test_no_more_than_there_may_be() -> None:
    assert largest_worth_it({6: 10.0}.__getitem__, start=16, most=6) == 6
    assert largest_that_fits(lambda size: size <= 5, most=16) == 4


def recipe(folder: Path, *overrides: str, images: int = 200) -> Any:
    return load_recipe(
        "quickstart_ssd",
        [
            f"run.folder={json.dumps(str(folder))}",
            f"data.train.count={images}",
            *("data.val=null", "run.hooks=[{name: checkpoint}]", "train.budget.steps=2"),
            "train.batch_size=auto",
            *overrides,
        ],
    )


def test_a_cpu_takes_what_fits_and_the_learning_rate_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 300 MB and 100 an image more than before, and 0.8 of 1,500 are free: 9 images, of 16, 8, 4 ... 8
    before = 1000.0
    trials = [Trial(1, 1.0, before + 400), Trial(2, 2.0, before + 500)]
    monkeypatch.setattr(batch_size, "used_mb", lambda: before)
    monkeypatch.setattr(batch_size.machine, "free_memory_mb", lambda: 1500.0)
    monkeypatch.setattr(batch_size, "try_steps", lambda run, batch: (trials, False))
    asked = recipe(tmp_path, "train.optimizer.lr=0.004")
    run = session.train(asked)
    assert (run.settings.batch_size, run.settings.optimizer["lr"]) == (8, 0.002)
    assert "train.batch_size: auto is 8 on this machine" in run.notes[-1]
    assert "0.004, meant for 16 images, grows in proportion to 0.002" in run.notes[-1]
    written = (run.folder / "recipe.yaml").read_text()
    assert "batch_size: 8" in written
    assert "lr: 0.002" in written
    assert checked_stage(run.folder, asked) == "ended"


def test_a_cpu_with_memory_takes_what_the_learning_rate_is_for(tmp_path: Path) -> None:
    found, told = with_batch_size(recipe(tmp_path, "train.optimizer.lr=0.004"))
    assert (found.train.batch_size, found.train.optimizer["lr"]) == (16, 0.004)
    assert told == "train.batch_size: auto is 16 on this machine"
    few, _ = with_batch_size(recipe(tmp_path, images=40))
    assert few.train.batch_size == 5  # 8 steps an epoch
    assert with_batch_size(found) == (found, None)
