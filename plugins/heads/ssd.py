"""SSD's head: one predictor per level, nothing shared."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from densedet.core.types import Branch, Prediction
from densedet.plugins.heads._predictors import Init, Predictors


class SSDHead(nn.Module):
    """One 3x3 convolution per level for classes and one for boxes (Liu et al. 2016, section 2.1).

    Levels may differ in channels and in anchors per cell. No branches.

    kernel: of the convolutions. init: of their weights; "xavier" as SSD, "normal" (std 0.01) as RetinaNet,
    which starts closer to the prior of focal loss.
    """

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        num_anchors: tuple[int, ...],
        class_channels: int,
        box_channels: int,
        class_bias: float,
        kernel: Literal[1, 3, 5] = 3,
        init: Init = "xavier",
    ) -> None:
        super().__init__()
        self.branches: dict[str, Branch] = {}
        self.logits = Predictors(
            in_channels=in_channels,
            num_anchors=num_anchors,
            outputs=class_channels,
            kernel=kernel,
            init=init,
            bias=class_bias,
        )
        self.box = Predictors(
            in_channels=in_channels, num_anchors=num_anchors, outputs=box_channels, kernel=kernel, init=init
        )

    def forward(self, features: list[Tensor]) -> Prediction:
        """list of (B,c_l,h_l,w_l) -> Prediction; see `densedet.core.contracts.Head`."""
        return Prediction(logits=self.logits(features), box=self.box(features))
