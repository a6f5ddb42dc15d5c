"""Distance IoU loss."""

from __future__ import annotations

from torch import Tensor, nn

from densedet.core.arguments import PositiveFloat
from densedet.core.contracts import Space
from densedet.plugins.losses._overlap import center_distance, overlap


class DIoULoss(nn.Module):
    """1 - IoU + (distance of the centres / diagonal of the hull)^2, in 0..2 (Zheng et al. 2020, equation 7).

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
        both = overlap(prediction, target, self.eps)
        return 1 - both.iou + center_distance(prediction, target, both.hull, self.eps)
