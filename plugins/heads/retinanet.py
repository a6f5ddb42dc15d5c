"""RetinaNet's head: a class tower and a box tower, shared by all levels."""

from __future__ import annotations

from torch import Tensor, nn

from densedet.core.arguments import ChannelCount, LayerCount
from densedet.core.layers import Norm
from densedet.core.types import Branch, Prediction
from densedet.plugins.heads._canvas import predict_levels
from densedet.plugins.heads._predictors import Predictors, refuse_unequal
from densedet.plugins.heads._towers import Tower


class RetinaNetHead(nn.Module):
    """A class tower and a box tower of 3x3 convolutions with ReLU, each with a 3x3 predictor.

    It is the head of Lin et al. 2017, section 4. It has no branches. Weights start at normal(0, 0.01), class
    biases at ``class_bias``, other biases at 0.

    Args:
        in_channels: (wired) c_l of each level.
        num_anchors: (wired) A_l, anchors per cell of each level.
        class_channels: (wired) K, class numbers per anchor.
        box_channels: (wired) R, box numbers per anchor.
        class_bias: (wired) what the class biases start at.
        depth: convolutions of each tower.
        channels: width of the towers; null: that of the features.
        norm: normalisation after each of the towers' convolutions. "batch" and "frozen" are kept separately
            for each level even where the convolutions are shared, since the levels' statistics differ.
        bias: whether the towers' convolutions have a bias; null: only without norm.
        share: one head for all levels; false: one per level.

    Raises:
        PartError: a shared head meets levels of unequal channels or unequal anchors per cell.
    """

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        num_anchors: tuple[int, ...],
        class_channels: int,
        box_channels: int,
        class_bias: float,
        depth: LayerCount = 4,
        channels: ChannelCount | None = None,
        norm: Norm = "none",
        bias: bool | None = None,
        share: bool = True,
    ) -> None:
        super().__init__()
        if share:
            refuse_unequal("retinanet", in_channels, num_anchors)
        self.branches: dict[str, Branch] = {}
        self.class_tower = Tower(
            in_channels=in_channels, channels=channels, depth=depth, share=share, norm=norm, bias=bias
        )
        self.box_tower = Tower(
            in_channels=in_channels, channels=channels, depth=depth, share=share, norm=norm, bias=bias
        )
        width = self.class_tower.channels
        self.logits = Predictors(
            in_channels=width, num_anchors=num_anchors, outputs=class_channels, share=share, bias=class_bias
        )
        self.box = Predictors(in_channels=width, num_anchors=num_anchors, outputs=box_channels, share=share)

    def forward(self, features: list[Tensor]) -> Prediction:
        """See `densedet.core.contracts.Head`."""
        logits, box = predict_levels(features, (self.class_tower, self.logits), (self.box_tower, self.box))
        return Prediction(logits=logits, box=box)
