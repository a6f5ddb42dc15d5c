"""The judge of a lesson: what is still to write, which mistake was made, or that it is right."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from densedet.core.conformance import ConformanceError, check_part
from densedet.core.errors import DensedetError
from densedet.core.files import atomic_path, check_free
from densedet.core.lessons import training
from densedet.core.lessons.solution import Slip, Solution, read, same, shown
from densedet.core.lessons.task import RIGHT, Given, Lesson, Task, lesson

DRAWN = 20
"""Random cases of a function."""

Watch = Callable[[str], AbstractContextManager[None]]
"""Called with what is about to be run of the student's."""


@dataclass
class Verdict:
    """What the judge found.

    Attributes:
        lesson: the lesson's name.
        state: "unsolved", "wrong" or "right".
        lines: sentences, in order.
        picture: path of the picture, if one was drawn.
        training: losses and APs of both trainings, if they ran.
    """

    lesson: str
    state: str = "right"
    lines: list[str] = field(default_factory=list)
    picture: str | None = None
    training: dict[str, Any] | None = None


def judge(
    file: Path,
    *,
    output: Path | None = None,
    train: bool = True,
    tell: Callable[[str], None] = lambda line: None,
    watch: Watch = lambda what: nullcontext(),
) -> Verdict:
    """Judge the file of a lesson.

    Args:
        file: the student's.
        output: folder for the picture; None draws none.
        train: whether a right solution also trains a detector, beside the built-in part.
        tell: gets each sentence as it comes.
        watch: surrounds whatever runs the student's code.

    Raises:
        UsageError: it is no file of a lesson, or the picture is there already.
    """
    with watch("reading the file"):
        solution = read(file)
    of = lesson(solution.lesson)
    if output is not None:
        check_free(output / f"{file.stem}.png")
    verdict = Verdict(of.name)

    def say(line: str, state: str = "") -> None:
        verdict.lines.append(line)
        verdict.state = state or verdict.state
        tell(line)

    if solution.fault:
        say(solution.fault, "wrong")
        return verdict
    todo = solution.holes([task.function for task in of.tasks])
    for task in of.tasks:
        if task.function in todo:
            say(todo[task.function], "unsolved")
            continue
        for line, state in _judge_task(task, solution, watch):
            say(line, state if verdict.state == "right" else verdict.state)
    if verdict.state == "right":
        with watch(f"the checks of a {of.kind}"):
            fault = _contract(of, solution) or _tried(solution, lambda: _beside_built_in(of, solution))
        good = f"the {of.kind} {solution.part!r} keeps its contract, and equals the built-in one"
        say(fault or good, "wrong" if fault else "")
    if output is not None and not todo:
        with watch("drawing the picture"):
            say(_draw(of, solution, output, verdict))
    if verdict.state == "right" and train:
        with watch("training"):
            if fault := _tried(solution, lambda: _train(of, solution, verdict)):
                say(fault, "wrong")
        if verdict.training is not None:
            say(training.Outcome(**verdict.training).sentence() + f" {of.note}".rstrip())
    return verdict


def _judge_task(task: Task, solution: Solution, watch: Watch) -> Iterator[tuple[str, str]]:
    """Judge one function: pairs of a sentence, and the state that follows from it."""
    generator = torch.Generator().manual_seed(0)
    cases = [(case.given, case.expected) for case in task.by_hand]
    for _ in range(DRAWN):
        given = task.draw(generator)
        cases.append((given, task.answer(RIGHT, *given)))
    outcomes = []
    for given, _ in cases:
        with watch(f"{task.function}({_named(task, given)})"):
            outcomes.append(solution.outcome(task.function, given))
        if isinstance(outcomes[-1], Slip) and outcomes[-1].always:
            yield f"{solution.place(task.function, outcomes[-1])}: {outcomes[-1].text}", "wrong"
            return
    wrong = [i for i, (_, expected) in enumerate(cases) if not same(outcomes[i], expected)]
    if wrong:
        place, hand = solution.place(task.function), sum(i < len(task.by_hand) for i in wrong)
        names = diagnosis(task, [given for given, _ in cases], outcomes)
        if names:
            yield f"{place}: {'; and '.join(task.mistakes[name] for name in names)}", "wrong"
        yield f"{place}: {_smallest(task, cases, outcomes, wrong, known=bool(names))}", "wrong"
        yield (
            f"{task.function}: {len(task.by_hand) - hand} of {len(task.by_hand)} cases by hand are right",
            "",
        )
        return
    for case in task.edges:
        with watch(f"{task.function}({_named(task, case.given)})"):
            got = solution.outcome(task.function, case.given)
        if not same(got, case.expected):
            told = _difference(got, case.expected)
            yield f"{solution.place(task.function, got)}: {case.why}. {told}", "wrong"
            return
    count = len(task.by_hand) + len(task.edges)
    yield f"{task.function}: all {count} cases by hand and {DRAWN} random ones are right", ""


def diagnosis(task: Task, given: Sequence[Given], outcomes: Sequence[Tensor | Slip]) -> tuple[str, ...]:
    """Find the mistakes that explain all outcomes of a function.

    Args:
        task: what the function should do.
        given: the arguments of each case.
        outcomes: what the student's function gave.

    Returns:
        Names in ``task.mistakes``: one, else two that were made together, else none.
    """
    for count in (1, 2):
        for names in itertools.combinations(task.mistakes, count):
            if all(_like(task, frozenset(names), arguments, got) for arguments, got in zip(given, outcomes)):
                return names
    return ()


def _like(task: Task, wrong: frozenset[str], given: Given, got: Tensor | Slip) -> bool:
    """Whether the answer with some mistakes is what the student's function gave, an exception included."""
    try:
        predicted = task.answer(wrong, *given)
    except Exception as error:
        return isinstance(got, Slip) and got.kind == type(error).__name__
    if not isinstance(got, Tensor) or got.shape != predicted.shape:
        return False
    if torch.bool not in (got.dtype, predicted.dtype):
        got = got.to(predicted.dtype)  # that is a mistake of its own
    return same(torch.where(predicted.isnan(), predicted, got), predicted)


def _smallest(
    task: Task,
    cases: Sequence[tuple[Given, Tensor]],
    outcomes: Sequence[Tensor | Slip],
    wrong: Sequence[int],
    *,
    known: bool,
) -> str:
    """Describe the smallest case that fails, by hand where there is one."""

    def size(i: int) -> tuple[bool, int]:
        given, expected = cases[i]
        return i >= len(task.by_hand), sum(_count(value) for value in given) + _count(expected)

    first = min(wrong, key=size)
    told = _difference(outcomes[first], cases[first][1])
    why = f" ({task.by_hand[first].why})" if first < len(task.by_hand) else ""
    sentence = f"{task.function}({_named(task, cases[first][0])}){why}: {told}"
    return f"for example {sentence}" if known else f"the smallest case that fails: {sentence}"


def _count(value: Any) -> int:
    return value.numel() if isinstance(value, Tensor) else 1


def _named(task: Task, given: Given) -> str:
    return ", ".join(f"{name}={shown(value)}" for name, value in zip(task.arguments, given))


def _difference(got: Tensor | Slip, expected: Tensor) -> str:
    """Say what was expected and what came."""
    if isinstance(got, Slip):
        return f"expected {shown(expected)}, but {got.text}"
    if got.shape != expected.shape:
        shapes = tuple(expected.shape), tuple(got.shape)
        return f"expected the shape {shapes[0]}, {shown(expected)}, got {shapes[1]}, {shown(got)}"
    if got.dtype != expected.dtype:
        right = same(got.to(expected.dtype), expected)
        told = f"expected {expected.dtype}, got {got.dtype}: {shown(got)}"
        return f"the numbers are right, but not their type: {told}" if right else told
    if expected.numel() > 12:
        away = (got.double() - expected.double()).abs().nan_to_num(torch.inf)
        place = [int(i) for i in torch.unravel_index(away.argmax(), away.shape)]
        where = tuple(place)
        return f"expected {shown(expected[where])} at {place}, got {shown(got[where])}"
    return f"expected {shown(expected)}, got {shown(got)}"


def _contract(of: Lesson, solution: Solution) -> str:
    """Run the conformance kit; the sentence of what is wrong, or an empty text."""
    try:
        check_part(of.kind, solution.component.load())
    except (ConformanceError, DensedetError) as error:
        return f"{solution.file.name}: the functions are right, but the {of.kind} as a whole is not: {error}"
    return ""


def _beside_built_in(of: Lesson, solution: Solution) -> str:
    """Compare the finished part with the built-in one on random inputs; a sentence, or an empty text."""
    built_in, mine = training.parts(of, solution)
    for seed in range(5):
        given = training.inputs(of.kind, torch.Generator().manual_seed(seed))
        wanted, got = training.outputs(of.kind, built_in, given), training.outputs(of.kind, mine, given)
        for name, expected in wanted.items():
            if not same(got[name], expected):
                return (
                    f"{solution.file.name}: the functions are right, but the {of.kind} as a whole gives "
                    f"other {name} than the built-in one: the lines of the class that were complete have "
                    f"changed, `densedet new lesson {of.name} --output DIR` shows them as they were"
                )
    return ""


def _draw(of: Lesson, solution: Solution, output: Path, verdict: Verdict) -> str:
    """Draw what the functions do; a sentence about it."""
    from densedet.core.report.charts.chart import styled

    path = output / f"{solution.file.stem}.png"
    try:
        with styled():
            figure = of.picture({task.function: solution.function(task.function) for task in of.tasks})
    except Exception as error:
        return f"no picture: {type(error).__name__}: {' '.join(str(error).split())}"
    with atomic_path(path, overwrite=False) as temporary, styled():
        figure.savefig(temporary, format="png", dpi=110, facecolor="white")
    verdict.picture = str(path)
    return f"{path} shows what it does"


def _train(of: Lesson, solution: Solution, verdict: Verdict) -> str:
    """Train twice, and keep the outcome; a sentence where the losses differ by more than rounding."""
    outcome = training.compare(of, solution)
    verdict.training = outcome.plain()
    if outcome.difference <= training.SAME:
        return ""
    return f"{solution.file.name}: in a training its losses are not those of the built-in part"


def _tried(solution: Solution, work: Callable[[], str]) -> str:
    """Do some work with the student's part; its sentence, or that of an exception."""
    try:
        return work()
    except Exception as error:
        slip = solution.raised(error)
        place = f"{solution.file.name} line {slip.line}" if slip.line else solution.file.name
        return f"{place}: the functions are right, but the part as a whole is not: {slip.text}"
