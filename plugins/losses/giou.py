"""Generalised IoU loss."""

from __future__ import annotations

from torch import Tensor, nn

from densedet.core.arguments import PositiveFloat
from densedet.core.contracts import Space
from densedet.plugins.losses._overlap import overlap


class GIoULoss(nn.Module):
    """1 - IoU + (hull - union) / hull, in 0..2 (Rezatofighi et al. 2019, algorithm 1).

    The hull is the smallest box around both.

    Args:
        eps: pixels^2 added to denominators, so that boxes without extent stay finite.
    """

    space: Space = "boxes"

    def __init__(self, *, eps: PositiveFloat = 1e-7) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `densedet.core.contracts.BoxLoss`."""
        iou, union, hull = overlap(prediction, target, self.eps)
        hull_area = hull.prod(-1)
        return 1 - iou + (hull_area - union) / (hull_area + self.eps)
