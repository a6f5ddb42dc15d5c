"""Complete IoU loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from densedet.core.arguments import PositiveFloat
from densedet.core.contracts import Space
from densedet.plugins.losses._overlap import center_distance, overlap


class CIoULoss(nn.Module):
    """The DIoU loss + alpha * v, where v compares the aspect ratios (Zheng et al. 2020, equations 8 to 11).

    alpha, a constant to the gradient, weighs v by the IoU.

    Args:
        eps: pixels^2 added to denominators, and the least width and height of which an aspect ratio is taken,
            so that boxes without extent stay finite.
    """

    space: Space = "boxes"

    def __init__(self, *, eps: PositiveFloat = 1e-7) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `densedet.core.contracts.BoxLoss`."""
        both = overlap(prediction, target, self.eps)
        v = 4 / math.pi**2 * (self._angle(target) - self._angle(prediction)).square()
        with torch.no_grad():
            alpha = v / (1 - both.iou + v + self.eps)
        return 1 - both.iou + center_distance(prediction, target, both.hull, self.eps) + alpha * v

    def _angle(self, boxes: Tensor) -> Tensor:
        """The arctangent of width / height of boxes (P,4), (P,)."""
        width, height = (boxes[..., 2:] - boxes[..., :2]).clamp(min=self.eps).unbind(-1)
        return torch.atan(width / height)
