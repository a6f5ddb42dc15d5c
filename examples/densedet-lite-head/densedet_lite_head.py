"""A head for small computers: depthwise separable towers, and a branch that says how well an anchor fits its
object."""

import torch
from torch import Tensor, nn
from torch.nn import functional

import densedet
from densedet.core import boxes
from densedet.core.arguments import NonNegativeInt, PositiveInt
from densedet.core.errors import PartError
from densedet.core.layers import ConvNormAct, flatten_cells
from densedet.core.types import Branch, Prediction, Targets


@densedet.register("head", "lite")
class LiteHead(nn.Module):
    """RetinaNet's two towers, of depthwise separable convolutions (Howard et al. 2017), shared by all levels.

    Its branch "quality" predicts how well an anchor fits its object.

    Args:
        in_channels: (wired) of the maps.
        num_anchors: (wired) anchors per cell of each level.
        class_channels: (wired) K.
        box_channels: (wired) R.
        class_bias: (wired) what the class biases start at.
        depth: Separable convolutions of each tower.
        kernel: Side of the depthwise convolutions, odd.
    """

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        num_anchors: tuple[int, ...],
        class_channels: int,
        box_channels: int,
        class_bias: float,
        depth: NonNegativeInt = 2,
        kernel: PositiveInt = 3,
    ) -> None:
        super().__init__()
        if len(set(zip(in_channels, num_anchors))) > 1:
            raise PartError(
                f"all levels share this head, but have {in_channels} channels, {num_anchors} anchors: "
                f"put neck fpn before it"
            )
        if kernel % 2 == 0:
            raise PartError(
                f"kernel is {kernel}, but only an odd one keeps the map's size: write {kernel + 1}"
            )
        width, anchors = in_channels[0], num_anchors[0]
        self.outputs = (class_channels, box_channels, 1)
        self.branches = {"quality": Branch(loss=quality_loss, adjust=with_quality, weight=quality_target)}
        self.class_tower, self.box_tower = (
            nn.Sequential(*(separable(width, kernel) for _ in range(depth))) for _ in range(2)
        )
        self.logits, self.box, self.quality = (
            nn.Conv2d(width, anchors * outputs, 1) for outputs in self.outputs
        )
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.constant_(self.logits.bias, class_bias)

    def forward(self, features: list[Tensor]) -> Prediction:
        prediction = Prediction(logits=[], box=[], extra={"quality": []})
        for level in features:
            for_class, for_box = self.class_tower(level), self.box_tower(level)
            prediction.logits.append(flatten_cells(self.logits(for_class), self.outputs[0]))
            prediction.box.append(flatten_cells(self.box(for_box), self.outputs[1]))
            prediction.extra["quality"].append(flatten_cells(self.quality(for_box), self.outputs[2]))
        return prediction


def separable(width: int, kernel: int) -> nn.Sequential:
    """A depthwise and a pointwise convolution; group norm, since all levels share it and their statistics
    differ."""
    depthwise = ConvNormAct(width, width, kernel=kernel, groups=width, norm="group")
    return nn.Sequential(depthwise, ConvNormAct(width, width, kernel=1, norm="group"))


def quality_target(targets: Targets) -> Tensor:
    """(B,N): the matcher's quality, or else the IoU of anchor and object; 0 off the positives."""
    quality = boxes.iou(targets.anchors, targets.boxes) if targets.quality is None else targets.quality
    return quality * targets.positive


def quality_loss(values: Tensor, targets: Targets) -> Tensor:
    """Raw values (B,N,1) -> (B,N): binary cross entropy on the positives, 0 elsewhere."""
    loss = functional.binary_cross_entropy_with_logits(
        values.squeeze(-1), quality_target(targets), reduction="none"
    )
    return torch.where(targets.positive, loss, torch.zeros_like(loss))


def with_quality(scores: Tensor, values: Tensor) -> Tensor:
    """(B,N,C), (B,N,1) -> (B,N,C): an object that fits its anchor badly scores lower."""
    return (scores * values.sigmoid()).sqrt()
