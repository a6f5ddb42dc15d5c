"""Distances from an anchor's centre to the four sides of a box, in anchor sides or pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from densedet.core.boxes import centers

SMALLEST = 1e-3
"""Pixels. Shorter sides count as this long where they are a divisor or under a logarithm."""


def anchor_units(anchors: Tensor) -> Tensor:
    """Width, height, width, height of anchors (...,4), at least `SMALLEST`."""
    sides = (anchors[..., 2:] - anchors[..., :2]).clamp(min=SMALLEST)
    return torch.cat((sides, sides), dim=-1)


def to_distances(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Pixels from the anchors' centres left, top, right, down to the boxes' sides; 0 beyond a side."""
    points = centers(anchors)
    return torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), dim=-1).clamp(min=0)


def from_distances(distances: Tensor, anchors: Tensor) -> Tensor:
    """The boxes (...,4) that lie left, top, right, bottom pixels (...,4) around the anchors' centres."""
    points = centers(anchors)
    return torch.cat((points - distances[..., :2], points + distances[..., 2:]), dim=-1)
