"""From a matcher's assignment to training targets: one label and one box per anchor."""

from __future__ import annotations

from dataclasses import replace

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
    """Turn a matcher's assignment into labels, boxes and masks for every anchor, and the objects' extras for
    the positive ones. ``batch`` must have at least one slot (G >= 1)."""
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
    targets = Targets(
        anchors,
        levels,
        index,
        positive,
        labels,
        boxes,
        assignment.quality,
        extra={name: values[image, slot] for name, values in batch.extra.items()},
        extra_known={name: known[image, slot] for name, known in batch.extra_known.items()},
    )
    targets.places = image, anchor  # known already
    return targets


def with_one_slot(batch: Batch) -> Batch:
    """Return a batch of G = 0 with one empty slot an image, so that gathering by slot works."""
    count, device = len(batch.boxes), batch.boxes.device
    empty = torch.zeros(count, 1, dtype=torch.bool, device=device)
    return replace(
        batch,
        boxes=torch.zeros(count, 1, 4, device=device),
        labels=torch.full((count, 1), -1, dtype=torch.int64, device=device),
        valid=empty,
        ignore=empty.clone(),
        extra={n: v.new_zeros(count, 1, *v.shape[2:]) for n, v in batch.extra.items()},
        extra_known={name: empty.clone() for name in batch.extra_known},
    )
