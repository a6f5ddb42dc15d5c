"""A head of its own: class and box come from one tower, half the convolutions of RetinaNet's two."""

from torch import Tensor, nn

import densedet
from densedet.core.arguments import PositiveInt
from densedet.core.errors import PartError
from densedet.core.layers import ConvNormAct, flatten_cells
from densedet.core.types import Branch, Prediction


@densedet.register("head", "one_tower")
class OneTowerHead(nn.Module):
    """One tower of 3x3 convolutions for class and box, shared by all levels.

    Args:
        depth: number of 3x3 convolutions in the tower.
    """

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        num_anchors: tuple[int, ...],
        class_channels: int,
        box_channels: int,
        class_bias: float,
        depth: PositiveInt = 2,
    ) -> None:
        super().__init__()
        if len(set(zip(in_channels, num_anchors))) > 1:
            raise PartError("this head needs levels of equal channels and anchors: put neck fpn before it")
        width, anchors = in_channels[0], num_anchors[0]
        self.class_channels, self.box_channels = class_channels, box_channels
        self.branches: dict[str, Branch] = {}
        self.tower = nn.Sequential(*(ConvNormAct(width, width, norm="group") for _ in range(depth)))
        self.logits = nn.Conv2d(width, anchors * class_channels, 3, padding=1)
        self.box = nn.Conv2d(width, anchors * box_channels, 3, padding=1)
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.constant_(self.logits.bias, class_bias)

    def forward(self, features: list[Tensor]) -> Prediction:
        maps = [self.tower(level) for level in features]
        return Prediction(
            logits=[flatten_cells(self.logits(level), self.class_channels) for level in maps],
            box=[flatten_cells(self.box(level), self.box_channels) for level in maps],
        )
