"""Absolute difference of the deltas, quadratic near zero."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from densedet.core.arguments import NonNegativeFloat
from densedet.core.contracts import Space


class SmoothL1Loss(nn.Module):
    """d^2 / (2 beta) where d = |prediction - target| < beta, d - beta / 2 beyond, **summed** over the four
    numbers (Girshick 2015, Fast R-CNN, equation 3, with beta 1; Detectron's RetinaNet has beta 0.11).

    beta: where the line takes over; 0 is the l1 loss.
    """

    space: Space = "deltas"

    def __init__(self, *, beta: NonNegativeFloat = 1.0) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(P,4), (P,4) in the coder's deltas -> (P,). P may be 0."""
        return functional.smooth_l1_loss(prediction, target, beta=self.beta, reduction="none").sum(-1)
