"""Building a run changes nothing outside of it; starting it does, and the end puts it back."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from densedet.core.recipe.loading import load_recipe
from densedet.core.training import precision, session
from densedet.core.training.prediction import Predictor
from densedet.core.training.run import Run

SMALL = [
    "data.train.count=8",
    "data.val.count=4",
    "train.batch_size=4",
    "train.budget.steps=2",
    "run.hooks=[]",
]


def test_building_has_no_side_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENSEDET_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(123)
    random.seed(123)
    before = torch.get_rng_state(), random.getstate(), torch.get_num_threads()
    recipe = load_recipe("quickstart_ssd", [*SMALL, f"run.folder={tmp_path / 'runs'}", "train.threads=7"])
    run = Run(recipe)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert torch.get_num_threads() == before[2]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError, match=r"call start\(\) first"):
        _ = run.folder


def test_training_puts_threads_and_random_states_back(tmp_path: Path) -> None:
    torch.manual_seed(123)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    seen = []

    class Look:
        from densedet.core.hookspecs import hookimpl

        @hookimpl
        def densedet_run_step(self, run: Run, step: dict) -> None:
            seen.append(torch.get_num_threads())

    recipe = load_recipe("quickstart_ssd", [*SMALL, f"run.folder={tmp_path}", f"train.threads={threads + 1}"])
    run = session.train(recipe, hooks=[Look()])
    assert seen == [threads + 1] * 2
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), before)
    assert run.folder == tmp_path / "quickstart_ssd" / "1"


def test_threads_are_no_more_than_the_cores_that_it_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()
    run = Run(load_recipe("quickstart_ssd", [*SMALL, f"run.folder={tmp_path}"]))
    try:
        torch.set_num_threads(5)
        for cores, expected in ((3, 3), (8, 5)):
            monkeypatch.setattr(precision, "usable_cores", lambda cores=cores: cores)
            with session.process_settings(run):
                assert torch.get_num_threads() == expected
            assert torch.get_num_threads() == 5
        monkeypatch.setattr(precision, "usable_cores", lambda: 3)
        Predictor(run.recipe, run.detector, run.classes, run.category_ids, run.device)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(tmp_path: Path) -> None:
    recipe = load_recipe("quickstart_ssd", [*SMALL, f"run.folder={tmp_path}"])
    weights = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        weights.append(torch.cat([p.flatten() for p in Run(recipe).detector.parameters()]))
    assert torch.equal(*weights)
