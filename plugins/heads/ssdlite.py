"""SSDlite's head: SSD's with depthwise separable convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from densedet.core.arguments import Factor, PositiveFloat
from densedet.core.layers import ConvNormAct, Norm
from densedet.core.types import Branch, Prediction
from densedet.plugins.heads._predictors import Predictors, initialise


class SSDLiteHead(nn.Module):
    """Per level, for classes and for boxes: 3x3 depthwise convolution, norm, ReLU6, 1x1 convolution.

    It is SSD's head with separable convolutions (MobileNetV2, section 6.2). Levels may differ in channels and
    in anchors per cell. It has no branches. Weights start at normal(0, 0.03).

    Args:
        in_channels: (wired) c_l of each level.
        num_anchors: (wired) A_l, anchors per cell of each level.
        class_channels: (wired) K, class numbers per anchor.
        box_channels: (wired) R, box numbers per anchor.
        class_bias: (wired) what the class biases start at.
        norm: normalisation after the depthwise convolution.
        eps: added to the variance by a batch norm; 0.001 in TensorFlow's and torchvision's SSDlite.
        momentum: of a batch norm; 0.03 in TensorFlow's and torchvision's SSDlite.
    """

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        num_anchors: tuple[int, ...],
        class_channels: int,
        box_channels: int,
        class_bias: float,
        norm: Norm = "batch",
        eps: PositiveFloat = 1e-3,
        momentum: Factor = 0.03,
    ) -> None:
        super().__init__()
        self.branches: dict[str, Branch] = {}

        def depthwise() -> nn.ModuleList:
            blocks = nn.ModuleList(
                ConvNormAct(c, c, groups=c, norm=norm, eps=eps, momentum=momentum, activation="relu6")
                for c in in_channels
            )
            initialise(blocks, init="normal", std=0.03)
            return blocks

        self.class_blocks, self.box_blocks = depthwise(), depthwise()
        self.logits = Predictors(
            in_channels=in_channels,
            num_anchors=num_anchors,
            outputs=class_channels,
            kernel=1,
            std=0.03,
            bias=class_bias,
        )
        self.box = Predictors(
            in_channels=in_channels, num_anchors=num_anchors, outputs=box_channels, kernel=1, std=0.03
        )

    def forward(self, features: list[Tensor]) -> Prediction:
        """See `densedet.core.contracts.Head`."""
        return Prediction(
            logits=self.logits(_each(self.class_blocks, features)),
            box=self.box(_each(self.box_blocks, features)),
        )


def _each(blocks: nn.ModuleList, features: Sequence[Tensor]) -> list[Tensor]:
    return [block(x) for block, x in zip(blocks, features)]
