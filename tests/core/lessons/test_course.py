"""The course on the page docs/lessons.md, with solved lessons: every command, and both detectors."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from densedet.core import assembly
from densedet.core.lessons import process, training
from densedet.core.lessons.names import NAMES, file_name
from densedet.core.lessons.solution import read
from densedet.core.lessons.task import lesson
from densedet.core.recipe.loading import load_recipe
from densedet.tools.main import build_parser, main

HERE = Path(__file__).parent
PAGE = (HERE.parents[2] / "docs" / "lessons.md").read_text(encoding="utf-8")
SMALL = (
    "data.train.count=16",
    "data.val.count=4",
    "train.batch_size=8",
    "train.evaluations=1",
    "train.budget.steps=3",
    "run.hooks=[metrics]",
)


def write_solution(folder: Path, name: str, *changes: tuple[str, str]) -> Path:
    """`write_solution` of solutions.py, which lies in no package."""
    spec = importlib.util.spec_from_file_location("lessons_solutions", HERE / "solutions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written: Path = module.write_solution(folder, name, *changes)
    return written


OWN_IOU = {
    "matcher": (
        "from densedet.core.boxes import pairwise_iou  # or your own: from my_iou import pairwise_iou",
        "from my_iou import pairwise_iou",
    ),
    "nms": (
        "from densedet.core.boxes import clip, pairwise_iou  # or your own: from my_iou import pairwise_iou",
        "from densedet.core.boxes import clip\nfrom my_iou import pairwise_iou",
    ),
}
"""The import that a student changes to use the first lesson in a later one."""


def solve(folder: Path, name: str) -> Path:
    """Solve a lesson with the student's own IoU."""
    return write_solution(folder, name, *([OWN_IOU[name]] if name in OWN_IOU else []))


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all six lessons solved, and both recipes of the page."""
    for name in NAMES:
        solve(tmp_path, name)
    recipes = re.findall(r"^```yaml\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    for name, text in zip(("my_ssd", "my_retinanet"), recipes, strict=True):
        (tmp_path / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the judge work here, where torch is imported already."""

    def run(command: list[str], **given: Any) -> Any:
        monkeypatch.setattr(sys, "argv", command[2:])
        process.main()
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(process, "subprocess", SimpleNamespace(run=run, DEVNULL=None))


def test_the_commands_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In their order; each new lesson is solved after it is written."""
    in_this_process(monkeypatch)
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^densedet (.*)$", PAGE, flags=re.MULTILINE)
    written = []
    for command in commands:
        words = command.split()
        if words[:2] == ["new", "lesson"]:
            assert main(words) == 0
            written.append(words[2])
            (tmp_path / file_name(words[2])).unlink()
            solve(tmp_path, words[2])
        elif words[:2] == ["check", "lesson"]:
            assert main([*words, "--no-train"]) == 0, capsys.readouterr()
        elif words[0] == "show":
            assert main(words) == 0
        else:
            build_parser().parse_args(words)
    assert tuple(written) == NAMES
    assert (tmp_path / "pictures" / "my_iou.png").exists()


def test_the_mistake_on_the_page_looks_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_this_process(monkeypatch)
    file = write_solution(tmp_path, "iou", (".clamp(min=0)\n", "\n"))
    assert main(["check", "lesson", str(file)]) == 1
    [shown] = re.findall(r"^```text\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("name", ["my_ssd", "my_retinanet"])
def test_a_detector_of_solved_lessons_trains(name: str, course: Path) -> None:
    detector: Any = assembly.build_detector(load_recipe(course / f"{name}.yaml"), 10)
    own = {"anchors", "matcher", "coder", "postprocess", "class_loss"}
    mine = {kind for kind in own if type(getattr(detector, kind)).__name__.startswith("My")}
    assert mine == (own if name == "my_retinanet" else own - {"class_loss"})
    assert main(["train", f"{name}.yaml", *SMALL]) == 0
    summary = json.loads((course / "runs" / name / "1" / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("done", 3)


@pytest.mark.long
@pytest.mark.parametrize("name", ["matcher"])
def test_a_right_part_trains_as_the_built_in_one_does(name: str, course: Path) -> None:
    outcome = training.compare(lesson(name), read(course / file_name(name)))
    assert len(outcome.losses) == len(outcome.same_weights) == 60
    assert outcome.difference < 1e-5
    assert outcome.losses[0] == pytest.approx(outcome.built_in_losses[0], rel=1e-5)
    assert outcome.losses[-1] < outcome.losses[0] / 2
    assert outcome.ap == pytest.approx(outcome.built_in_ap, abs=0.06)
    assert outcome.ap > 0.03
    assert "both give the same loss at every step, to rounding" in outcome.sentence()


def few_steps(name: str, file: Path) -> training.Outcome:
    of = lesson(name)
    few = {"train.budget.steps": 2, "data.train.count": 8, "data.val.count": 2, "train.batch_size": 4}
    return training.compare(replace(of, changes={**of.changes, **few}), read(file))


@pytest.mark.parametrize(
    "name",
    [name if name in ("iou", "focal") else pytest.param(name, marks=pytest.mark.long) for name in NAMES],
)
def test_the_first_steps_are_those_of_the_built_in_part(name: str, course: Path) -> None:
    outcome = few_steps(name, course / file_name(name))
    assert len(outcome.losses) == len(outcome.same_weights) == 2
    assert outcome.difference < 1e-5
    assert outcome.built_in_losses == pytest.approx(outcome.losses, rel=1e-5)


def test_a_training_with_another_loss_differs(course: Path) -> None:
    """A loss that is 1 % too large."""
    file = write_solution(
        course, "focal", ("(-alpha_t * fading * log_pt)", "(-1.01 * alpha_t * fading * log_pt)")
    )
    outcome = few_steps("focal", file)
    assert 1e-4 < outcome.difference <= 0.011
    assert "With the same weights their losses differ by up to" in outcome.sentence()


def test_trainings_that_drift_apart_are_told() -> None:
    outcome = training.Outcome((2.0, 1.0, 0.50), (2.0, 1.0, 0.51), (2.0, 1.0, 0.51), 0.1, 0.12)
    assert outcome.sentence() == (
        "3 steps of training bring the loss from 2.000 to 0.500 and AP 0.100 with your part, to 0.510 and AP "
        "0.120 with the built-in one. With the same weights both give the same loss at every step, to "
        "rounding (largest difference 0). Rounding grows from step to step: on its own your training drifts "
        "by up to 2.0%."
    )
