"""FCOS's centre-ness: how far a point is from the middle of its object, as a `Branch`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from densedet.core.boxes import centers
from densedet.core.types import Branch, Targets


def centerness(points: Tensor, boxes: Tensor) -> Tensor:
    """points (N,2) x, y and boxes (...,N,4), both in pixels -> (...,N) in 0..1 (Tian et al. 2019, equation
    3).

    sqrt(min(l,r)/max(l,r) * min(t,b)/max(t,b)) with the distances l, t, r, b of the point to the sides: 1 in
    the middle, 0 on the edge. Outside the box, where the formula has no value, 0; so are boxes without
    extent.
    """
    before, after = points - boxes[..., :2], boxes[..., 2:] - points
    near, far = torch.minimum(before, after).clamp(min=0), torch.maximum(before, after)
    return (near / far.clamp(min=torch.finfo(far.dtype).tiny)).prod(-1).sqrt()


@torch.no_grad()
def target(targets: Targets) -> Tensor:
    """(B,N): centre-ness of each positive anchor's centre in its object, 0 off the positives."""
    values = centerness(centers(targets.anchors), targets.boxes)
    return torch.where(targets.positive, values, torch.zeros_like(values))


def loss(values: Tensor, targets: Targets) -> Tensor:
    """Raw values (B,N,1) -> (B,N): binary cross entropy with `target` on the positives, 0 elsewhere."""
    logits = values.squeeze(-1)
    each = functional.binary_cross_entropy_with_logits(logits, target(targets).to(logits), reduction="none")
    return torch.where(targets.positive, each, torch.zeros_like(each))


def adjust(scores: Tensor, values: Tensor) -> Tensor:
    """(B,N,C), (B,N,1) -> (B,N,C): sqrt(score * centre-ness), as FCOS's journal version and torchvision."""
    return (scores * values.sigmoid()).sqrt()


def branch() -> Branch:
    """The centre-ness branch. Its weight for the box loss is `target` itself (FCOS, section 3.2)."""
    return Branch(loss=loss, adjust=adjust, weight=target)
