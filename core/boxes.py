"""Functions on boxes: float xyxy, absolute pixels, continuous (no +1)."""

from __future__ import annotations

import torch
from torch import Tensor


def area(boxes: Tensor) -> Tensor:
    """Compute width * height of boxes (...,4): (...), 0 for an inverted box."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def intersection(first: Tensor, second: Tensor) -> Tensor:
    """Compute the overlap area of two broadcastable (...,4), element by element: (...)."""
    corner = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    return corner.clamp(min=0).prod(-1)


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Compute intersection over union of two broadcastable (...,4), element by element.

    Args:
        first: boxes (...,4).
        second: boxes (...,4).

    Returns:
        (...) in 0..1; 0 where both boxes are empty.
    """
    shared = intersection(first, second)
    union = area(first) + area(second) - shared
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """Compute intersection over union of every pair: (...,G,4) and (...,N,4) to (...,G,N).

    Leading axes broadcast; G and N may be 0.
    """
    return iou(first.unsqueeze(-2), second.unsqueeze(-3))


def pairwise_intersection(first: Tensor, second: Tensor) -> Tensor:
    """Compute the overlap area of every pair: (...,G,4) and (...,N,4) to (...,G,N)."""
    return intersection(first.unsqueeze(-2), second.unsqueeze(-3))


def centers(boxes: Tensor) -> Tensor:
    """Compute the centres of boxes (...,4): (...,2), x and y."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def clip(boxes: Tensor, valid_hw: Tensor) -> Tensor:
    """Cut boxes to the valid size of their image.

    Args:
        boxes: (B,N,4) or (N,4).
        valid_hw: valid (height, width), (B,2) or (2,).

    Returns:
        Boxes of the same shape.
    """
    height, width = valid_hw[..., 0, None], valid_hw[..., 1, None]
    limit = torch.stack([width, height, width, height], dim=-1).to(boxes)
    return torch.minimum(boxes.clamp(min=0), limit)


def to_xywh(boxes: Tensor) -> Tensor:
    """Convert xyxy (...,4) to COCO's x, y, width, height."""
    return torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], dim=-1)
