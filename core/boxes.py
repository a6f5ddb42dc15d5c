"""Functions on boxes: float xyxy, absolute pixels, continuous (no +1)."""

from __future__ import annotations

import torch
from torch import Tensor


def area(boxes: Tensor) -> Tensor:
    """(...,4) -> (...): width * height, 0 for an inverted box."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def intersection(first: Tensor, second: Tensor) -> Tensor:
    """Elementwise overlap area of two broadcastable (...,4) -> (...)."""
    corner = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    return corner.clamp(min=0).prod(-1)


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Elementwise intersection over union of two broadcastable (...,4) -> (...) in 0..1; 0 where both are
    empty."""
    shared = intersection(first, second)
    union = area(first) + area(second) - shared
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """(...,G,4), (...,N,4) -> (...,G,N). Leading axes broadcast."""
    return iou(first.unsqueeze(-2), second.unsqueeze(-3))


def pairwise_intersection(first: Tensor, second: Tensor) -> Tensor:
    """(...,G,4), (...,N,4) -> (...,G,N): overlap areas."""
    return intersection(first.unsqueeze(-2), second.unsqueeze(-3))


def centers(boxes: Tensor) -> Tensor:
    """(...,4) -> (...,2): x, y."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """(B,N,4) or (N,4) cut to valid (height, width) sizes (B,2) or (2,)."""
    height, width = sizes[..., 0, None], sizes[..., 1, None]
    limit = torch.stack([width, height, width, height], dim=-1).to(boxes)
    return torch.minimum(boxes.clamp(min=0), limit)


def to_xywh(boxes: Tensor) -> Tensor:
    """xyxy -> COCO's x, y, width, height."""
    return torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], dim=-1)
