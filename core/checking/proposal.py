"""Anchors that fit a data set's objects better, found by changing the arguments of the recipe's own part."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import ValidationError
from torch import Tensor

from densedet.core import assembly
from densedet.core.checking.coverage import Group, Reach, Rows
from densedet.core.errors import DensedetError
from densedet.core.recipe.loading import Recipe
from densedet.core.recipe.merging import find_recipe, read_overrides, shipped_recipes
from densedet.core.recipe.signatures import arguments_of
from densedet.core.training.fit import check_fit

FACTORS = (2.0, 1.41, 1.19, 1.09, 1.04)
"""By which numbers are changed, coarse to fine."""
OBJECTS = 2000
"""Objects that a trial is judged by, or up to twice as many."""
TRIALS = 600
"""Of a search; a number of seconds would make the proposal depend on the machine."""
LITTLE = 0.2
"""Weight of the mean IoU beside the share of objects that an anchor fits, so that a search has a slope."""
LEAST = 0.001
"""A share of objects by which a proposal must be better to be one."""
FAR = 1000.0
"""An argument that may be this many times as large is a size or a ratio; others, such as an offset within a
cell, are left alone."""

Arguments = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Proposal:
    """Other arguments of a recipe's anchors.

    Attributes:
        arguments: those that change, by name.
        overrides: the same as a user types them.
        recipe: the recipe with them.
        before: what the recipe's anchors reach.
        after: what the proposed ones reach, by the recipe that was loaded anew with them.
        cells: anchors of a cell on each level, before and after.
    """

    arguments: Arguments
    overrides: list[str]
    recipe: Recipe
    before: Rows
    after: Rows
    cells: tuple[tuple[int, ...], tuple[int, ...]]


def propose(
    recipe: Recipe,
    reach: Reach,
    groups: Sequence[Group],
    before: Rows,
    num_classes: int,
    *,
    most: int | None = None,
) -> Proposal | None:
    """Search for arguments with which more objects are reached, and verify them on all objects.

    Args:
        recipe: with the anchors that stand now.
        reach: of this recipe.
        groups: all objects.
        before: what the anchors reach of them.
        num_classes: C.
        most: anchors that a cell may have at most; None: as many as it has now.

    Returns:
        The proposal; None where nothing better was found, or the recipe does not take it.
    """
    spec = recipe.values["model"]["anchors"]
    component = recipe.plugins.components.get("anchors", spec["name"])
    own = {name: a for name, a in arguments_of(component).items() if not a.wired and name in spec}
    limit = max(reach.anchors.num_anchors) if most is None else most
    shown = _objects(groups)

    def built(arguments: Arguments) -> Any:
        wired = {"strides": tuple(reach.strides)}
        try:
            part = assembly.build_component(recipe, "model.anchors", "anchors", {**spec, **arguments}, wired)
            return part if max(part.num_anchors) <= limit else None
        except DensedetError:
            return None

    def score(arguments: Arguments) -> float:
        part = built(arguments)
        if part is None:
            return -1.0
        found = reach.best_ious(shown, part)
        return float((found >= reach.threshold).float().mean() + LITTLE * found.mean())

    start = {name: spec[name] for name in own}
    best = climb(start, score, {n: a.adapter.validate_python for n, a in own.items()})
    changed = {name: _rounded(value) for name, value in best.items() if value != start[name]}
    if not changed:
        return None
    overrides = [f"model.anchors.{name}={json.dumps(value)}" for name, value in changed.items()]
    try:
        other = recipe.with_overrides(overrides)
        check_fit(other)
        anew = Reach(other, num_classes)
        after = anew.rows(groups)
    except DensedetError:  # e.g. a head that wants as many anchors on each level
        return None
    gains = [float(b.float().mean() - a.float().mean()) for a, b in _columns(before, after)]
    if min(gains) < -LEAST or max(gains) < LEAST:
        return None
    cells = tuple(reach.anchors.num_anchors), tuple(anew.anchors.num_anchors)
    return Proposal(changed, overrides, other, before, after, cells)


def _objects(groups: Sequence[Group]) -> list[tuple[tuple[int, int], Tensor]]:
    """Return the boxes that count by the size of their images; evenly spread where there are too many."""
    by_size: dict[tuple[int, int], list[Tensor]] = {}
    for group in groups:
        by_size.setdefault(group.image_hw, []).append(group.boxes[group.counting])
    total = sum(len(boxes) for own in by_size.values() for boxes in own)
    step = max(1, total // OBJECTS)
    return [(image_hw, torch.cat(own)[::step]) for image_hw, own in by_size.items()]


def _columns(before: Rows, after: Rows) -> list[tuple[Any, Any]]:
    return [(before.reached, after.reached), (before.fitting, after.fitting)]


def climb(
    start: Arguments,
    score: Callable[[Arguments], float],
    checks: dict[str, Callable[[Any], Any]],
    *,
    trials: int = TRIALS,
) -> Arguments:
    """Change one argument after the other, as long as that scores better.

    Args:
        start: values by name.
        score: of values; below 0 where they are none.
        checks: raise ValidationError for a value that an argument cannot have.
        trials: at most.

    Returns:
        The best values that were seen.
    """
    best, top = start, score(start)
    for factor in FACTORS:
        better = True
        while better:
            better = False
            for changes in _moves(best, checks, factor):
                if trials <= 0:
                    return best
                trials -= 1
                tried = {**best, **changes}
                reached = score(tried)
                if reached > top + 1e-6:
                    best, top, better = tried, reached, True
                    break
    return best


def _moves(
    arguments: Arguments, checks: dict[str, Callable[[Any], Any]], factor: float
) -> Iterator[Arguments]:
    """Yield arguments with other values; a count also together with a list that has an entry more or less,
    since both make anchors."""
    lists = {name: value for name, value in arguments.items() if _is_flat(value)}
    for name, value in arguments.items():
        if value is None or isinstance(value, (bool, str)) or not _may_be(checks[name], value):
            continue
        for other in _others(value, factor):
            if _may_be(checks[name], other) and not (_ascends(value) and not _ascends(other)):
                yield {name: other}
                if isinstance(value, int):
                    yield from ({name: other, n: v} for n, own in lists.items() for v in _resized(own))


def _may_be(check: Callable[[Any], Any], value: Any) -> bool:
    """Whether an argument may have a value and, if that is no count, one that is `FAR` as large."""
    try:
        check(value)
        if not isinstance(value, int):
            check(_times(value, FAR))
    except ValidationError:
        return False
    return True


def _is_flat(value: Any) -> bool:
    numbers = isinstance(value, (list, tuple)) and len(value) > 0
    return numbers and all(isinstance(v, (int, float)) and not isinstance(v, bool) and v > 0 for v in value)


def _ascends(value: Any) -> bool:
    """Whether it is a list of numbers in ascending order, which then means something."""
    return _is_flat(value) and all(low < high for low, high in pairwise(value))


def _times(value: Any, factor: float) -> Any:
    return [_times(item, factor) for item in value] if isinstance(value, (list, tuple)) else value * factor


def _others(value: Any, factor: float) -> Iterator[Any]:
    """Yield values beside one: larger and smaller, as a whole and entry by entry, closer and further apart,
    with an entry more or less."""
    if isinstance(value, int):
        yield from (value + 1, value - 1)
    elif isinstance(value, float):
        yield from (value * factor, value / factor)
    elif _is_flat(value) or _is_nested(value):
        yield from (_times(value, factor), _times(value, 1 / factor))
        if _is_flat(value):
            middle = math.exp(sum(map(math.log, value)) / len(value))
            for power in (factor**0.5, factor**-0.5) if len(value) > 1 else ():
                yield [middle * (item / middle) ** power for item in value]
            yield from _resized(value)
        for position, item in enumerate(value):
            for other in _others(float(item) if isinstance(item, int) else item, factor):
                yield [*value[:position], other, *value[position + 1 :]]


def _is_nested(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(_is_flat, value))


def _resized(values: Sequence[float]) -> Iterator[list[float]]:
    """Yield a list with an entry less, and with one more at an end or between two."""
    if len(values) > 1:
        for at in range(len(values)):
            yield [*values[:at], *values[at + 1 :]]
    ordered = sorted(values)
    step = ordered[-1] / ordered[-2] if len(values) > 1 and ordered[-2] < ordered[-1] else 1.5
    yield [*values, ordered[-1] * step]
    yield [ordered[0] / step, *values]
    for low, high in pairwise(ordered):
        if low < high:
            yield sorted([*values, math.sqrt(low * high)])


def _rounded(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value


def heir(what: str, overrides: Sequence[str], proposal: Proposal, path: Path) -> str:
    """Return the YAML of a recipe that inherits from another with what was overridden and the proposal.

    Args:
        what: a YAML file, or a shipped recipe's name.
        overrides: path=value, as the user gave them.
        proposal: the anchors.
        path: where the recipe is going to be.
    """
    node = read_overrides([*overrides, *proposal.overrides], [])
    assert node is not None
    file = find_recipe(what)
    base = (
        f"densedet:{what}.yaml" if what in shipped_recipes() else os.path.relpath(file, path.resolve().parent)
    )
    before, after = proposal.before.share(), proposal.after.share()
    about = (
        f"{what} with anchors that fit {after['fitting']:.1%} of the objects in place of "
        f"{before['fitting']:.1%} (densedet check data)."
    )
    values = {"description": about, "base": [base], **node.plain()}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
