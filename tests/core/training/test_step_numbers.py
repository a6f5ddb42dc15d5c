"""Steps whose numbers are read late, as on a GPU: the same steps, and one that is refused changes nothing."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from densedet.core.errors import TrainingError
from densedet.core.hookspecs import hookimpl
from densedet.core.recipe.loading import load_recipe
from densedet.core.training import checkpoint, engine, session
from densedet.core.training.run import Run
from densedet.core.training.step_numbers import StepNumbers, StepReport
from densedet.tests.devices import a_gpu

ADAMW = "train.optimizer={name: adamw}"
TIMES = ("seconds", "step_seconds", "data_seconds")


def run_of(folder: Path, *overrides: str, lag: int, hooks: list[Any] | None = None) -> Run:
    recipe = load_recipe(
        "quickstart_ssd",
        [
            *("data.train.count=24", "data.val.count=6", "train.batch_size=8", "train.evaluations=1"),
            *("model.backbone.widths=[8, 8, 8]", "train.budget.steps=7"),
            "run.hooks=[{name: metrics}, {name: checkpoint, every_steps: 100}]",
            f"run.folder={json.dumps(str(folder))}",
            *overrides,
        ],
    )
    run = Run(recipe, hooks=hooks or [])
    run.read_late(lag)
    return run


def state(run: Run) -> dict[str, Any]:
    return checkpoint.load(run.folder / "last.pt")


def lines(run: Run) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def check_same(first: dict[str, Any], second: dict[str, Any], *, exact: bool = True) -> None:
    """Weights, buffers and the optimizer's state are equal; averages nearly, which are computed otherwise."""
    assert first["step"] == second["step"]
    assert first["counters"] == second["counters"]
    same = torch.equal if exact else partial(torch.allclose, atol=1e-3, rtol=1e-2)
    for name, value in first["detector"].items():
        assert same(value, second["detector"][name]), name
    for name, value in first["ema"].items():
        assert torch.allclose(value, second["ema"][name], atol=1e-6 if exact else 1e-4), name
    ours, theirs = (one["optimizer"]["torch"]["state"] for one in (first, second))
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        assert all(same(torch.as_tensor(v), torch.as_tensor(theirs[name][k])) for k, v in values.items())


def test_reading_late_changes_no_step(tmp_path: Path) -> None:
    augmented = ("data.batch_transforms=[{name: crop}, {name: flip}]", "train.clip_norm=null", ADAMW)
    at_once, late = (session.conduct(run_of(tmp_path / str(lag), *augmented, lag=lag)) for lag in (0, 2))
    assert (at_once.lag, late.lag) == (0, 2)
    check_same(state(at_once), state(late))
    plain = [row for row in lines(at_once) if row["event"] == "step"]
    assert plain == [row for row in lines(late) if row["event"] == "step"]
    assert [row["step"] for row in plain] == [1, 2, 3, 4, 5, 6, 7]


def counting(module: torch.nn.Module, _: Any) -> None:
    module.passes.add_(1)


class Poison:
    """A gradient that is not finite in step 4 alone."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    @hookimpl
    def densedet_run_start(self, run: Run) -> None:
        *_, weight = run.detector.parameters()

        def spoil(gradient: torch.Tensor) -> torch.Tensor:
            self.seen.append(run.step)
            return gradient * float("nan") if run.step == 3 else gradient

        weight.register_hook(spoil)


@pytest.mark.parametrize(("optimizer", "buffer"), [("adamw", True), ("sgd", False), ("muon", False)])
def test_a_step_that_is_refused_late_changes_nothing(tmp_path: Path, optimizer: str, buffer: bool) -> None:
    """The GPU has begun steps 5 and 6 when the host hears of step 4: all three are undone."""
    told, states, rows = [], [], []
    for lag in (0, 2):
        poison = Poison()
        # torch fuses SGD on a CPU for weights in the plain layout alone.
        choice = f"train.optimizer={{name: {optimizer}}}", "train.channels_last=false", "train.clip_norm=null"
        run = run_of(tmp_path / str(lag), *choice, lag=lag, hooks=[poison])
        if buffer:  # statistics that a forward pass moves, as those of batch norm
            run.detector.register_buffer("passes", torch.zeros(()))
            run.detector.register_forward_pre_hook(counting)
            if run.ema is not None:
                run.ema.model.register_buffer("passes", torch.zeros(()))
            run.read_late(lag)
        with pytest.raises(
            TrainingError, match=r"gradient of .* is not finite.* at step 4: nothing"
        ) as failed:
            session.conduct(run)
        told.append(str(failed.value).replace(str(run.folder), "folder"))
        assert run.step == 3
        # The black box computes step 4 once more.
        assert poison.seen == ([0, 1, 2, 3, 3] if lag == 0 else [0, 1, 2, 3, 4, 5, 3, 3])
        states.append(state(run))
        rows.append([row for row in lines(run) if row["event"] == "step"])
        assert json.loads((run.folder / "summary.json").read_text())["steps"] == 3
    assert told[0] == told[1]
    if optimizer != "muon":
        assert rows[0] == rows[1]
    assert [row["step"] for row in rows[1]] == [1, 2, 3]
    check_same(*states, exact=optimizer != "muon")  # whose kernels step by another formula


def test_an_optimizer_that_cannot_refuse_is_asked_at_once(tmp_path: Path) -> None:
    not_fused = "train.optimizer={name: sgd}", "train.channels_last=true"
    assert run_of(tmp_path, *not_fused, lag=2).lag == 0


def test_a_report_reads_its_numbers_when_somebody_asks() -> None:
    numbers = StepNumbers(["class", "box"], torch.tensor([0.5, 0.25, 2.0, 0.0]), [], lost=torch.tensor(3))
    report = StepReport(numbers, {"learning_rate": 0.1})
    report |= {"images": 8}
    assert report["images"] == 8
    assert report._numbers is not None  # nothing was asked for that a GPU has
    whole = {"learning_rate": 0.1, "images": 8, "losses": {"class": 0.5, "box": 0.25}}
    assert {**report} == {**whole, "loss": 0.75, "grad_norm": 2.0}
    assert json.loads(json.dumps(report)) == {**report}
    assert report.get("grad_norm") == 2.0
    assert report.get("no such") is None
    assert numbers.lost == 3
    assert numbers.refused == 0
    assert StepNumbers(["class"], torch.tensor([0.5, float("inf"), 0.0]), []).refused == 1


@a_gpu
def test_a_gpu_refuses_a_step_by_itself(tmp_path: Path) -> None:
    run = run_of(tmp_path, "train.device=cuda", "train.precision=float32", lag=2, hooks=[Poison()])
    with pytest.raises(TrainingError, match=r"gradient of .* is not finite.* at step 4: nothing"):
        session.conduct(run)
    assert run.lag == 2
    assert [row["step"] for row in lines(run) if row["event"] == "step"] == [1, 2, 3]
    assert state(run)["step"] == 3
    assert all(bool(value.isfinite().all()) for value in state(run)["detector"].values())


@a_gpu
def test_no_step_of_a_gpu_is_waited_for(tmp_path: Path) -> None:
    """Of steps whose numbers nobody wants, with the next batch's matching in a stream of its own."""
    run = run_of(tmp_path, "train.device=cuda", "train.precision=float32", "run.hooks=[]", lag=100)
    run.detector.train()
    batches = run.batches()
    for _ in range(3):
        engine.optimizer_step(run, (next(batches)[0],))
    ready = [next(batches)[0] for _ in range(3)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in ready:
            engine.optimizer_step(run, (batch,))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    run.confirm()
    assert run.step == 6
