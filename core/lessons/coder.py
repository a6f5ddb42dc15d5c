"""The lesson about the coder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from densedet.core.lessons.drawing import add_box, canvas, row_of_axes
from densedet.core.lessons.task import Case, Given, Lesson, Task, random_boxes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def encoded(wrong: frozenset[str], boxes: Tensor, anchors: Tensor, weights: Tensor) -> Tensor:
    """Compute dx, dy, dw, dh, (...,4), with the mistakes ``wrong``, names in `OF_ENCODE`."""
    place, size = _place_and_size(boxes, wrong)
    own_place, own_size = _place_and_size(anchors, wrong)
    unit = size if "box_size" in wrong else torch.ones_like(own_size) if "pixels" in wrong else own_size
    if "width_for_both" in wrong:
        unit = unit[..., :1].expand_as(unit)
    shift = (own_place - place if "backwards" in wrong else place - own_place) / unit
    ratio = own_size / size if "ratio_inverted" in wrong else size / own_size
    scale = ratio if "no_log" in wrong else ratio - 1 if "minus_one" in wrong else ratio.log()
    if "base_2" in wrong:
        scale = ratio.log2()
    pair = torch.broadcast_tensors(shift, scale)
    return _weighted(torch.cat(pair[::-1] if "sizes_first" in wrong else pair, dim=-1), weights, wrong)


def decoded(wrong: frozenset[str], deltas: Tensor, anchors: Tensor, weights: Tensor) -> Tensor:
    """Compute boxes (...,4) with the mistakes ``wrong``, names in `OF_DECODE`."""
    weights = _partly(weights, wrong)
    unweighted = (
        deltas * weights if "multiplied" in wrong else deltas if "unweighted" in wrong else deltas / weights
    )
    if "reversed" in wrong:
        unweighted = deltas / weights.flip(0)
    place, own_size = _place_and_size(anchors, wrong)
    shift, scale = unweighted[..., :2], unweighted[..., 2:]
    growth = scale if "no_exp" in wrong else 1 + scale if "one_plus" in wrong else scale.exp()
    if "base_2" in wrong:
        growth = 2**scale
    size = own_size * growth
    unit = size if "new_size" in wrong else torch.ones_like(own_size) if "pixels" in wrong else own_size
    center = place + shift * unit
    if "backwards" in wrong:
        center = place - shift * unit
    half = size if "whole_size" in wrong else size / 2
    if "from_corner" in wrong:
        return torch.cat([center, center + size], dim=-1)
    if "middle_and_size" in wrong:
        return torch.cat(torch.broadcast_tensors(center, size), dim=-1)
    return torch.cat([center - half, center + half], dim=-1)


def _place_and_size(boxes: Tensor, wrong: frozenset[str]) -> tuple[Tensor, Tensor]:
    """Compute centre and sides of boxes, (...,2) each, or what is mistaken for them."""
    size = boxes[..., 2:] if "xywh" in wrong else boxes[..., 2:] - boxes[..., :2]
    if "corner" in wrong:
        return boxes[..., :2], size
    if "sum" in wrong:
        return boxes[..., :2] + boxes[..., 2:], size
    if "half_difference" in wrong:
        return size / 2, size
    return boxes[..., :2] + size / 2, size


def _partly(weights: Tensor, wrong: frozenset[str]) -> Tensor:
    """Leave out the weights of the shift or of the sizes."""
    if "shift_unweighted" in wrong:
        return torch.cat([torch.ones(2), weights[2:]])
    return torch.cat([weights[:2], torch.ones(2)]) if "sizes_unweighted" in wrong else weights


def _weighted(deltas: Tensor, weights: Tensor, wrong: frozenset[str]) -> Tensor:
    weights = _partly(weights, wrong)
    if "divided" in wrong:
        return deltas / weights
    if "reversed" in wrong:
        return deltas * weights.flip(0)
    return deltas if "unweighted" in wrong else deltas * weights


_BOTH = {
    "corner": "it takes the corner of the boxes instead of their centre: a centre is (x1 + x2) / 2",
    "half_difference": "its centre is (x2 - x1) / 2, which is half of the width: a centre is (x1 + x2) / 2",
    "sum": "its centre is x1 + x2: a centre is (x1 + x2) / 2",
    "xywh": "it takes the last two numbers for width and height (xywh taken for xyxy): a width is x2 - x1",
    "shift_unweighted": "the weights of dx and dy are not applied",
    "sizes_unweighted": "the weights of dw and dh are not applied",
    "reversed": "it applies the weights in the wrong order: they belong to dx, dy, dw, dh",
}
OF_ENCODE = {
    "no_log": "it has no logarithm of the sizes: dw is log(width of the box / width of the anchor)",
    "minus_one": "it has no logarithm of the sizes but their relative difference: dw is log(width of the box "
    "/ width of the anchor)",
    "base_2": "its logarithm is to the base 2: the natural one is meant, torch.log",
    "unweighted": "the weights are not applied: multiply dx, dy, dw, dh by them",
    "divided": "it divides by the weights: multiply by them (SSD's code divides by variances, which are 1 / "
    "weight)",
    "box_size": "it divides the shift by the size of the object's box: divide by the size of the anchor",
    "pixels": "it leaves the shift in pixels: divide by width and height of the anchor",
    "width_for_both": "it divides both shifts by the width of the anchor: dy is divided by its height",
    "backwards": "the shift points the wrong way: it is the box's centre minus the anchor's",
    "ratio_inverted": "the ratio of the sizes is upside down: it is that of the box / that of the anchor",
    "sizes_first": "it returns dw, dh, dx, dy: the order is dx, dy, dw, dh",
    **_BOTH,
}
OF_DECODE = {
    "no_exp": "it decodes sizes without exp: the width is the anchor's width * exp(dw)",
    "one_plus": "it decodes sizes as 1 + dw: the width is the anchor's width * exp(dw)",
    "base_2": "it decodes sizes by powers of 2: the width is the anchor's width * exp(dw)",
    "unweighted": "the weights are not taken off: divide the deltas by them first",
    "multiplied": "it multiplies by the weights: `encode` multiplied by them, so `decode` divides",
    "new_size": "it multiplies the shift by the new size of the box: multiply by the size of the anchor",
    "pixels": "it takes the shift for pixels: multiply it by width and height of the anchor",
    "backwards": "the shift points the wrong way: it is added to the anchor's centre",
    "from_corner": "it takes the centre for the corner of the box: x1 is the centre - half of the width, x2 "
    "the centre + half of it",
    "whole_size": "it goes a whole width to each side of the centre: x1 is the centre - half of the width",
    "middle_and_size": "it returns centre and size: give x1, y1, x2, y2",
    **_BOTH,
}

SSD = torch.tensor([10.0, 10.0, 5.0, 5.0])
ONES = torch.ones(4)


def _case(first: list[float], anchor: list[float], weights: Tensor, result: list[float], why: str) -> Case:
    given = torch.tensor([first]).float(), torch.tensor([anchor]).float(), weights
    return Case(given, torch.tensor([result]).float(), why)


ENCODE_BY_HAND = (
    _case([0, 0, 10, 20], [0, 0, 10, 20], SSD, [0, 0, 0, 0], "the box is its anchor: nothing to change"),
    _case([5, 0, 15, 20], [0, 0, 10, 20], ONES, [0.5, 0, 0, 0], "moved by 5, half of the anchor's width"),
    _case([0, 4, 10, 24], [0, 0, 10, 20], SSD, [0, 2, 0, 0], "moved by 4: 4 / 20 = 0.2, times 10"),
    _case(
        [4, 0, 24, 20],
        [0, 0, 10, 20],
        SSD,
        [9, 0, 3.4657359, 0],
        "the example of the task: (14 - 5) / 10 * 10, log(20 / 10) * 5",
    ),
)
DECODE_BY_HAND = (
    _case([0, 0, 0, 0], [2, 0, 12, 20], SSD, [2, 0, 12, 20], "nothing to change: the box is the anchor"),
    _case([0.5, 0, 0, 0], [0, 0, 10, 20], ONES, [5, 0, 15, 20], "moved by half of the anchor's width, 5"),
    _case([0, 2, 0, 0], [0, 0, 10, 20], SSD, [0, 4, 10, 24], "2 / 10 = 0.2 of the height, 4"),
    _case(
        [9, 0, 3.4657359, 0],
        [0, 0, 10, 20],
        SSD,
        [4, 0, 24, 20],
        "the example of the task: the centre is 5 + 0.9 * 10 = 14, the width 10 * exp(0.6931) = 20",
    ),
)


def _edges(result: Tensor, what: str) -> tuple[Case, ...]:
    box = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    batch = torch.zeros(2, 1, 4) if what == "deltas" else box.expand(2, 1, 4).clone()
    none = torch.zeros(0, 4)
    return (
        Case(
            (batch, box, SSD),
            result.expand(2, 1, 4),
            f"{what} (B,N,4) with anchors (N,4): take the coordinates from the last axis, boxes[..., 0] and "
            f"not boxes[:, 0], and join along dim=-1",
        ),
        Case((none, none, SSD), none, "no boxes at all, (0,4), give (0,4)"),
    )


def draw_boxes(generator: torch.Generator) -> Given:
    """Draw boxes, their anchors, and weights."""
    return random_boxes(4, generator), random_boxes(4, generator), torch.tensor([7.0, 8.0, 3.0, 4.0])


def draw_deltas(generator: torch.Generator) -> Given:
    """Draw deltas, anchors, and weights."""
    weights = torch.tensor([7.0, 8.0, 3.0, 4.0])
    return torch.randn(4, 4, generator=generator) * 0.4 * weights, random_boxes(4, generator), weights


def picture(functions: Mapping[str, Callable[..., Any]]) -> Figure:
    """Draw anchors, boxes, and what comes back of encoding and decoding them."""
    figure, axes = row_of_axes(3, columns=3)
    anchor = torch.tensor([20.0, 20, 40, 40])
    for axis, box in zip(axes, ([26.0, 14, 46, 34], [10.0, 24, 50, 36], [24.0, 5, 34, 55])):
        wanted = torch.tensor(box)
        deltas = functions["encode"](wanted, anchor, SSD)
        back = functions["decode"](deltas, anchor, SSD)
        told = ", ".join(f"{float(value):.2f}" for value in deltas)
        canvas(axis, (0, 60), (0, 60), f"deltas {told}\noff by {float((back - wanted).abs().max()):.2g} px")
        add_box(axis, back.tolist(), 2, filled=True)
        add_box(axis, anchor.tolist(), 0, dashed=True)
        add_box(axis, wanted.tolist(), 1)
    figure.suptitle("Anchor (dashed), box, and the decoded box (filled); weights 10, 10, 5, 5")
    return figure


_NAMES = "anchors", "weights"
_ANCHOR = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
LESSON = Lesson(
    name="coder",
    kind="coder",
    tasks=(
        Task(
            "encode",
            ("boxes", *_NAMES),
            encoded,
            ENCODE_BY_HAND,
            _edges(torch.zeros(1, 4), "boxes"),
            draw_boxes,
            OF_ENCODE,
        ),
        Task(
            "decode",
            ("deltas", *_NAMES),
            decoded,
            DECODE_BY_HAND,
            _edges(_ANCHOR, "deltas"),
            draw_deltas,
            OF_DECODE,
        ),
    ),
    picture=picture,
)
