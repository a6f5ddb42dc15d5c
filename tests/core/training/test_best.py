"""The number that best.pt and early stop go by, with an evaluator that knows no AP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from densedet.core.recipe.faults import RecipeError
from densedet.core.recipe.loading import load_recipe
from densedet.core.training import checkpoint, session

EVALUATOR = '''
import densedet

CALLS = []

@densedet.register("evaluator", "scripted")
class Scripted:
    """Give the numbers of a list, one an evaluation; the first belongs to the evaluation tried beforehand."""

    def __init__(self, *, source, values: tuple[float, ...]) -> None:
        self.values = values

    def add(self, index, detections) -> None: ...

    def result(self):
        CALLS.append(1)
        return {"score": self.values[len(CALLS) - 1], "nested": {"part": -float(len(CALLS))}}
'''
TRIED = 0.99


def train(folder: Path, *overrides: str, values: tuple[float, ...] = (0.2, 0.9, 0.3, 0.5)) -> Any:
    """Four steps with an evaluation after each."""
    file = folder / f"scripted_{len(list(folder.glob('*.py')))}.py"
    file.write_text(EVALUATOR)
    (folder / "r.yaml").write_text(f"base: [densedet:quickstart_ssd.yaml]\nplugins: [./{file.name}]\n")
    settings = [
        "data.train.count=4",
        "data.val.count=2",
        "model.backbone.widths=[8, 8, 8]",
        "train.batch_size=2",
        "train.budget.steps=4",
        "train.evaluations=4",
        f"run.folder={folder}",
        "run.hooks=[{name: checkpoint}]",
        f"evaluate.evaluator={{name: scripted, values: [{TRIED}, {', '.join(map(str, values))}]}}",
        "evaluate.metric=score",
    ]
    return session.train(load_recipe(folder / "r.yaml", [*settings, *overrides]))


def test_best_pt_is_of_the_best_evaluation(tmp_path: Path) -> None:
    run = train(tmp_path)
    assert run.best == {"value": 0.9, "step": 2}
    assert checkpoint.load(run.folder / "best.pt")["step"] == 2
    assert checkpoint.load(run.folder / "last.pt")["step"] == 4
    summary = json.loads((run.folder / "summary.json").read_text())
    assert (summary["metric"], summary["best_value"], summary["best_step"]) == ("score", 0.9, 2)
    assert summary["score"] == 0.5, "the numbers of the end are the evaluator's own"


def test_a_smaller_number_may_be_better_and_lie_within_another(tmp_path: Path) -> None:
    assert train(tmp_path, "evaluate.higher_is_better=false").best == {"value": 0.2, "step": 1}
    # nested.part falls from -2 to -5: the evaluation that is tried beforehand is the first call.
    assert train(tmp_path, "evaluate.metric=nested.part").best == {"value": -2.0, "step": 1}


def test_early_stop_goes_by_it(tmp_path: Path) -> None:
    run = train(tmp_path, "train.early_stop=1")
    assert run.step == 3
    assert run.stop_reason == "no better score in 1 evaluation"
    assert train(tmp_path, "train.early_stop=1", values=(0.2, 0.3, 0.4, 0.5)).step == 4


def test_a_number_that_the_evaluator_lacks_is_refused_before_there_is_a_run_folder(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"evaluate\.metric: the evaluator gives no number 'AP': write one of score"
    ):
        train(tmp_path, "evaluate.metric=AP")
    assert not (tmp_path / "r").exists(), "no run folder is made for it"
