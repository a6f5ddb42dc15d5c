"""A detector trained with a student's part, and the same one with the built-in part."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from densedet.core.conformance import wire
from densedet.core.examples import CLASSES, IMAGE_SIZE, STRIDES, example_grid, level_sizes
from densedet.core.lessons.solution import Solution
from densedet.core.lessons.task import Given, Lesson, random_boxes
from densedet.core.recipe.loading import Recipe, load_recipe
from densedet.core.recipe.signatures import arguments_of, typed_arguments
from densedet.core.text import counted
from densedet.core.training import session

RECIPE = "lesson"
"""The shipped recipe that is trained; its part of the lesson's kind is the built-in one."""

SAME = 1e-3
"""Losses that differ by no more than this share are equal to rounding, which grows from step to step."""


@dataclass(frozen=True)
class Outcome:
    """Two trainings from equal seeds.

    Attributes:
        losses: of each step with the student's part.
        built_in_losses: of each step with the built-in part.
        ap: AP at the end with the student's part.
        built_in_ap: AP at the end with the built-in part.
    """

    losses: tuple[float, ...]
    built_in_losses: tuple[float, ...]
    ap: float
    built_in_ap: float

    @property
    def differences(self) -> list[float]:
        """The difference of the losses of each step, as a share of the built-in part's."""
        pairs = zip(self.losses, self.built_in_losses)
        return [abs(mine - other) / max(abs(other), 1e-12) for mine, other in pairs]

    def plain(self) -> dict[str, Any]:
        """Return the numbers for a JSON file."""
        return asdict(self)

    def sentence(self) -> str:
        """Compare the two in words."""
        first, last, other_last = self.losses[0], self.losses[-1], self.built_in_losses[-1]
        told = (
            f"{counted(len(self.losses), 'step')} of training bring the loss from {first:.3f} to {last:.3f} "
            f"and AP {self.ap:.3f} with your part, to {other_last:.3f} and AP {self.built_in_ap:.3f} with "
            f"the built-in one."
        )
        largest = max(self.differences)
        if largest <= SAME:
            return f"{told} The losses of all steps are equal to rounding (largest difference {largest:.1g})."
        first = next(step for step, share in enumerate(self.differences) if share > SAME)
        if first == 0:
            return f"{told} The losses differ from the first step on, by up to {largest:.1%}."
        return (
            f"{told} The losses of the first {counted(first, 'step')} are equal to rounding, and all within "
            f"{largest:.1%}: rounding grows in the course of a training."
        )


def recipes(of: Lesson, solution: Solution) -> tuple[Recipe, Recipe]:
    """Return the recipe with the built-in part, and the one with the student's, of the same arguments."""
    built_in = load_recipe(RECIPE, dict(of.changes))
    given = built_in.values["model"][of.kind]
    taken = {"weight", *arguments_of(solution.component)} - {"name"}
    own = {"name": solution.part, **{name: value for name, value in given.items() if name in taken}}
    changes = {**of.changes, f"model.{of.kind}": own}
    return built_in, load_recipe(RECIPE, changes, plugins=[str(solution.file)])


def parts(of: Lesson, solution: Solution) -> tuple[Any, Any]:
    """Build the built-in part and the student's with the arguments of the recipe."""
    built = []
    for recipe in recipes(of, solution):
        given = recipe.values["model"][of.kind]
        component = recipe.plugins.components.get(of.kind, given["name"])
        known = {name for name, argument in arguments_of(component).items() if not argument.wired}
        values = {name: value for name, value in given.items() if name in known - {"name"}}
        built.append(
            wire(component.load(), typed_arguments(component, values), strides=STRIDES, num_classes=CLASSES)
        )
    return built[0], built[1]


def inputs(kind: str, generator: torch.Generator) -> Given:
    """Draw what a part of a kind is called with."""
    grid, levels = example_grid()
    if kind == "anchors":
        return level_sizes(), IMAGE_SIZE, torch.device("cpu")
    if kind == "matcher":
        boxes = random_boxes(8, generator).view(2, 4, 4)
        valid = torch.tensor([[True, True, False, True], [False, True, True, False]])
        return boxes, torch.zeros(2, 4, dtype=torch.int64), valid, grid, levels
    if kind == "coder":
        return random_boxes(8, generator).view(2, 4, 4), random_boxes(4, generator)
    if kind == "box_loss":
        return random_boxes(8, generator), random_boxes(8, generator)
    if kind == "class_loss":
        labels = torch.randint(-1, CLASSES + 1, (2, 9), generator=generator)
        return torch.randn(2, 9, CLASSES, generator=generator) * 3, labels, None
    # Of many scores or few, so that both thresholds and both limits decide.
    scores = torch.rand(2, len(grid), CLASSES, generator=generator) ** (3 * generator.initial_seed() + 1)
    boxes = grid + torch.randn(2, len(grid), 4, generator=generator)
    return scores, boxes, levels, torch.tensor([IMAGE_SIZE, (40, 50)])


def outputs(kind: str, part: Any, given: Given) -> dict[str, Tensor]:
    """Call a part of a kind; its results by what they are called in a sentence."""
    if kind == "anchors":
        return {"anchors": torch.cat(list(part(*given)))}
    if kind == "matcher":
        return {"matches": part(*given).matched_idxs}
    if kind == "coder":
        targets = part.encode(*given)
        return {"targets": targets, "boxes": part.decode(targets, given[1])}
    if kind == "class_loss":
        return {"losses": part(*given), "scores": part.scores(given[0])}
    if kind == "box_loss":
        return {"losses": part(*given)}
    found = part(*given)
    columns = ("boxes", "scores", "labels", "anchors")
    return {f"detections' {name}": torch.cat([getattr(one, name) for one in found]) for name in columns}


def compare(of: Lesson, solution: Solution) -> Outcome:
    """Train with the built-in part and with the student's, in a folder that is removed afterwards."""
    (expected, expected_ap), (losses, ap) = (trained(recipe) for recipe in recipes(of, solution))
    return Outcome(losses, expected, ap, expected_ap)


def trained(recipe: Recipe) -> tuple[tuple[float, ...], float]:
    """Train a recipe in a temporary folder; the losses of its steps, and its AP."""
    with tempfile.TemporaryDirectory() as folder:
        run = session.train(recipe, folder=Path(folder) / "run")
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        events: list[Mapping[str, Any]] = [json.loads(line) for line in lines]
    losses = tuple(float(event["loss"]) for event in events if event["event"] == "step")
    return losses, float(run.metrics.get("AP", math.nan))
