"""Distances from an anchor's centre to the four sides of a box, in anchor sides or pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from densedet.core.boxes import centers

SMALLEST = 1e-3
"""Pixels. Shorter sides count as this long where they divide or stand under a logarithm."""


def anchor_units(anchors: Tensor) -> Tensor:
    """(...,4) -> (...,4): width, height, width, height, at least SMALLEST."""
    sides = (anchors[..., 2:] - anchors[..., :2]).clamp(min=SMALLEST)
    return torch.cat((sides, sides), dim=-1)


def to_distances(boxes: Tensor, anchors: Tensor) -> Tensor:
    """(...,4) xyxy boxes and anchors -> (...,4) left, top, right, bottom in pixels; 0 where the centre lies
    beyond that side."""
    points = centers(anchors)
    return torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), dim=-1).clamp(min=0)


def from_distances(distances: Tensor, anchors: Tensor) -> Tensor:
    """(...,4) left, top, right, bottom in pixels and anchors -> (...,4) xyxy."""
    points = centers(anchors)
    return torch.cat((points - distances[..., :2], points + distances[..., 2:]), dim=-1)
