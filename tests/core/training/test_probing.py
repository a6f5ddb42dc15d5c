"""The precision that is chosen by measuring; the clock is made up, so that no test depends on the machine."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from densedet.core.recipe.loading import Recipe, load_recipe
from densedet.core.training import probing, session
from densedet.core.training.run import Run

SMALL = [
    "data.train.count=8",
    "data.val=null",
    "train.batch_size=4",
    "train.budget.steps=3",
    "run.hooks=[{name: checkpoint}]",
]


def recipe(folder: Path, *overrides: str) -> Recipe:
    return load_recipe("quickstart_ssd", [*SMALL, f"run.folder={json.dumps(str(folder))}", *overrides])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let each probe take its time by name, once it has really been made; the calls are counted by (name,
    images)."""
    real, calls = probing._seconds, Counter()

    def start(**seconds: float) -> Counter:
        def taken(run: Run, model: Any, batch: Any, name: str) -> float:
            real(run, model, batch, name)
            calls[name, len(batch)] += 1
            return seconds[name] * len(batch) / 4

        monkeypatch.setattr(probing, "SHORTEST", 3)
        monkeypatch.setattr(probing, "_seconds", taken)
        return calls

    return start


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("it was measured")

    monkeypatch.setattr(probing, "_measured", refuse)


def weights(run: Run) -> dict[str, Any]:
    return {**run.detector.state_dict(), **run.eval_detector.state_dict()}


def test_the_faster_one_is_taken_and_nothing_else_has_changed(tmp_path: Path, clock: Any) -> None:
    plain = session.train(recipe(tmp_path, "train.precision=float32"))
    calls = clock(float32=0.05, bf16=0.06)
    run = session.train(recipe(tmp_path))
    # twice with two images, then once that does not count and three times with all four
    assert calls == {
        (name, count): 4 if count == 4 else 2 for name in ("float32", "bf16") for count in (2, 4)
    }
    assert run.precision == "float32"
    assert "precision: float32, measured forward" in run.notes[-1]
    assert "(float32 50 ms, bf16 60 ms)" in run.notes[-1]
    assert weights(run).keys() == weights(plain).keys()
    assert all(torch.equal(value, weights(plain)[name]) for name, value in weights(run).items())
    summary = json.loads((run.folder / "summary.json").read_text())
    assert summary["measured_ms"] == {"float32": 50.0, "bf16": 60.0}


def test_a_resumed_run_keeps_its_precision(
    tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    calls = clock(float32=0.05, bf16=0.03)
    run = session.train(recipe(tmp_path))
    assert run.precision == "bfloat16"
    assert calls["bf16", 4] == 2  # 1.67 times as fast: one look is enough
    request.getfixturevalue("unmeasured")
    further = session.resume(run.folder, ["train.budget.steps=4"])
    assert (further.precision, further.step) == ("bfloat16", 4)
    other = session.resume(run.folder, ["train.budget.steps=5", "train.precision=float32"])
    assert other.precision == "float32"


def test_a_gain_of_three_percent_is_none(tmp_path: Path, clock: Any) -> None:
    clock(float32=0.05, bf16=0.049)
    run = Run(recipe(tmp_path))
    probing.choose_precision(run)
    assert run.chosen_precision == "float32"


def test_a_hopeless_one_is_given_up_after_two_images(tmp_path: Path, clock: Any) -> None:
    calls = clock(float32=0.05, bf16=0.2)
    run = Run(recipe(tmp_path))
    probing.choose_precision(run)
    assert (calls["bf16", 2], calls["bf16", 4]) == (2, 0)
    assert run.chosen_precision == "float32"
    assert run.measured_ms == {"float32": 50.0, "bf16": 200.0}  # that of two images, twice


def test_a_short_run_takes_float32_unmeasured(tmp_path: Path, unmeasured: None) -> None:
    run = Run(recipe(tmp_path, f"train.budget.steps={probing.SHORTEST - 1}"))
    probing.choose_precision(run)
    assert (run.chosen_precision, run.notes[-1].startswith("precision")) == ("float32", False)
    run = Run(recipe(tmp_path, "train.precision=bf16", "train.budget.steps=100000"))
    probing.choose_precision(run)
    assert (run.chosen_precision, run.measured_ms) == ("bf16", {})


def test_a_budget_of_too_few_minutes_is_noticed_by_its_first_images(tmp_path: Path, clock: Any) -> None:
    overrides = ["train.budget.steps=null", "train.budget.minutes=0.002"]  # 120 ms: 3 steps of 40
    calls = clock(float32=0.05, bf16=0.03)
    run = Run(recipe(tmp_path, *overrides))
    probing.choose_precision(run)
    assert (run.chosen_precision, set(calls)) == ("float32", {("float32", 2), ("bf16", 2)})
    clock(float32=0.03, bf16=0.02)
    run = Run(recipe(tmp_path, *overrides))
    probing.choose_precision(run)
    assert run.chosen_precision == "bf16"


def test_an_operation_that_lacks_the_precision(tmp_path: Path) -> None:
    def model(batch: Any) -> Any:
        raise RuntimeError("\"grid_sampler_2d_cpu\" not implemented for 'BFloat16'")

    model.zero_grad = lambda **options: None  # type: ignore[attr-defined]
    run: Any = Run(recipe(tmp_path))
    assert probing._seconds(run, model, None, "bf16") == float("inf")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="not implemented"):
        probing._seconds(run, model, None, "float32")  # type: ignore[arg-type]
