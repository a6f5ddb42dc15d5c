"""The arithmetic that the IoU losses share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from densedet.core.boxes import area, centers, intersection


class Overlap(NamedTuple):
    """How P pairs of boxes overlap.

    Attributes:
        iou: (P,) in 0..1.
        union: (P,) in pixels^2.
        hull: (P,2) width and height of the smallest box around both, in pixels.
    """

    iou: Tensor
    union: Tensor
    hull: Tensor


def overlap(prediction: Tensor, target: Tensor, eps: float) -> Overlap:
    """Overlap of two (P,4) xyxy. Boxes without extent have IoU 0; ``eps`` (pixels^2) keeps it finite."""
    shared = intersection(prediction, target)
    union = area(prediction) + area(target) - shared
    hull = torch.maximum(prediction[..., 2:], target[..., 2:]) - torch.minimum(
        prediction[..., :2], target[..., :2]
    )
    return Overlap(shared / (union + eps), union, hull)


def center_distance(prediction: Tensor, target: Tensor, hull: Tensor, eps: float) -> Tensor:
    """Squared distance of the centres / squared diagonal of the hull (Zheng et al. 2020, equation 6)."""
    return (centers(prediction) - centers(target)).square().sum(-1) / (hull.square().sum(-1) + eps)
