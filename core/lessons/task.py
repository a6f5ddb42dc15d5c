"""A lesson: the functions that a student writes, their cases, and the mistakes that are usual."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Given = tuple[Any, ...]
"""Arguments of a function: tensors and numbers."""

RIGHT: frozenset[str] = frozenset()
"""No mistake."""


@dataclass(frozen=True)
class Case:
    """One call of a function, with its result.

    Attributes:
        given: the arguments.
        expected: the result, computed by hand.
        why: the arithmetic in words; of a case at the edge, what to write there.
    """

    given: Given
    expected: Tensor
    why: str


@dataclass(frozen=True)
class Task:
    """One function that a student writes.

    Attributes:
        function: its name in the lesson's file.
        arguments: the names of its arguments, for messages.
        answer: called with a set of names of mistakes and the function's arguments, it gives the result that
            comes of these mistakes; with `RIGHT`, the right one. NaN stands for any number.
        by_hand: cases that can be computed by hand, the simplest first.
        edges: cases at the edge, such as no objects at all, each with a sentence of its own.
        draw: makes random arguments.
        mistakes: sentence of each mistake by its name, the most usual first.
    """

    function: str
    arguments: tuple[str, ...]
    answer: Callable[..., Tensor]
    by_hand: tuple[Case, ...]
    edges: tuple[Case, ...]
    draw: Callable[[torch.Generator], Given]
    mistakes: Mapping[str, str]


@dataclass(frozen=True)
class Lesson:
    """One lesson.

    Attributes:
        name: as in `densedet.core.lessons.names.NAMES`.
        kind: the kind of part that the finished file registers.
        tasks: the functions to write.
        picture: draws what functions, handed over by their names, do.
        changes: to the recipe that `densedet.core.lessons.training` trains, as overrides.
        note: what the training's comparison shows, where that needs a word.
    """

    name: str
    kind: str
    tasks: tuple[Task, ...]
    picture: Callable[[Mapping[str, Callable[..., Any]]], Figure]
    changes: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def lesson(name: str) -> Lesson:
    """Return a lesson by its name in `densedet.core.lessons.names.NAMES`."""
    found: Lesson = importlib.import_module(f"densedet.core.lessons.{name}").LESSON
    return found


def random_boxes(count: int, generator: torch.Generator, *, largest: float = 40.0) -> Tensor:
    """Draw boxes (count,4) with corners in 0..60 and sides of 4 to 4 + ``largest`` pixels."""
    numbers = torch.rand(count, 4, generator=generator)
    corner = numbers[:, :2] * 60
    return torch.cat([corner, corner + 4 + numbers[:, 2:] * largest], dim=-1)
