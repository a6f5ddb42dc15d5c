"""FCOS's head: RetinaNet's towers with group norm, and a centre-ness branch."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from densedet.core.arguments import ChannelCount, LayerCount
from densedet.core.layers import Norm, Scale
from densedet.core.types import Branch, Prediction
from densedet.plugins.heads import _centerness as centerness
from densedet.plugins.heads._predictors import Predictors, refuse_unequal
from densedet.plugins.heads._towers import Tower


class FCOSHead(nn.Module):
    """RetinaNet's towers with group norm, and a centre-ness predictor on one of them.

    It is the head of Tian et al. 2019, section 3. Its branch is "centerness", (B, h*w*A_l, 1) per level. It
    is made for one point per cell; with several anchors per cell each has a centre-ness of its own. Weights
    start at normal(0, 0.01), class biases at ``class_bias``, other biases at 0.

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
        bias: whether the towers' convolutions have a bias; null: only without norm. FCOS keeps it under group
            norm.
        share: one head for all levels; false: one per level.
        scale: one learnable factor per level on the box outputs (section 3.2), which a shared head needs
            where the coder's numbers grow with the level; torchvision has none.
        centerness_on: the tower that carries the branch: "class" in the paper's first version, "box" in its
            journal version and in torchvision.

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
        norm: Norm = "group",
        bias: bool | None = True,
        share: bool = True,
        scale: bool = True,
        centerness_on: Literal["box", "class"] = "box",
    ) -> None:
        super().__init__()
        if share:
            refuse_unequal("fcos", in_channels, num_anchors)
        self.branches: dict[str, Branch] = {"centerness": centerness.branch()}
        self.centerness_on = centerness_on
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
        self.centerness = Predictors(in_channels=width, num_anchors=num_anchors, outputs=1, share=share)
        self.scales = nn.ModuleList(Scale() for _ in in_channels) if scale else None

    def forward(self, features: list[Tensor]) -> Prediction:
        """See `densedet.core.contracts.Head`."""
        for_classes, for_boxes = self.class_tower(features), self.box_tower(features)
        box = self.box(for_boxes)
        if self.scales is not None:
            box = [scale(values) for scale, values in zip(self.scales, box)]
        middle = self.centerness(for_boxes if self.centerness_on == "box" else for_classes)
        return Prediction(logits=self.logits(for_classes), box=box, extra={"centerness": middle})
