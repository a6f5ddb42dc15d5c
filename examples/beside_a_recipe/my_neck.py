"""A neck made of necks: each reads the maps of the one before it."""

from typing import Annotated

from torch import Tensor, nn

import densedet
from densedet.core.arguments import Part
from densedet.core.errors import PartError


@densedet.register("neck", "sequence")
class SequenceNeck(nn.Module):
    """Necks in a row.

    Args:
        stages: the necks, in the order in which they are applied; at least one. densedet wires the second
            with the channels and strides of the first, and so on.

    Attributes:
        channels: channels of each map of the last neck.
        strides: strides of each map of the last neck, in input pixels.

    Raises:
        PartError: where there is no stage.
    """

    def __init__(self, *, stages: Annotated[list[nn.Module], Part("neck")]) -> None:
        super().__init__()
        if not stages:
            raise PartError("stages is empty: name at least one neck, or write neck: identity")
        self.stages = nn.ModuleList(stages)
        self.channels, self.strides = stages[-1].channels, stages[-1].strides

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Map (B,c_l,h_l,w_l), fine to coarse, to the last neck's maps."""
        for stage in self.stages:
            features = stage(features)
        return features
