"""SSD's head: one predictor per level, nothing shared."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from densedet.core.types import Branch, Prediction
from densedet.plugins.heads._predictors import Init, Predictors


class SSDHead(nn.Module):
    """One convolution per level for classes and one for boxes, nothing shared (Liu et al. 2016, section 2.1).

    Levels may differ in channels and in anchors per cell. It has no branches.

    Args:
        in_channels: (wired) c_l of each level.
        num_anchors: (wired) A_l, anchors per cell of each level.
        class_channels: (wired) K, class numbers per anchor.
        box_channels: (wired) R, box numbers per anchor.
        class_bias: (wired) what the class biases start at.
        kernel: side of the convolutions' kernels.
        init: start of the weights: "xavier" as SSD, "normal" (standard deviation 0.01) as RetinaNet, which
            starts closer to the prior of focal loss.
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
        """See `densedet.core.contracts.Head`."""
        return Prediction(logits=self.logits(features), box=self.box(features))
