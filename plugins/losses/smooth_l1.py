"""Absolute difference of the deltas, quadratic near zero."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from densedet.core.arguments import NonNegativeFloat
from densedet.core.contracts import Space


class SmoothL1Loss(nn.Module):
    """abs(prediction - target) with a round tip, summed over the four numbers (Girshick 2015, equation 3).

    With d = abs(prediction - target) it is d^2 / (2 beta) below beta and d - beta / 2 beyond.

    Args:
        beta: where the straight line starts; 0 is the l1 loss. Fast R-CNN and SSD have 1, Detectron's
            RetinaNet 0.11.
    """

    space: Space = "deltas"

    def __init__(self, *, beta: NonNegativeFloat = 1.0) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `densedet.core.contracts.BoxLoss`."""
        return functional.smooth_l1_loss(prediction, target, beta=self.beta, reduction="none").sum(-1)
