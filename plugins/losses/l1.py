"""Absolute difference of the deltas."""

from __future__ import annotations

from torch import Tensor, nn

from densedet.core.contracts import Space


class L1Loss(nn.Module):
    """|prediction - target|, **summed** over the four numbers, as torchvision's RetinaNet (mmdetection's and
    Detectron2's agree)."""

    space: Space = "deltas"

    def __init__(self) -> None:
        super().__init__()

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(P,4), (P,4) in the coder's deltas -> (P,). P may be 0."""
        return (prediction - target).abs().sum(-1)
