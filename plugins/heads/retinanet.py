"""RetinaNet's head: a class tower and a box tower, shared by all levels."""

from __future__ import annotations

from torch import Tensor, nn

from densedet.core.arguments import NonNegativeInt, PositiveInt
from densedet.core.layers import Norm
from densedet.core.types import Branch, Prediction
from densedet.plugins.heads._canvas import Canvas
from densedet.plugins.heads._predictors import Predictors, refuse_unequal
from densedet.plugins.heads._towers import Tower


class RetinaNetHead(nn.Module):
    """Two towers of 3x3 convolutions with ReLU, each with a 3x3 predictor (Lin et al. 2017, section 4). No
    branches.

    Weights start at normal(0, 0.01), class biases at ``class_bias``, other biases at 0.

    depth: convolutions per tower. channels: width of the towers, null: as the features. norm: after each of
    them; "batch" and "frozen" are kept separately for each level even where the convolutions are shared,
    since the levels' statistics differ.
    bias: of the towers' convolutions, null: only without norm. share: one head for all levels; false: one per
    level.

    Raises PartError where a shared head meets levels of unequal channels or unequal anchors per cell.
    """

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        num_anchors: tuple[int, ...],
        class_channels: int,
        box_channels: int,
        class_bias: float,
        depth: NonNegativeInt = 4,
        channels: PositiveInt | None = None,
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
        """list of (B,c_l,h_l,w_l) -> Prediction; see `densedet.core.contracts.Head`."""
        canvas = Canvas.for_training(features) if self.training and self.class_tower.fits_canvas else None
        maps = features if canvas is None else canvas.join(features)
        return Prediction(
            logits=self.logits(self.class_tower(maps, canvas), canvas),
            box=self.box(self.box_tower(maps, canvas), canvas),
        )
