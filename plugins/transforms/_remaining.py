"""One rule for all batch transforms: which objects remain after they were moved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from densedet.core.boxes import area
from densedet.core.types import Batch

Partial = Literal["drop", "ignore"]


def counted(mask: Tensor) -> int | Tensor:
    """Count what is True; on a GPU as a tensor (), for which nothing waits."""
    total = mask.sum()
    return int(total) if mask.device.type == "cpu" else total


@dataclass(frozen=True)
class Remaining:
    """Replaces a batch's boxes by moved ones, and drops or ignores the objects of which too little remains.

    A dropped object leaves an empty slot (box 0, label -1) and, unless it was ignored, is counted in
    ``dropped``.

    Attributes:
        min_visible: an object of which a smaller share of its area remains is dropped, 0..1.
        min_side: an object whose shorter side becomes smaller than this is dropped, in pixels.
        partial: "drop" drops such an object; "ignore" ignores it where anything remains. An ignored object
            stays as long as anything of it remains.
    """

    min_visible: float
    min_side: float
    partial: Partial

    def __call__(self, batch: Batch, whole: Tensor, boxes: Tensor) -> Batch:
        """Replace the objects.

        Args:
            batch: the batch.
            whole: moved boxes, float32 (B,G,4) xyxy in pixels of the tensor; G may be 0.
            boxes: the same, cut to what is visible.

        Returns:
            The batch with its objects replaced.
        """
        sides = (boxes[..., 2:] - boxes[..., :2]).amin(-1)
        remains = batch.valid & (sides > 0)
        enough = (area(boxes) >= self.min_visible * area(whole)) & (sides >= self.min_side)
        if self.partial == "ignore":
            valid, ignore = remains, remains & (batch.ignore | ~enough)
        else:
            valid = remains & (batch.ignore | enough)
            ignore = batch.ignore & valid
        labels = torch.where(valid, batch.labels, -1)
        dropped = batch.dropped + counted(batch.valid & ~batch.ignore & ~valid)
        return replace(
            batch,
            boxes=torch.where(valid[..., None], boxes, 0.0),
            labels=labels,
            valid=valid,
            ignore=ignore,
            dropped=dropped,
            extra_known={name: known & valid for name, known in batch.extra_known.items()},
        )
