"""--fail-if-worse, on differences made here, and what a comparison hands on of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from densedet.core.recipe.loading import load_recipe
from densedet.core.report.arms import Arm, Comparison
from densedet.core.report.records import RunRecord
from densedet.core.report.rungs import Ladder, Step
from densedet.core.statistics.differences import Difference, difference
from densedet.core.statistics.samples import Sample
from densedet.core.study.planning import Plan
from densedet.core.study.study import Study, StudyRun
from densedet.tools.compare import records_of, too_bad


def compared(*names: str) -> Comparison:
    return Comparison([Arm(name, [RunRecord(name, Path(name))]) for name in names], "cells")


def pair(first: str, second: str, gap: float) -> Difference:
    """The first is better by ``gap`` in each of three seeds, which hardly vary."""
    values = np.array([0.5, 0.5001, 0.4999])
    return difference(Sample(first, values + gap, None, 10), Sample(second, values, None, 10), metric="AP")


def test_the_first_arm_is_the_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    two = compared("a", "b")
    assert too_bad([two], [[pair("a", "b", 0.02)]], 0.01)
    assert "--fail-if-worse 0.01: b against a on cells: it is by 0.020 at least" in capsys.readouterr().err
    assert not too_bad([two], [[pair("a", "b", 0.02)]], 0.03)
    assert not too_bad([two], [[pair("a", "b", -0.02)]], 0.01), "b is better"
    assert capsys.readouterr().err == ""


def test_the_plugins_of_a_trained_recipe_are_those_of_its_run(tmp_path: Path) -> None:
    """A finished run's recipe may be a stranger's: what it names is not run."""
    file, part = tmp_path / "own.yaml", tmp_path / "own_part.py"
    part.touch()
    file.write_text("base: densedet:quickstart_ssd.yaml\nplugins: [./own_part.py]\n")
    recipe = load_recipe(file)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    runs = [StudyRun(arm, "", 0, tmp_path, status="done") for arm in ("own", "finished")]
    plan = Plan(Study([], [""], runs), {("own", ""): recipe})
    assert [record.plugins for record in records_of(plan, ["given.py"]) if record] == [
        ("given.py", str(part)),
        ("given.py",),
    ]


def test_what_cannot_be_told_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert too_bad([compared("a", "b")], [[]], 0.01), "the arms do not compare"
    assert "b against a on cells: whether it is, cannot be told" in capsys.readouterr().err
    three = [pair("a", "b", 0.0)]
    assert too_bad([compared("a", "b", "c")], [three], 0.01)
    assert "c against a" in capsys.readouterr().err
    assert not too_bad([compared("a")], [[]], 0.01)


def test_of_a_ladder_the_highest_rung_counts(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [Step("x", "a", "b", {}), Step("y", "b", "c", {})]
    three = compared("a", "b", "c")
    three.ladder = Ladder(steps, [])
    pairs = [pair("c", "a", 0.02), pair("b", "a", -0.3), pair("c", "b", 0.32)]
    assert not too_bad([three], [pairs], 0.01), "the rung between is worse, and that is no end"
    assert too_bad([three], [[pair("c", "a", -0.02), *pairs[1:]]], 0.01)
    assert "c against a on cells: it is by 0.020 at least" in capsys.readouterr().err
    assert too_bad([three], [[]], 0.01)
