"""Absolute difference of the deltas."""

from __future__ import annotations

from torch import Tensor, nn

from densedet.core.contracts import Space


class L1Loss(nn.Module):
    """abs(prediction - target), summed over the four numbers, as torchvision's and Detectron2's RetinaNet."""

    space: Space = "deltas"

    def __init__(self) -> None:
        super().__init__()

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `densedet.core.contracts.BoxLoss`."""
        return (prediction - target).abs().sum(-1)
