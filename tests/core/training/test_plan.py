"""The arithmetic of a plan, from made-up measurements; one rehearsal of a real recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from densedet.core.errors import TooLargeError
from densedet.core.hookspecs import hookimpl
from densedet.core.recipe.loading import Recipe, load_recipe
from densedet.core.training import plan as planning
from densedet.core.training import rehearsal
from densedet.core.training import trials as trials_of
from densedet.core.training.rehearsal import Rehearsal
from densedet.core.training.run import Run
from densedet.core.training.trials import Trial

DATA = ["data.train.count=20", "data.val.count=8", "train.batch_size=4", "evaluate.batch_size=4"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make (recipe, run) of 20 training and 8 validation images, 4 a batch."""
    folder = tmp_path_factory.mktemp("plan")

    def make(*overrides: str) -> tuple[Recipe, Run]:
        recipe = load_recipe("quickstart_ssd", [*DATA, f"run.folder={folder / 'runs'}", *overrides])
        return recipe, Run(recipe)

    return make


FOUND = Rehearsal(
    import_memory_mb=400,
    built_mb=450,
    started=103.0,
    pixels=(128 * 64, 128 * 64),
    peak_memory_mb=600,
    warming=2.0,
    step=0.5,
    first_data=0.3,
    later_data=0.1,
    hooks=0.01,
    evaluation=4.0,
    evaluated_image=0.25,
    first_evaluation=1.0,
    ending=6.0,
    step_bytes=300,
    evaluation_bytes=20_000,
    other_bytes=5_000,
    checkpoint_bytes=(3_000_000, 2_000_000),
    cache_bytes=1_000_000,
)


def minutes(recipe: Recipe, run: Run, found: Rehearsal = FOUND) -> dict[str, float]:
    return planning._minutes(recipe, run, found, 100.0)


def test_minutes_of_a_budget_in_steps(made) -> None:
    numbers = minutes(*made("train.budget.steps=30", "train.evaluations=2"))
    # 5 steps an epoch. 2 s of warming, 30 * 0.5, 5 steps that wait for 0.3 and 25 that wait for 0.1: 21 s
    assert numbers["minutes_training"] == pytest.approx(21 / 60, abs=1e-3)
    assert (numbers["steps"], numbers["epochs"]) == (30, 6)
    # 2 * (4 + 8 * 0.25), 1 s for the first, 8 images that are decoded at (0.3 - 0.1) / 4: 13.4 s
    assert numbers["minutes_evaluating"] == pytest.approx(13.4 / 60, abs=1e-3)
    # 103 - 100, and two batches of 4 that are tried at 0.25: 5 s
    assert numbers["minutes_starting"] == pytest.approx(5 / 60, abs=1e-3)
    assert numbers["minutes_writing"] == pytest.approx((30 * 0.01 + 6) / 60, abs=1e-3)
    assert numbers["minutes"] == pytest.approx((21 + 13.4 + 5 + 6.3) / 60, abs=2e-3)


def test_images_that_are_cached_or_never_will_be(made) -> None:
    cached = replace(FOUND, uncached=(0.0, 0.0))
    numbers = minutes(*made("train.budget.steps=30", "train.evaluations=2"), cached)
    assert numbers["minutes_training"] == pytest.approx((2 + 30 * 0.6) / 60, abs=1e-3)
    assert numbers["minutes_evaluating"] == pytest.approx(13 / 60, abs=1e-3)
    numbers = minutes(*made("train.budget.steps=30", "data.cache_gb=0"))
    assert numbers["minutes_training"] == pytest.approx((2 + 30 * 0.8) / 60, abs=1e-3)


def test_workers_work_ahead(made) -> None:
    # 0.3 s of data by two workers within 0.5 s: nothing is waited for
    numbers = minutes(*made("train.budget.steps=30", "data.workers=2"))
    assert numbers["minutes_training"] == pytest.approx((2 + 30 * 0.5) / 60, abs=1e-3)
    slow = replace(FOUND, first_data=1.4, later_data=1.4)  # 0.7 a batch, 0.2 more than the step
    numbers = minutes(*made("train.budget.steps=30", "data.workers=2"), slow)
    assert numbers["minutes_training"] == pytest.approx((2 + 30 * 0.7) / 60, abs=1e-3)


def test_budgets_in_minutes_and_epochs(made) -> None:
    numbers = minutes(*made("train.budget.steps=null", "train.budget.minutes=1"))
    # 5 steps of 0.8 s, then (60 - 4) / 0.6 = 93.3 of 0.6 s
    assert (numbers["steps"], numbers["minutes_training"]) == (99, 1)
    numbers = minutes(*made("train.budget.steps=null", "train.budget.epochs=3", "train.accumulate=2"))
    assert numbers["steps"] == 8  # 15 batches, two a step
    # 8 steps of 0.5 s (both batches); 2.5 steps wait for 2 * 0.3, the others for 2 * 0.1
    assert numbers["minutes_training"] == pytest.approx((2 + 4 + 2.5 * 0.6 + 5.5 * 0.2) / 60, abs=1e-3)


def test_a_line_through_trials_with_fewer_images(made) -> None:
    trials = [Trial(1, 9.0, 900.0), Trial(2, 3.0, 700.0), Trial(4, 5.0, 900.0)]
    assert trials_of.seconds_for(trials, 16) == 17.0  # 1 + 16 * 1
    assert trials_of.memory_for(trials, 16, 450.0) == 2100.0  # 500 + 16 * 100
    assert trials_of.memory_for(trials[1:2], 16, 450.0) == 2450.0  # 450 + 16 * 250 / 2
    assert (
        trials_of.seconds_for([Trial(1, 3.0, 0.0), Trial(2, 2.0, 0.0)], 16) == 2.0
    )  # noise makes none faster
    recipe, run = made("train.budget.steps=10", "train.batch_size=16", "evaluate.batch_size=16")
    found = replace(FOUND, training=trials, evaluating=[Trial(1, 2.0, 480.0), Trial(2, 4.0, 510.0)])
    numbers = minutes(recipe, run, found)
    assert numbers["minutes_training"] == pytest.approx((2 + 10 * 17 + 2 * 0.3 + 8 * 0.1) / 60, abs=0.02)
    # 4 evaluations of 4 s beside 8 images of 2 s each, and the first one's 1 + 8 * 0.2 / 16
    assert numbers["minutes_evaluating"] == pytest.approx((4 * 20 + 1.1) / 60, abs=1e-3)
    memory = planning._memory(recipe, run, found)
    assert memory["peak_memory_mb"] == 2100  # 28 images with their boxes are 0.1 MB


def test_memory_of_the_boxes_that_are_kept(made, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, run = made()
    assert planning._memory(recipe, run, FOUND)["peak_memory_mb"] == 600
    monkeypatch.setattr(planning, "KEPT_MB", 0.5)
    recipe, run = made("data.workers=2")
    assert planning._memory(recipe, run, FOUND)["peak_memory_mb"] == 628  # 20 + 8 images in both workers


def test_larger_batches_than_those_that_were_tried(made) -> None:
    recipe, run = made("data.input_sizes_wh=[[128, 64], [256, 128]]", "train.budget.steps=30")
    # the largest has four times the pixels: 450 + 4 * (600 - 450); the mean 2.5 times
    assert planning._memory(recipe, run, FOUND)["peak_memory_mb"] == 1050
    numbers = minutes(recipe, run)
    assert numbers["minutes_training"] == pytest.approx((2 + 30 * 1.25 + 5 * 0.3 + 25 * 0.1) / 60, abs=1e-3)


def test_disk(made) -> None:
    recipe, run = made("train.evaluations=2")
    numbers = planning._disk(recipe, run, FOUND, 1000)
    # 3 + 2 MB of checkpoints, 1000 * 300 bytes, 2 * 20 kB, 5 kB, and 1 MB of the cache
    assert numbers["disk_mb"] == 6.3
    assert numbers["cache_mb"] == 1.0
    assert numbers["meanwhile_disk_mb"] == 9.3
    assert numbers["free_disk_mb"] > 0


def test_too_little_memory_is_refused_with_what_fits(made) -> None:
    recipe, run = made("train.batch_size=16", "data.workers=2")
    found = replace(FOUND, training=[Trial(1, 1.0, 600.0), Trial(2, 2.0, 700.0)])
    numbers = {**planning._memory(recipe, run, found), "free_memory_mb": 1000}
    assert numbers["peak_memory_mb"] == 2100  # 500 + 16 * 100
    (told,) = planning._beyond_memory(recipe, run, found, numbers)
    # 0.98 * 1000 + 400 = 1380; 8 images take 500 + 800. Pixels: sqrt((1380 - 450) / 1600) = 0.76 of each side
    assert "takes 2,100 MB, and 1,380 MB are there" in told
    assert "train.batch_size=8 with train.accumulate=2 (1,300 MB)" in told
    assert "data.input_size_wh=[96, 32]" in told
    more = {**numbers, "free_memory_mb": 1400}  # 1772: 12 images fit, of which two times 8 make the same step
    (told,) = planning._beyond_memory(recipe, run, found, more)
    assert "train.batch_size=8 with train.accumulate=2 (1,300 MB)" in told
    assert "data.workers=0" in told
    assert planning._beyond_memory(recipe, run, found, {**numbers, "free_memory_mb": 2000}) == []


def test_too_little_disk_is_refused_with_what_to_change(made) -> None:
    recipe, _ = made()
    numbers = {"meanwhile_disk_mb": 120.0, "cache_mb": 90.0, "free_disk_mb": 100}
    (told,) = planning._beyond_disk(recipe, numbers)
    assert "takes 120 MB, and 100 MB are free" in told
    assert "data.cache_gb=0 (then 30 MB;" in told
    assert planning._beyond_disk(recipe, {**numbers, "free_disk_mb": 120}) == []


class Elsewhere:
    """A hook that acts outside of the run folder."""

    @hookimpl
    def densedet_run_step(self) -> None:
        raise AssertionError("it was called")


def test_a_rehearsal_leaves_nothing_and_calls_no_hook_that_acts_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "SECONDS", 0.0)
    monkeypatch.setattr(Run, "_hook_manager", _with_one_more(Run._hook_manager))
    recipe = load_recipe("quickstart_ssd", [*DATA, "train.budget.steps=null", "train.budget.epochs=3"])
    monkeypatch.chdir(tmp_path)
    limits = _limits()
    numbers = planning.plan(recipe)
    assert list(tmp_path.iterdir()) == []
    assert _limits() == limits
    assert (numbers["steps"], numbers["epochs"]) == (15, 3)
    parts = [numbers[f"minutes_{part}"] for part in ("starting", "training", "evaluating", "writing")]
    assert min(parts) > 0
    assert numbers["minutes"] == pytest.approx(sum(parts), abs=0.003)
    assert numbers["peak_memory_mb"] >= numbers["import_memory_mb"] > 0
    assert 4 < numbers["disk_mb"] < 60  # the network has 2.4 MB
    assert numbers["too_large"] == []
    assert len(planning.lines(numbers)) == 6


def _with_one_more(make: Any) -> Any:
    return lambda run, extra: make(run, [*extra, Elsewhere()])


def _limits() -> Any:
    return psutil.Process().rlimit(psutil.RLIMIT_DATA) if psutil.LINUX else None


@pytest.mark.skipif(not psutil.LINUX, reason="other systems kill a process at once")
def test_what_cannot_even_be_tried_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials_of.machine, "free_memory_mb", lambda: 30.0)
    recipe = load_recipe("quickstart_ssd", [*DATA, "data.input_size_wh=[2048, 2048]", "data.cache_gb=0"])
    with pytest.raises(TooLargeError, match="write a smaller"):
        rehearsal.rehearse(recipe)
