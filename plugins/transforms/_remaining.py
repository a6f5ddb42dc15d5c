"""What stays of the objects that a batch transform moved: one rule for all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from densedet.core.boxes import area
from densedet.core.types import Batch

Partial = Literal["drop", "ignore"]


def remaining(
    batch: Batch, whole: Tensor, boxes: Tensor, *, min_visible: float, min_side: float, partial: Partial
) -> Batch:
    """``batch`` with ``boxes``, what is seen of ``whole``; both float32 (B,G,4) xyxy in pixels of the tensor,
    G may be 0.

    An object of which less than ``min_visible`` (share of its area, 0..1) or less than ``min_side`` pixels
    (shorter side) remain is dropped, or ignored where ``partial`` is "ignore" and anything remains; ignored
    objects stay as long as anything remains. What is dropped leaves an empty slot (box 0, label -1) and,
    unless it was ignored, is counted in ``dropped``.
    """
    sides = (boxes[..., 2:] - boxes[..., :2]).amin(-1)
    remains = batch.valid & (sides > 0)
    enough = (area(boxes) >= min_visible * area(whole)) & (sides >= min_side)
    if partial == "ignore":
        valid, ignore = remains, remains & (batch.ignore | ~enough)
    else:
        valid = remains & (batch.ignore | enough)
        ignore = batch.ignore & valid
    labels = torch.where(valid, batch.labels, -1)
    dropped = batch.dropped + int((batch.valid & ~batch.ignore & ~valid).sum())
    return replace(
        batch,
        boxes=torch.where(valid[..., None], boxes, 0.0),
        labels=labels,
        valid=valid,
        ignore=ignore,
        dropped=dropped,
    )
