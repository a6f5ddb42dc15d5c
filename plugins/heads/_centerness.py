"""FCOS's centre-ness, the nearness of a point to the middle of its object, as a `Branch`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from densedet.core.boxes import centers
from densedet.core.types import Branch, Targets


def centerness(points: Tensor, boxes: Tensor) -> Tensor:
    """How central points lie in boxes (Tian et al. 2019, equation 3).

    It is sqrt(min(l,r)/max(l,r) * min(t,b)/max(t,b)), where l, t, r, b are the distances of the point from
    the box's sides. In the middle it is 1, on the edge 0. Outside the box and in boxes without extent, where
    the formula has no value, it is 0. The point (30, 10) in the box (0, 0, 40, 40) has l 30, r 10, t 10, b
    30, and sqrt(1/3 * 1/3) = 1/3.

    Args:
        points: (N,2) x, y in pixels.
        boxes: (...,N,4) xyxy in pixels.

    Returns:
        (...,N) in 0..1.
    """
    before, after = points - boxes[..., :2], boxes[..., 2:] - points
    near, far = torch.minimum(before, after).clamp(min=0), torch.maximum(before, after)
    return (near / far.clamp(min=torch.finfo(far.dtype).tiny)).prod(-1).sqrt()


@torch.no_grad()
def target(targets: Targets) -> Tensor:
    """The centre-ness of each positive anchor's centre in its object, (B,N); 0 off the positives."""
    values = centerness(centers(targets.anchors), targets.boxes)
    return torch.where(targets.positive, values, torch.zeros_like(values))


def loss(values: Tensor, targets: Targets) -> Tensor:
    """Binary cross entropy of raw values (B,N,1) with `target`, (B,N); 0 off the positives."""
    logits = values.squeeze(-1)
    each = functional.binary_cross_entropy_with_logits(logits, target(targets).to(logits), reduction="none")
    return torch.where(targets.positive, each, torch.zeros_like(each))


def adjust(scores: Tensor, values: Tensor) -> Tensor:
    """sqrt(score * centre-ness) of scores (B,N,C) and raw values (B,N,1), as in torchvision."""
    return (scores * values.sigmoid()).sqrt()


def branch() -> Branch:
    """Make the centre-ness branch; its weight in the box loss is `target` (FCOS, section 3.2)."""
    return Branch(loss=loss, adjust=adjust, weight=target)
