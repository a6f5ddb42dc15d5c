"""The lesson about non-maximum suppression."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from densedet.core.boxes import pairwise_iou
from densedet.core.lessons.drawing import add_box, canvas, row_of_axes
from densedet.core.lessons.task import Case, Given, Lesson, Task, random_boxes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def answer(wrong: frozenset[str], boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Choose the boxes that stay, int64 (S,), with the mistakes ``wrong``, names in `MISTAKES`."""
    ious = pairwise_iou(boxes, boxes)
    order = scores.argsort(descending="lower_stays" not in wrong).tolist()
    kept: list[int] = []
    for number, place in enumerate(order):
        rivals = order[:number] if "removed_remove" in wrong else kept
        if "neighbour" in wrong:
            rivals = order[max(0, number - 1) : number]
        if "last_kept" in wrong:
            rivals = kept[-1:]
        if "best_only" in wrong:
            rivals = order[:1] if number else []
        if not any(_removes(wrong, rival, place, ious, labels, threshold) for rival in rivals):
            kept.append(place)
    return _result(wrong, kept, order, boxes, scores)


def _removes(
    wrong: frozenset[str], rival: int, place: int, ious: Tensor, labels: Tensor, threshold: float
) -> bool:
    if "nothing" in wrong:
        return False
    same_class = bool(labels[rival] == labels[place])
    if "across" not in wrong and same_class == ("other_classes" in wrong):
        return False
    if "one_of_a_class" in wrong:
        return True
    overlap = float(ious[rival, place])
    if "reversed" in wrong:
        return overlap < threshold
    return overlap >= threshold if "at_threshold" in wrong else overlap > threshold


def _result(
    wrong: frozenset[str], kept: list[int], order: list[int], boxes: Tensor, scores: Tensor
) -> Tensor:
    """Bring the places of what stays into the form that is returned."""
    stays = torch.tensor(kept, dtype=torch.int64)
    if "mask" in wrong:
        return torch.zeros(len(boxes), dtype=torch.bool).index_fill(0, stays, True)
    if "mask_of_sorted" in wrong:
        return torch.tensor([place in kept for place in order], dtype=torch.bool)
    if "positions" in wrong:
        return torch.tensor([order.index(place) for place in kept], dtype=torch.int64)
    if "by_place" in wrong:
        return stays.sort().values
    if "worst_first" in wrong:
        return stays.flip(0)
    if "removed" in wrong:
        return torch.tensor([place for place in order if place not in kept], dtype=torch.int64)
    if "boxes" in wrong:
        return boxes[stays]
    return scores[stays] if "scores" in wrong else stays


MISTAKES = {
    "across": "it suppresses across classes: a box removes others of its own class only, compare the labels",
    "other_classes": "it removes boxes of other classes only: a box removes others of its own class only",
    "nothing": "it removes nothing: remove the boxes whose IoU with a better one of their class is above the "
    "threshold",
    "lower_stays": "it keeps the box of the lower score: begin with the best, "
    "scores.argsort(descending=True)",
    "at_threshold": "it removes at an IoU of exactly the threshold (>=): a box is removed above it (>)",
    "by_place": "its indices are in the order of the input: the best score comes first",
    "worst_first": "its indices are worst first: the best score comes first",
    "neighbour": "it compares each box with its neighbour in the order of the scores only: compare it with "
    "all boxes that stay",
    "last_kept": "it compares each box with the last one that stayed only: compare it with all that stay",
    "best_only": "it stops after the best box: go on with the best of those that are left",
    "one_of_a_class": "it keeps one box of each class, however far apart they lie: remove only those whose "
    "IoU is above the threshold",
    "removed_remove": "a box that was removed still removes others: only those that stay do",
    "mask": "it returns a mask, not indices: mask.nonzero() gives indices, which must be sorted best first",
    "mask_of_sorted": "it returns a mask of the sorted boxes, not indices of the input",
    "positions": "it returns positions in the sorted list, not places in the input: take order[positions]",
    "reversed": "it removes the boxes whose IoU is below the threshold: remove those above it",
    "removed": "it returns the boxes that are removed instead of those that stay",
    "boxes": "it returns boxes, not indices: give the places of the boxes in the input",
    "scores": "it returns scores, not indices: give the places of the boxes in the input",
}
"""Name of each mistake -> the sentence about it."""


def _case(rows: list[list[float]], kept: list[int], why: str, threshold: float = 0.5) -> Case:
    """A case of rows x1, y1, x2, y2, score, label."""
    table = torch.tensor(rows).view(-1, 6)
    given = table[:, :4].clone(), table[:, 4].clone(), table[:, 5].long(), threshold
    return Case(given, torch.tensor(kept, dtype=torch.int64), why)


BY_HAND = (
    _case([[0, 0, 10, 10, 0.9, 0]], [0], "one box: it stays"),
    _case(
        [[0, 0, 10, 8, 0.6, 0], [0, 0, 10, 10, 0.9, 0]], [1], "IoU 80 / 100 = 0.8: the one of score 0.9 stays"
    ),
    _case(
        [[0, 0, 10, 10, 0.6, 0], [20, 0, 30, 10, 0.9, 0]], [1, 0], "they do not touch: both, the best first"
    ),
    _case([[0, 0, 10, 10, 0.9, 0], [0, 0, 10, 8, 0.6, 1]], [0, 1], "IoU 0.8, but of two classes: both stay"),
    _case(
        [[0, 0, 10, 10, 0.9, 0], [0, 0, 10, 5, 0.6, 0]],
        [0, 1],
        "IoU 50 / 100 = 0.5, not above the threshold 0.5: both stay",
    ),
    _case(
        [[0, 0, 10, 10, 0.6, 0], [0, 0, 10, 8, 0.9, 0], [20, 0, 30, 10, 0.7, 0], [0, 3, 10, 13, 0.5, 0]],
        [1, 2, 3],
        "the example of the task: box 0 is removed by box 1, and removes nothing itself",
    ),
    _case(
        [[0, 0, 10, 10, 0.9, 0], [40, 0, 50, 10, 0.8, 0], [1, 0, 11, 10, 0.7, 0]],
        [0, 1],
        "box 2 has an IoU of 90 / 110 with box 0, with another box between them in the order of the scores",
    ),
    _case(
        [[0, 0, 10, 10, 0.9, 0], [0, 0, 10, 6, 0.8, 0], [0, 4, 10, 10, 0.7, 0]],
        [0],
        "boxes 1 and 2 have an IoU of 60 / 100 with box 0, and of 20 / 100 with each other",
    ),
)

EDGES = (
    _case([], [], "no boxes at all, (0,4), give an empty int64 (0,): torch.tensor([], dtype=torch.int64)"),
)


def draw(generator: torch.Generator) -> Given:
    """Draw boxes around four places, of two classes, with distinct scores."""
    near = random_boxes(4, generator).repeat(3, 1) + torch.randn(12, 4, generator=generator) * 2
    scores = (torch.randperm(12, generator=generator) + 1) / 13
    return near, scores, torch.randint(0, 2, (12,), generator=generator), 0.5


SCENE = (
    [6, 8, 34, 50, 0.92, 0],
    [9, 5, 37, 47, 0.75, 0],
    [4, 14, 30, 56, 0.48, 0],
    [10, 24, 40, 48, 0.66, 1],
    [52, 14, 74, 36, 0.85, 1],
    [55, 17, 77, 39, 0.60, 1],
    [66, 22, 88, 44, 0.55, 1],
    [58, 46, 92, 60, 0.71, 0],
)
"""x1, y1, x2, y2, score and class of the boxes in the picture."""


def picture(functions: Mapping[str, Callable[..., Any]]) -> Figure:
    """Draw boxes before and after; those that are removed are grey."""
    figure, axes = row_of_axes(2, columns=2, width=4.8, height=3.6)
    boxes, scores, labels, _ = _case([list(row) for row in SCENE], [], "").given
    kept = functions["nms"](boxes, scores, labels, 0.45).tolist()
    titles = (
        f"before: {len(boxes)} boxes",
        f"after yours, threshold 0.45: {len(kept)} stay, best first {kept}",
    )
    for axis, places, title in zip(axes, (list(range(len(boxes))), kept), titles):
        canvas(axis, (0, 96), (0, 64), title)
        for place in sorted(range(len(boxes)), key=lambda number: number in places):
            label = int(labels[place])
            if place in places:
                told = f"{place}: class {label}, {float(scores[place]):.2f}"
                add_box(axis, boxes[place].tolist(), label, text=told)
            else:
                add_box(axis, boxes[place].tolist(), 6, dashed=True, width=0.9)
    return figure


LESSON = Lesson(
    name="nms",
    kind="postprocess",
    tasks=(Task("nms", ("boxes", "scores", "labels", "threshold"), answer, BY_HAND, EDGES, draw, MISTAKES),),
    picture=picture,
    note="NMS has no part in the training, so that the losses are equal whatever it does: the AP tells.",
)
