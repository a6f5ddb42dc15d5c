"""From a matcher's assignment to what each anchor should answer."""

from __future__ import annotations

import torch
from torch import Tensor

from densedet.core import boxes as box_ops
from densedet.core.types import Assignment, Batch, Level, Targets

IGNORED_COVER = 0.5
"""A background anchor with at least this share of its area on an ignored object is ignored (COCO's crowd rule
at training time)."""


def ignore_covered(index: Tensor, batch: Batch, anchors: Tensor) -> Tensor:
    """Set background anchors (-1) that lie on ignored objects to -2. index: int64 (B,N) -> the same shape."""
    ignored = batch.valid & batch.ignore
    if not bool(ignored.any()):
        return index
    index = index.clone()
    # Only images that have ignored objects pay; crowds are rare, so this loop is short.
    for image in ignored.any(dim=1).nonzero().flatten().tolist():
        regions = batch.boxes[image][ignored[image]]
        cover = box_ops.pairwise_intersection(regions, anchors).amax(dim=0) / box_ops.area(anchors).clamp(
            min=1e-12
        )
        index[image][(index[image] == -1) & (cover >= IGNORED_COVER)] = -2
    return index


def make_targets(
    assignment: Assignment, batch: Batch, anchors: Tensor, levels: tuple[Level, ...], num_classes: int
) -> Targets:
    """Labels, boxes and masks for every anchor. ``batch`` must have at least one slot (G >= 1)."""
    index = ignore_covered(assignment.matched_idxs, batch, anchors)
    positive = index >= 0
    # Few anchors are positive: what they get is written at their places, instead of gathering something for
    # every anchor.
    image, anchor = positive.nonzero(as_tuple=True)
    slot = index[image, anchor]
    labels = torch.where(index == -2, -1, num_classes)
    labels[image, anchor] = batch.labels[image, slot]
    boxes = anchors.expand(len(index), -1, -1).clone()
    boxes[image, anchor] = batch.boxes[image, slot]
    targets = Targets(anchors, levels, index, positive, labels, boxes, assignment.quality)
    targets.places = image, anchor  # known already
    return targets
