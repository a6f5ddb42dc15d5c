"""Functions on all pairs of an object and an anchor, which several matchers use."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from densedet.core.boxes import area
from densedet.core.errors import PartError
from densedet.core.types import Assignment, Level

LARGEST = 2**24
"""Most pairs of an object and an anchor that a matcher computes at once: 64 MB per float32 matrix."""


def in_chunks(
    match: Callable[..., Assignment], num_anchors: int, boxes: Tensor, *tensors: Tensor
) -> Assignment:
    """Match a batch in chunks of images, so that the IoU matrix has at most `LARGEST` elements.

    Args:
        match: takes a chunk of ``boxes`` and of each of ``tensors``.
        num_anchors: N.
        boxes: (B,G,4).
        tensors: whatever else ``match`` takes, with the batch axis first.

    Returns:
        The chunks' assignments put together; background and quality 0 everywhere if B, G or N is 0.
    """
    num_images, num_objects = boxes.shape[:2]
    if num_images * num_objects * num_anchors == 0:
        return Assignment(*background(num_images, num_anchors, boxes.device))
    at_once = max(1, LARGEST // (num_objects * num_anchors))
    if num_images <= at_once:
        return match(boxes, *tensors)
    parts = [match(*chunk) for chunk in zip(*(tensor.split(at_once) for tensor in (boxes, *tensors)))]
    qualities = [part.quality for part in parts if part.quality is not None]
    return Assignment(
        torch.cat([part.matched_idxs for part in parts]), torch.cat(qualities) if qualities else None
    )


def background(num_images: int, num_anchors: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """matched_idxs and quality of background only: (B,N) of -1 and (B,N) of 0."""
    shape = num_images, num_anchors
    return torch.full(shape, -1, device=device), torch.zeros(shape, device=device)


def check_levels(levels: tuple[Level, ...], anchors: Tensor) -> None:
    """Raise PartError unless the levels have as many anchors as there are."""
    count = sum(level.count for level in levels)
    if count != len(anchors):
        raise PartError(
            f"the levels have {count} anchors together, but there are {len(anchors)}: make both from "
            f"the same maps"
        )


def pairwise_iou(boxes: Tensor, anchors: Tensor) -> Tensor:
    """IoU of each object with each anchor, 0 where both are empty.

    Equal to `densedet.core.boxes.pairwise_iou` and torchvision's box_iou, bit for bit. It works coordinate by
    coordinate and in place, which on a CPU is some ten times as fast and takes a third of the memory.

    Args:
        boxes: (B,G,4) or (M,4) xyxy.
        anchors: (N,4), or one set an image, (B,N,4).

    Returns:
        (B,G,N) or (M,N) in 0..1.
    """
    objects, count = boxes.shape[-2], anchors.shape[-2]
    if objects > 1 and objects * count > LARGEST:
        # One huge image: its result is needed as a whole, but the three temporary matrices are not.
        overlaps = boxes.new_empty(*boxes.shape[:-1], count)
        for part, few in zip(
            overlaps.split(max(1, LARGEST // count), -2), boxes.split(max(1, LARGEST // count), -2)
        ):
            part.copy_(pairwise_iou(few, anchors))
        return overlaps
    left, top, right, bottom = columns(boxes, -1)  # (B,G,1) each
    anchor_left, anchor_top, anchor_right, anchor_bottom = columns(anchors, -2)  # (1,N) each
    shared = torch.minimum(right, anchor_right).sub_(torch.maximum(left, anchor_left)).clamp_(min=0)
    height = torch.minimum(bottom, anchor_bottom).sub_(torch.maximum(top, anchor_top)).clamp_(min=0)
    shared *= height
    union = torch.add(area(boxes).unsqueeze(-1), area(anchors).unsqueeze(-2), out=height).sub_(shared)
    return shared.div_(union.clamp_(min=torch.finfo(union.dtype).tiny))


def columns(boxes: Tensor, axis: int) -> tuple[Tensor, ...]:
    """Split boxes (...,n,4) into four coordinates, each (...,n,1) for axis -1 or (...,1,n) for axis -2."""
    return boxes.mT.contiguous().unsqueeze(axis).unbind(-3)


def points_inside(boxes: Tensor, points: Tensor) -> Tensor:
    """bool (B,G,N): which of the points (N,2) lie strictly inside which of the boxes (B,G,4)."""
    left, top, right, bottom = columns(boxes, -1)  # (B,G,1) each
    x, y = points.T.contiguous()
    return (x > left) & (x < right) & (y > top) & (y < bottom)


def largest_of_group(group: Tensor, value: Tensor) -> Tensor:
    """Mark the entry with the largest value of each group; of equal values the earlier entry.

    Args:
        group: int64 (M,), the group of each entry, e.g. the anchor that it is about.
        value: float (M,).

    Returns:
        bool (M,), True at one entry of each group. group [7, 7, 4], value [.2, .3, .1] -> [False, True,
        True].
    """
    order = value.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]  # by group, then by falling value
    ordered = group[order]
    is_largest = torch.ones_like(group, dtype=torch.bool)
    is_largest[order[1:]] = ordered[1:] != ordered[:-1]
    return is_largest


def resolve_conflicts(
    anchor: Tensor, slot: Tensor, value: Tensor, chosen: Tensor, num_anchors: int
) -> tuple[Tensor, Tensor]:
    """Give each anchor to the object with the largest value of those that chose it.

    Of equal values the earlier pair is taken.

    Args:
        anchor: int64 (B,M), the anchor of each of an image's M pairs of object and anchor.
        slot: int64 (B,M), the object of each pair.
        value: float (B,M), by which the pairs are ranked, e.g. their IoU.
        chosen: bool (B,M), the pairs that count.
        num_anchors: N.

    Returns:
        matched_idxs int64 (B,N), a slot or -1, and matched_vals (B,N), the pair's value or 0.
    """
    image, pair = chosen.nonzero(as_tuple=True)  # (Q,) each
    place, value = image * num_anchors + anchor[image, pair], value[image, pair]  # (Q,) each
    wins = largest_of_group(place, value)
    matched_idxs = anchor.new_full((len(anchor), num_anchors), -1)
    matched_vals = value.new_zeros(matched_idxs.shape)
    matched_idxs.view(-1)[place[wins]] = slot[image, pair][wins]
    matched_vals.view(-1)[place[wins]] = value[wins]
    return matched_idxs, matched_vals
