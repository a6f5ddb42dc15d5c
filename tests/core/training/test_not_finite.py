"""A step that is not finite changes nothing, and nothing that is not finite is written over a good file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from densedet.core.errors import CheckpointError, TrainingError
from densedet.core.hookspecs import hookimpl
from densedet.core.recipe.loading import load_recipe
from densedet.core.training import checkpoint, engine, session
from densedet.core.training.run import Run

SMALL = (
    "data.train.count=16",
    "data.val.count=4",
    "train.batch_size=8",
    "train.evaluations=2",
    "train.budget.steps=4",
    "train.precision=float32",
    "model.backbone.widths=[8, 8, 8]",
    "run.hooks=[{name: metrics}, {name: checkpoint, every_steps: 1}]",
)


def run_of(folder: Path, *overrides: str, hooks: Any = ()) -> Run:
    given = [*SMALL, f"run.folder={json.dumps(str(folder))}", *overrides]
    return Run(load_recipe("quickstart_ssd", given), hooks=hooks)


def copies(run: Run) -> list[torch.Tensor]:
    """All that a step changes: weights, buffers, averages, the optimizer's state."""
    assert run.ema is not None
    states = [v for s in run.optimizer.state.values() for v in s.values()]
    tensors = [*run.detector.state_dict().values(), *run.ema.model.state_dict().values(), *states]
    return [tensor.clone() for tensor in tensors]


class Spoil:
    """Make one thing infinite or NaN before the forward pass of a step, or in its gradients."""

    def __init__(self, what: str, value: float) -> None:
        self.what, self.value = what, value

    def __call__(self, run: Run, batch: Any) -> Any:
        if self.what == "image":
            batch.images = batch.images.float()
            batch.images[0, :, 3, 3] = self.value
        else:
            parameter = next(run.detector.head.parameters())
            hook = parameter.register_hook(self._spoilt)
            self.remove = hook.remove
        return batch

    def _spoilt(self, gradient: torch.Tensor) -> torch.Tensor:
        self.remove()
        spoilt = gradient.clone()
        spoilt[0] = self.value
        return spoilt


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize(
    ("what", "value", "sentence"),
    [
        ("image", float("nan"), r"the loss is not finite \(class nan, box .*; image ids \d+, "),
        ("image", 1e30, r"the (buffer|loss).* is not finite.*image ids \d+, "),
        ("gradient", float("inf"), r"the gradient of head\S+ is not finite, though the loss is"),
        ("gradient", float("nan"), r"the gradient of head\S+ is not finite, though the loss is"),
        ("gradient", 3e38, "the gradients are too large for their norm"),  # 9e76 is no float32
    ],
)
def test_a_refused_step_changes_nothing(
    tmp_path: Path, what: str, value: float, sentence: str, accumulated: int
) -> None:
    run = run_of(tmp_path, "train.ema_decay=0.9")
    run.detector.train()
    batches = run.batches()
    engine.optimizer_step(run, (next(batches)[0],))
    before = copies(run)
    taken = [next(batches)[0] for _ in range(accumulated)]
    taken[-1] = Spoil(what, value)(run, taken[-1])
    with pytest.raises(TrainingError, match=sentence + ".*at step 2: nothing was changed by this step"):
        engine.optimizer_step(run, tuple(taken))
    assert run.step == 1
    assert all(torch.equal(*pair) for pair in zip(before, copies(run), strict=True))
    engine.optimizer_step(run, (next(batches)[0],))  # and the next sound batch is taken
    assert all(bool(tensor.isfinite().all()) for tensor in copies(run))


def test_an_infinite_gradient_is_float16s_scalers_business_until_its_scale_collapses(tmp_path: Path) -> None:
    """The scale is halved at each step that is skipped: 4, 2, 1 ..., until it is below .0001 = 2**-13.3."""
    run = run_of(tmp_path, "train.clip_norm=1")
    run.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, backoff_factor=0.5)
    run.detector.train()
    batch = next(run.batches())[0]
    next(run.detector.head.parameters()).register_hook(lambda gradient: gradient * torch.inf)
    before = [p.detach().clone() for p in run.detector.parameters()]
    for skipped in range(1, 17):
        report = engine.optimizer_step(run, (batch,))
        assert report["grad_norm"] is None
        assert run.scaler.get_scale() == 4 * 0.5**skipped
    assert all(torch.equal(*pair) for pair in zip(before, run.detector.parameters(), strict=True))
    with pytest.raises(TrainingError, match="the gradient of head"):  # 4 * 2**-16 = .00006
        engine.optimizer_step(run, (batch,))


class Break:
    """Make one weight NaN or infinite behind the back of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def densedet_run_step(self, run: Run, step: dict[str, Any]) -> None:
        if run.step == self.step:
            with torch.no_grad():
                next(run.detector.head.parameters())[0] = torch.inf


ONCE = "run.hooks=[{name: metrics}, {name: checkpoint}]"


@pytest.mark.parametrize(
    ("step", "overrides", "error", "good"),
    [
        (3, [ONCE], TrainingError, 2),  # the loss of step 4 is NaN; step 2 was evaluated
        (3, [ONCE, "train.evaluations=4"], TrainingError, 2),  # the validation loss after step 3 is NaN
        (4, [], CheckpointError, 3),  # nobody looks but the checkpoint
    ],
)
def test_the_last_good_files_stay(
    tmp_path: Path, step: int, overrides: list[str], error: type, good: int
) -> None:
    run = run_of(tmp_path, "train.ema_decay=null", *overrides)
    run.hooks.register(Break(step))
    with pytest.raises(error, match="not finite"):
        session.conduct(run)
    summary = json.loads((run.folder / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert "not finite" in summary["reason"]
    states = [checkpoint.load(run.folder / name) for name in ("last.pt", "best.pt")]
    assert states[0]["step"] == good
    assert states[1]["step"] <= good
    assert all(checkpoint.not_finite(state["detector"], "detector") == [] for state in states)


def test_each_tensor_of_a_checkpoint_must_be_finite(tmp_path: Path) -> None:
    run = run_of(tmp_path, "train.ema_decay=0.9", "train.optimizer={name: adamw}")
    run.detector.train()
    engine.optimizer_step(run, (next(run.batches())[0],))
    path = tmp_path / "last.pt"
    checkpoint.save(path, run.state())
    good = path.read_bytes()
    assert run.ema is not None
    moment = next(iter(run.optimizer.state.values()))["exp_avg"]
    average = next(iter(run.ema.model.parameters()))
    weight = next(iter(run.detector.parameters()))
    for tensor, name in ((moment, r"optimizer\..*exp_avg"), (average, "ema"), (weight, "detector")):
        with torch.no_grad():
            kept = tensor.clone()
            tensor[0] = torch.nan
        with pytest.raises(
            CheckpointError, match=rf"last\.pt is not written: {name}.* is not finite at step 1"
        ):
            checkpoint.save(path, run.state())
        with torch.no_grad():
            tensor.copy_(kept)
    assert path.read_bytes() == good


def test_a_metric_that_is_no_number_is_never_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path, "run.hooks=[]")
    values = iter([float("nan"), 0.1, float("nan"), 0.2])
    monkeypatch.setattr(Run, "evaluate", lambda self, leave: {"AP": next(values)})
    bests = []
    for _ in range(4):
        engine.evaluate(run)
        bests.append(run.best["value"])
    assert bests == [None, 0.1, 0.1, 0.2]
