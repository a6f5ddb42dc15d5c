"""The lesson about IoU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from densedet.core.lessons.drawing import add_box, canvas, row_of_axes
from densedet.core.lessons.task import Case, Given, Lesson, Task, random_boxes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def answer(wrong: frozenset[str], first: Tensor, second: Tensor) -> Tensor:
    """Compute the IoU of boxes (...,4) and (...,4) with the mistakes ``wrong``, names in `MISTAKES`."""
    first, second = (_read(box, wrong) for box in (first, second))
    extra = 1.0 if "plus_one" in wrong else 0.0
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    if "hull" in wrong:
        low, high = (
            torch.minimum(first[..., :2], second[..., :2]),
            torch.maximum(first[..., 2:], second[..., 2:]),
        )
    shared = _product(high - low + extra + ("plus_one_shared" in wrong), wrong)
    extra += "plus_one_areas" in wrong
    one, other = ((box[..., 2:] - box[..., :2] + extra).prod(-1) for box in (first, second))
    below = one + other - shared
    for name, value in {
        "sum": one + other,
        "twice": (one + other) / 2,
        "first_area": one,
        "second_area": other,
        "smaller": torch.minimum(one, other),
        "larger": torch.maximum(one, other),
        "hull_area": _hull(first, second),
        "shared_only": torch.ones_like(one),
    }.items():
        below = value if name in wrong else below
    # A wrong area can be negative: what is made of it depends on how the division is guarded.
    value = torch.where(below < 0, torch.nan, shared / below.clamp(min=1e-9))
    return 1 - value if "distance" in wrong else 100 * value if "per_cent" in wrong else value


def _hull(first: Tensor, second: Tensor) -> Tensor:
    """Compute the area of the smallest box around both."""
    low, high = torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:])
    return (high - low).prod(-1)


def _read(box: Tensor, wrong: frozenset[str]) -> Tensor:
    """Bring boxes that are taken for something else into x1, y1, x2, y2."""
    if "xywh" in wrong:
        return torch.cat([box[..., :2], box[..., :2] + box[..., 2:]], dim=-1)
    if "middle" in wrong:
        return torch.cat([box[..., :2] - box[..., 2:] / 2, box[..., :2] + box[..., 2:] / 2], dim=-1)
    return box[..., [0, 2, 1, 3]] if "axes" in wrong else box


def _product(sides: Tensor, wrong: frozenset[str]) -> Tensor:
    """Compute width times height, where a negative one counts as 0 unless that is forgotten."""
    if "late_clamp" in wrong:
        return sides.prod(-1).clamp(min=0)
    if "absolute" in wrong:
        return sides.abs().prod(-1)
    lowest = torch.zeros(2)
    for axis, name in enumerate(("unclamped_x", "unclamped_y")):
        if name in wrong or "unclamped" in wrong:
            lowest[axis] = -torch.inf
    return torch.maximum(sides, lowest).prod(-1)


MISTAKES = {
    "unclamped": "it forgets to clamp negative overlaps: where boxes lie apart, width or height of the "
    "intersection is negative and must become 0, by clamp(min=0), before the two are multiplied",
    "late_clamp": "it clamps the overlap after multiplying: of boxes that are apart in x and in y both sides "
    "are negative, and their product is positive; clamp width and height first",
    "absolute": "it takes the absolute value of negative overlaps: boxes that lie apart share nothing, so a "
    "negative width or height must become 0, by clamp(min=0)",
    "unclamped_x": "it forgets to clamp negative overlaps in x: a negative width of the intersection must "
    "become 0",
    "unclamped_y": "it forgets to clamp negative overlaps in y: a negative height of the intersection must "
    "become 0",
    "plus_one": "it adds 1 to widths and heights (the old convention of whole pixels): here boxes are "
    "continuous and a width is x2 - x1",
    "plus_one_shared": "it adds 1 to the sides of the intersection (the old convention of whole pixels): "
    "here boxes are continuous and nothing is added",
    "plus_one_areas": "it adds 1 to the sides of both boxes (the old convention of whole pixels): here boxes "
    "are continuous and a width is x2 - x1",
    "sum": "it divides by the sum of both areas instead of the union: the intersection is counted twice "
    "there, subtract it once",
    "twice": "it computes 2 * intersection / sum of the areas (the Dice coefficient): IoU is intersection / "
    "union",
    "first_area": "it divides by the area of one box only, the first: divide by the union, area(a) + area(b) "
    "- intersection",
    "second_area": "it divides by the area of one box only, the second: divide by the union, area(a) + "
    "area(b) - intersection",
    "smaller": "it divides by the smaller area instead of the union",
    "larger": "it divides by the larger area instead of the union",
    "hull_area": "it divides by the area of the box around both instead of the union",
    "shared_only": "it returns the area of the intersection: divide it by the union",
    "xywh": "it takes the last two numbers for width and height (xywh taken for xyxy): boxes are x1, y1, x2, "
    "y2, so a width is x2 - x1",
    "middle": "it takes boxes for centre x, centre y, width, height: they are x1, y1, x2, y2",
    "axes": "it swaps the axes: it reads boxes as x1, x2, y1, y2, but they are x1, y1, x2, y2",
    "hull": "it exchanges minimum and maximum: the intersection begins at the larger of the lefts and ends "
    "at the smaller of the rights; yours is the box around both",
    "per_cent": "it returns per cent: an IoU lies between 0 and 1",
    "distance": "it returns 1 - IoU, the loss: iou gives the IoU itself",
}
"""Name of each mistake -> the sentence about it."""


def _case(first: list[float], second: list[float], value: float, why: str) -> Case:
    return Case((torch.tensor([first]).float(), torch.tensor([second]).float()), torch.tensor([value]), why)


BY_HAND = (
    _case([0, 0, 4, 4], [2, 1, 6, 5], 6 / 26, "shared 2 * 3 = 6, union 16 + 16 - 6 = 26"),
    _case([0, 0, 2, 2], [0, 0, 2, 2], 1.0, "equal boxes: 4 / 4"),
    _case([0, 0, 4, 4], [1, 1, 3, 2], 2 / 16, "one inside of the other: 2 / (16 + 2 - 2)"),
    _case([0, 0, 2, 2], [5, 1, 7, 2], 0.0, "apart in x: they share nothing"),
    _case([0, 0, 2, 2], [1, 6, 2, 9], 0.0, "apart in y: they share nothing"),
    _case([0, 0, 2, 2], [5, 5, 9, 9], 0.0, "apart in x and in y: they share nothing"),
    _case([0, 0, 2, 2], [2, 0, 4, 2], 0.0, "they touch along a side, which has no area"),
)

EDGES = (
    _case([1, 1, 1, 1], [1, 1, 1, 1], 0.0, "boxes without area: 0 / 0 must give 0 (clamp the union)"),
    Case(
        (torch.tensor([[[0.0, 0, 4, 4]], [[2.0, 1, 6, 5]]]), torch.tensor([[2.0, 1, 6, 5], [8.0, 8, 9, 9]])),
        torch.tensor([[6 / 26, 0.0], [1.0, 0.0]]),
        "boxes (G,1,4) with boxes (N,4) give (G,N): take the coordinates from the last axis, first[..., 0] "
        "and not first[:, 0]",
    ),
    Case((torch.zeros(0, 4), torch.zeros(0, 4)), torch.zeros(0), "no boxes at all, (0,4), give (0,)"),
)


def draw(generator: torch.Generator) -> Given:
    """Draw pairs of boxes, of which about half overlap."""
    return random_boxes(6, generator), random_boxes(6, generator)


def picture(functions: Mapping[str, Callable[..., Any]]) -> Figure:
    """Draw pairs of boxes with the IoU that the function computes."""
    figure, axes = row_of_axes(6, columns=3, height=3.5)
    for axis, case in zip(axes, BY_HAND):
        first, second = case.given
        got, right = float(functions["iou"](first, second)), float(case.expected)
        canvas(axis, (-0.5, 9.5), (-0.5, 9.5), f"yours {got:.3f}, right {right:.3f}")
        low = torch.maximum(first[0, :2], second[0, :2])
        high = torch.minimum(first[0, 2:], second[0, 2:])
        if bool((high > low).all()):
            add_box(axis, torch.cat([low, high]).tolist(), 2, filled=True)
        add_box(axis, first[0].tolist(), 0)
        add_box(axis, second[0].tolist(), 1, dashed=True)
    figure.suptitle("IoU of pairs of boxes; what both cover is filled")
    return figure


LESSON = Lesson(
    name="iou",
    kind="box_loss",
    tasks=(Task("iou", ("first", "second"), answer, BY_HAND, EDGES, draw, MISTAKES),),
    picture=picture,
    changes={"model.box_loss": {"name": "iou", "weight": 2.0}},
    note="The box loss is 1 - IoU.",
)
