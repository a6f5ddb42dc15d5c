"""`train.compile`: the parts are compiled while they train, and nobody else notices.

The backend is torch's "eager", which traces and compiles nothing, so that no test needs a C++ compiler or a
minute.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from densedet.core.errors import UsageError
from densedet.core.recipe.loading import Recipe, load_recipe
from densedet.core.training import compiling, session
from densedet.core.training.run import Run
from densedet.tests.devices import a_gpu

SMALL = [
    "data.train.count=8",
    "data.val.count=4",
    "train.batch_size=4",
    "train.budget.steps=2",
    "train.evaluations=1",
    "model.backbone.widths=[8, 8, 8]",
    "run.hooks=[{name: checkpoint}]",
]


def recipe(folder: Path, *overrides: str) -> Recipe:
    return load_recipe("quickstart_ssd", [*SMALL, f"run.folder={json.dumps(str(folder))}", *overrides])


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch sizes of each compiled call, with a backend that runs what it gets as it is."""
    torch._dynamo.reset()
    calls: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        def run(*arguments: Any) -> Any:
            calls.append(1)
            return graph(*arguments)

        return run

    monkeypatch.setitem(compiling.OPTIONS, "cpu", {"backend": backend})
    return calls


@pytest.mark.long
def test_a_compiled_run_is_the_same_run(tmp_path: Path, traced: list[int]) -> None:
    plain = session.train(recipe(tmp_path, "train.ema_decay=null"))
    assert traced == []
    run = session.train(recipe(tmp_path, "train.ema_decay=null", "train.compile=on"))
    # the three parts in each of two steps; the evaluation of the same detector is not compiled
    assert len(traced) == 6
    assert run.notes[-1] == "compile: on (backbone, neck, head)"
    ours, theirs = run.detector.state_dict(), plain.detector.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    further = session.resume(run.folder, ["train.budget.steps=3"])
    assert (further.step, len(traced)) == (3, 9)


def test_where_auto_pays(tmp_path: Path, traced: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(recipe(tmp_path))
    before = {name: value.clone() for name, value in run.detector.state_dict().items()}
    for times, kept in (((0.010, 0.006), True), ((0.010, 0.0099), False)):
        answers = iter(times)
        monkeypatch.setattr(compiling, "_measured", lambda run, batch, answers=answers: next(answers))
        compiling._compile_where_it_pays(run, 0.0)
        told = run.notes[-1]
        assert f"compile: {'on' if kept else 'off'}, measured" in told
        assert "as written 10 ms" in told
        assert all(torch.equal(value, before[name]) for name, value in run.detector.state_dict().items())
        assert all(parameter.grad is None for parameter in run.detector.parameters())
        del traced[:]
        compiling._pass(run, run.sample_batch("train", 4))
        assert bool(traced) is kept
        run = Run(recipe(tmp_path))
    monkeypatch.setattr(compiling, "_measured", lambda run, batch: 0.5)
    compiling._compile_where_it_pays(run, 60.0)  # 120 steps of half a second
    assert not any("compile" in note for note in run.notes)


def test_a_compiler_that_fails_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no kernel")

    torch._dynamo.reset()
    monkeypatch.setitem(compiling.OPTIONS, "cpu", {"backend": backend})
    run = Run(recipe(tmp_path))
    compiling._compile_where_it_pays(run, 0.0)
    assert run.notes[-1].startswith("compile: off, since torch.compile failed")
    compiling._pass(run, run.sample_batch("train", 4))


def test_a_cpu_is_left_alone_by_auto_and_needs_a_compiler(
    tmp_path: Path, traced: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(recipe(tmp_path, "train.budget.steps=1000000"))
    compiling.compile_network(run)
    assert not any("compile" in note for note in run.notes)
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UsageError, match="needs a C.. compiler on a CPU, and there is none .g.., clang"):
        compiling.compile_network(Run(recipe(tmp_path, "train.compile=on")))


@a_gpu
def test_cuda_graphs_train_as_the_network_is_written(tmp_path: Path) -> None:
    given = ["train.device=cuda", "train.precision=float32", "train.budget.steps=6"]
    losses = []
    for wish in ("off", "on"):
        run = session.train(recipe(tmp_path, *given, f"train.compile={wish}"))
        losses.append(sum(run.report["losses"].values()))  # type: ignore[index]
        assert run.gpu_peak_memory_mb is not None
        assert run.gpu_peak_memory_mb > 0
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
