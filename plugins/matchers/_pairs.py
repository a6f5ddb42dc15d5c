"""What matchers compute between all objects and all anchors of a batch, and how they keep it in memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from densedet.core.boxes import area
from densedet.core.errors import PartError
from densedet.core.types import Assignment, Level

LARGEST = 2**24
"""Pairs of object and anchor looked at in one go: 64 MB per float matrix."""


def in_chunks(match: Callable[..., Assignment], anchors: int, boxes: Tensor, *tensors: Tensor) -> Assignment:
    """``match`` on as many images at a time as LARGEST allows; boxes (B,G,4) and ``tensors`` have the batch
    axis first.

    All background, of quality 0, where there is no object (G = 0), image or anchor.
    """
    images, objects = boxes.shape[:2]
    if images * objects * anchors == 0:
        return Assignment(*background(images, anchors, boxes.device))
    at_once = max(1, LARGEST // (objects * anchors))
    if images <= at_once:
        return match(boxes, *tensors)
    parts = [
        match(*part) for part in zip(boxes.split(at_once), *(tensor.split(at_once) for tensor in tensors))
    ]
    qualities = [part.quality for part in parts if part.quality is not None]
    return Assignment(
        torch.cat([part.matched_idxs for part in parts]), torch.cat(qualities) if qualities else None
    )


def background(images: int, anchors: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """An assignment's index and quality, (B,N) of -1 and of 0."""
    return torch.full((images, anchors), -1, device=device), torch.zeros(images, anchors, device=device)


def check_levels(levels: tuple[Level, ...], anchors: Tensor) -> None:
    """PartError unless the levels' cells account for all anchors."""
    count = sum(level.count for level in levels)
    if count != len(anchors):
        raise PartError(
            f"the levels have {count} anchors together, but there are {len(anchors)}: make both from "
            f"the same maps"
        )


def pairwise_iou(boxes: Tensor, anchors: Tensor) -> Tensor:
    """(B,G,4), (N,4) or (B,N,4) -> (B,G,N) in 0..1, 0 where both are empty.

    Bit for bit what `densedet.core.boxes.pairwise_iou` and torchvision's box_iou say; coordinate by
    coordinate and in place, which is some ten times as fast on a CPU and takes a third of the memory.
    """
    objects, count = boxes.shape[-2], anchors.shape[-2]
    if objects > 1 and objects * count > LARGEST:
        # One huge image: the result is needed whole, the three matrices that it is made from are not.
        overlaps = boxes.new_empty(*boxes.shape[:-1], count)
        for part, few in zip(
            overlaps.split(max(1, LARGEST // count), -2), boxes.split(max(1, LARGEST // count), -2)
        ):
            part.copy_(pairwise_iou(few, anchors))
        return overlaps
    left, top, right, bottom = columns(boxes, -1)
    anchor_left, anchor_top, anchor_right, anchor_bottom = columns(anchors, -2)
    shared = torch.minimum(right, anchor_right).sub_(torch.maximum(left, anchor_left)).clamp_(min=0)
    height = torch.minimum(bottom, anchor_bottom).sub_(torch.maximum(top, anchor_top)).clamp_(min=0)
    shared *= height
    union = torch.add(area(boxes).unsqueeze(-1), area(anchors).unsqueeze(-2), out=height).sub_(shared)
    return shared.div_(union.clamp_(min=torch.finfo(union.dtype).tiny))


def columns(boxes: Tensor, axis: int) -> tuple[Tensor, ...]:
    """(...,n,4) -> its four coordinates, each (...,n,1) for axis -1 or (...,1,n) for axis -2, contiguous."""
    return boxes.mT.contiguous().unsqueeze(axis).unbind(-3)


def points_inside(boxes: Tensor, points: Tensor) -> Tensor:
    """(B,G,4), (N,2) -> bool (B,G,N): the point lies strictly inside the box."""
    left, top, right, bottom = columns(boxes, -1)
    x, y = points.T.contiguous()
    return (x > left) & (x < right) & (y > top) & (y < bottom)


def outbid(place: Tensor, value: Tensor) -> Tensor:
    """place int64 (M,), value float (M,) -> bool (M,): another claim to the same place has a larger value, or
    the same and comes earlier."""
    order = value.argsort(descending=True, stable=True)
    order = order[place[order].argsort(stable=True)]
    ordered = place[order]
    lost = torch.zeros_like(place, dtype=torch.bool)
    lost[order[1:]] = ordered[1:] == ordered[:-1]
    return lost


def best_claims(
    anchor: Tensor, slot: Tensor, value: Tensor, claimed: Tensor, anchors: int
) -> tuple[Tensor, Tensor]:
    """Who gets each anchor when several objects claim it: the largest value, among equals the earlier claim.

    anchor, slot: int64 (B,M), anchor in 0..N-1, slot in 0..G-1. value: float (B,M). claimed: bool (B,M),
    which claims count. -> index int64 (B,N), the slot or -1 where nobody claims; value (B,N), 0 there.
    """
    image, claim = claimed.nonzero(as_tuple=True)
    place, bid = image * anchors + anchor[image, claim], value[image, claim]
    wins = ~outbid(place, bid)
    index = anchor.new_full((len(anchor), anchors), -1)
    best = value.new_zeros(index.shape)
    index.view(-1)[place[wins]] = slot[image, claim][wins]
    best.view(-1)[place[wins]] = bid[wins]
    return index, best
