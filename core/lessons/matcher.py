"""The lesson about the matcher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from densedet.core.boxes import pairwise_iou
from densedet.core.lessons.drawing import add_box, canvas, row_of_axes
from densedet.core.lessons.task import RIGHT, Case, Given, Lesson, Task, random_boxes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def answer(wrong: frozenset[str], ious: Tensor, positive: float, negative: float) -> Tensor:
    """Match N anchors with G objects, (G,N) to (N,), with the mistakes ``wrong``, names in `MISTAKES`."""
    values, objects = ious.max(dim=1 if "axis" in wrong else 0)
    matches = values > positive if "above" in wrong else values >= positive
    below = values <= negative if "not_above" in wrong else values < negative
    if "band_matched" in wrong:
        matches = ~below
    matched = torch.where(matches, objects, -1 if "band_background" in wrong else -2)
    matched[below & ~matches] = -2 if "all_ignored" in wrong else -1
    if "only_forced" in wrong:
        matched[:] = -1
    if "unforced" not in wrong:
        _force(wrong, ious, objects, matched)
    return _renumbered(wrong, matched, len(ious))


def _force(wrong: frozenset[str], ious: Tensor, objects: Tensor, matched: Tensor) -> None:
    """Give each object its best anchor, in place."""
    numbers = list(range(len(ious)))
    if "first_wins" in wrong:
        numbers.reverse()
    if "larger_wins" in wrong:
        numbers.sort(key=lambda number: float(ious[number].max()))
    numbers = numbers[1:] if "first_left_out" in wrong else numbers
    numbers = numbers[:-1] if "last_left_out" in wrong else numbers
    for number in numbers:
        best = int(ious[number].argmax())
        if float(ious[number, best]) <= 0 and "untouched" not in wrong:
            continue
        if "only_free" in wrong and int(matched[best]) >= 0:
            continue
        best -= ("anchor_before_best" in wrong) - ("anchor_after_best" in wrong)
        matched[best] = int(objects[best]) if "own_object" in wrong else number


def _renumbered(wrong: frozenset[str], matched: Tensor, count: int) -> Tensor:
    """Shift the numbers of objects or of anchors."""
    held = matched >= 0
    if "one_up" in wrong:
        return matched + held.long()
    if "one_down" in wrong:
        return matched - held.long()
    if "count_background" in wrong:
        return torch.where(matched == -1, count, matched)
    if "all_up" in wrong:
        return matched + 1
    if "all_down" in wrong:
        return matched - 1
    if "background_0_ignored" in wrong:
        return torch.where(held, matched + 1, torch.where(matched == -1, 0, matched))
    if "next_anchor" in wrong:
        return matched.roll(1)
    if "anchor_before" in wrong:
        return matched.roll(-1)
    return torch.where(held, matched, -3 - matched) if "exchanged" in wrong else matched


_OFF = "it is off by one: "
_FROM_0 = "; objects are numbered from 0, and background is -1"
MISTAKES = {
    "one_up": f"{_OFF}object k is matched as k + 1{_FROM_0}",
    "one_down": f"{_OFF}object k is matched as k - 1, so that object 0 becomes background{_FROM_0}",
    "all_up": f"{_OFF}every number is 1 too large, as if 0 were background{_FROM_0} and ignored -2",
    "all_down": f"{_OFF}every number is 1 too small{_FROM_0} and ignored -2",
    "background_0_ignored": f"{_OFF}object k is matched as k + 1, as if 0 were background{_FROM_0}",
    "next_anchor": f"{_OFF}each anchor has the result of the anchor before it",
    "anchor_before": f"{_OFF}each anchor has the result of the anchor after it",
    "anchor_before_best": f"{_OFF}rule 4 gives each object the anchor before its best one",
    "anchor_after_best": f"{_OFF}rule 4 gives each object the anchor after its best one",
    "first_left_out": f"{_OFF}rule 4 leaves out the first object, as if they were numbered from 1",
    "last_left_out": f"{_OFF}rule 4 leaves out the last object",
    "count_background": "its background is the number of objects: background is -1",
    "unforced": "it does not give each object its best anchor (rule 4), or the thresholds overwrite that "
    "afterwards: an object whose anchors are all below `positive` would never be learned",
    "only_forced": "it matches only the best anchor of each object: every anchor with an IoU of at least "
    "`positive` is a match (rule 1)",
    "band_background": "it takes the anchors between the two thresholds for background: they are ignored, -2",
    "band_matched": "it matches the anchors between the two thresholds: below `positive` they are "
    "ignored, -2",
    "above": "it compares by > where it must be >=: an IoU of exactly `positive` is a match",
    "not_above": "it compares by <= where it must be <: an IoU of exactly `negative` is no background, it is "
    "ignored",
    "axis": "its maximum runs over the wrong axis: ious is (G,N), and each of the N anchors needs the best "
    "object, so it is max(dim=0)",
    "untouched": "it gives an object that touches no anchor the first one: rule 4 asks for an IoU above 0",
    "first_wins": "where two objects want one anchor (rule 4), the earlier object has it: the later one must",
    "larger_wins": "where two objects want one anchor (rule 4), the one of the larger IoU has it: this "
    "lesson gives it to the later one",
    "only_free": "it gives an object its best anchor only where that anchor is not matched yet: rule 4 goes "
    "before the thresholds",
    "own_object": "it matches the best anchor of an object with the object that the anchor overlaps most: "
    "rule 4 gives it to the object whose best anchor it is",
    "exchanged": "it exchanges background and ignored: background is -1, ignored is -2",
    "all_ignored": "it ignores the anchors below `negative`: they are background, -1",
}
"""Name of each mistake -> the sentence about it."""


def _case(ious: list[list[float]], matched: list[int], why: str, negative: float = 0.4) -> Case:
    return Case((torch.tensor(ious), 0.5, negative), torch.tensor(matched), why)


BY_HAND = (
    _case([[0.8, 0.1]], [0, -1], "one object: 0.8 is a match, 0.1 is background"),
    _case([[0.7, 0.45, 0.1]], [0, -2, -1], "0.45 lies between 0.4 and 0.5: ignored"),
    _case([[0.5, 0.6]], [0, 0], "0.5 is at least 0.5: a match"),
    _case([[0.4, 0.6]], [-2, 0], "0.4 is not below 0.4: ignored"),
    _case([[0.1, 0.3, 0.0]], [-1, 0, -1], "no IoU reaches 0.5, but the object gets its best anchor (rule 4)"),
    _case(
        [[0.7, 0.45, 0.1, 0], [0.2, 0.3, 0.35, 0]],
        [0, -2, 1, -1],
        "the example of the task: object 1 gets its best anchor, 2",
    ),
    _case([[0.6, 0.2], [0.1, 0.7]], [0, 1], "each anchor takes the object that it overlaps most"),
    _case([[0.1, 0.3], [0.1, 0.2]], [-1, 1], "both objects want anchor 1: the later one has it"),
    _case([[0.1, 0.2], [0.1, 0.3]], [-1, 1], "both want anchor 1: the later one has it"),
    _case(
        [[0.9, 0.35], [0.1, 0.3]],
        [0, 1],
        "anchor 1 is the best of object 1",
    ),
    _case(
        [[0.55, 0.0], [0.6, 0.9]], [0, 1], "anchor 0 is the best of object 0, and object 1 has a better one"
    ),
    _case([[0.8, 0.0], [0.7, 0.1]], [1, -1], "anchor 0 is the best of object 1, too, and that is the later"),
    _case([[0.7, 0.1], [0.0, 0.0]], [0, -1], "object 1 touches no anchor, so it gets none"),
)

EDGES = (
    _case([[0.5]], [0], "one threshold for both, as SSD has it: nothing is ignored", negative=0.5),
    _case([[0.0], [0.0]], [-1], "objects that touch no anchor get none"),
)


def draw(generator: torch.Generator) -> Given:
    """Draw the IoUs of some objects with three times as many anchors."""
    count = int(torch.randint(1, 6, (), generator=generator))
    objects = random_boxes(count, generator)
    near = objects.repeat(3, 1) + torch.randn(3 * count, 4, generator=generator) * 4
    return pairwise_iou(objects, torch.cat([near, random_boxes(3, generator)])), 0.5, 0.35


def picture(functions: Mapping[str, Callable[..., Any]]) -> Figure:
    """Draw objects, and their anchors in their colours, beside those of the right answer."""
    figure, axes = row_of_axes(2, columns=2, width=4.6)
    objects = torch.tensor([[6.0, 6, 26, 30], [30.0, 10, 58, 24], [18.0, 32, 24, 38]])
    places = torch.arange(6, 64, 8).float()
    middle = torch.stack(torch.meshgrid(places, places[:5], indexing="xy"), dim=-1).view(-1, 1, 2)
    half = torch.tensor([[8.0, 8.0], [12.0, 6.0]])
    anchors = torch.cat([middle - half, middle + half], dim=-1).view(-1, 4)
    given = pairwise_iou(objects, anchors), 0.5, 0.4
    for axis, matched, whose in zip(
        axes, (functions["match"](*given), answer(RIGHT, *given)), ("yours", "right")
    ):
        counts = [int((matched == number).sum()) for number in range(len(objects))]
        told = ", ".join(str(count) for count in counts)
        title = f"{whose}: {told} anchors of objects 0, 1, 2; {int((matched == -2).sum())} ignored (grey)"
        canvas(axis, (-4, 68), (-4, 44), title)
        for place in (matched == -2).nonzero().flatten().tolist():
            add_box(axis, anchors[place].tolist(), 6, width=0.8)
        for place in (matched >= 0).nonzero().flatten().tolist():
            add_box(axis, anchors[place].tolist(), int(matched[place]), width=1.0)
        for number, box in enumerate(objects.tolist()):
            add_box(axis, box, number, filled=True, text=f"object {number}")
    return figure


LESSON = Lesson(
    name="matcher",
    kind="matcher",
    tasks=(Task("match", ("ious", "positive", "negative"), answer, BY_HAND, EDGES, draw, MISTAKES),),
    picture=picture,
)
