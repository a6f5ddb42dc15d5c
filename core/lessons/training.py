"""A detector trained with a student's part, and the same one with the built-in part."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from densedet.core import assembly
from densedet.core.conformance import wire
from densedet.core.examples import CLASSES, IMAGE_SIZE, STRIDES, example_grid, level_sizes
from densedet.core.hookspecs import hookimpl
from densedet.core.lessons.solution import Solution
from densedet.core.lessons.task import Given, Lesson, random_boxes
from densedet.core.recipe.loading import Recipe, load_recipe
from densedet.core.recipe.signatures import arguments_of, typed_arguments
from densedet.core.text import counted
from densedet.core.training import session
from densedet.core.training.run import Run
from densedet.core.types import Batch

RECIPE = "lesson"
"""The shipped recipe that is trained; its part of the lesson's kind is the built-in one."""

SAME = 1e-4
"""Losses that differ by no more than this share are equal to rounding."""


@dataclass(frozen=True)
class Outcome:
    """Two trainings from equal seeds.

    Attributes:
        losses: of each step with the student's part.
        built_in_losses: of each step with the built-in part.
        same_weights: of each step of the training with the built-in part, the loss that the student's part
            gives with the same weights and batch.
        ap: AP at the end with the student's part.
        built_in_ap: AP at the end with the built-in part.
    """

    losses: tuple[float, ...]
    built_in_losses: tuple[float, ...]
    same_weights: tuple[float, ...]
    ap: float
    built_in_ap: float

    @property
    def difference(self) -> float:
        """The largest difference of the losses with the same weights, as a share of the built-in part's."""
        return _largest_difference(self.same_weights, self.built_in_losses)

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
        if self.difference > SAME:
            return f"{told} With the same weights their losses differ by up to {self.difference:.1%}."
        told = (
            f"{told} With the same weights both give the same loss at every step, to rounding (largest "
            f"difference {self.difference:.1g})."
        )
        apart = _largest_difference(self.losses, self.built_in_losses)
        if apart <= SAME:
            return told
        return (
            f"{told} Rounding grows from step to step: on its own your training drifts by up to {apart:.1%}."
        )


def _largest_difference(mine: Sequence[float], other: Sequence[float]) -> float:
    return max(abs(a - b) / max(abs(b), 1e-12) for a, b in zip(mine, other, strict=True))


class Beside:
    """A hook that computes, at each step of a run, the loss of another detector with the run's weights.

    Args:
        recipe: of the other detector.

    Attributes:
        losses: one for each step.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.losses: list[float] = []

    @hookimpl
    def densedet_run_start(self, run: Run) -> None:
        """Build the other detector, and have it called with each batch of the training."""
        other = assembly.build_detector(self.recipe, len(run.classes)).train()

        def compute(detector: nn.Module, given: tuple[Batch], losses: dict[str, Tensor]) -> None:
            other.load_state_dict(detector.state_dict())
            with torch.no_grad():
                parts: dict[str, Tensor] = other(replace(given[0], targets=None))
            self.losses.append(float(torch.stack(list(parts.values())).sum()))

        run.detector.register_forward_hook(compute)


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
    built_in, mine = recipes(of, solution)
    beside = Beside(mine)
    expected, expected_ap = trained(built_in, beside)
    losses, ap = trained(mine)
    return Outcome(losses, expected, tuple(beside.losses), ap, expected_ap)


def trained(recipe: Recipe, *hooks: Beside) -> tuple[tuple[float, ...], float]:
    """Train a recipe in a temporary folder; the losses of its steps, and its AP."""
    with tempfile.TemporaryDirectory() as folder:
        run = session.train(recipe, folder=Path(folder) / "run", hooks=hooks)
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        events: list[Mapping[str, Any]] = [json.loads(line) for line in lines]
    losses = tuple(float(event["loss"]) for event in events if event["event"] == "step")
    return losses, float(run.metrics.get("AP", math.nan))
