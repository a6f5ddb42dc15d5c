"""Feature pyramid network, with the levels that RetinaNet and FCOS add to it."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from densedet.core.arguments import NonNegativeInt, PositiveInt
from densedet.core.errors import PartError
from densedet.plugins.necks._pyramid import ExtraLevels, PyramidNorm, TopDown


class FPNNeck(nn.Module):
    """Feature pyramid (Lin et al. 2017, section 3): one P level per backbone map, all of ``channels``
    channels, then ``extra_levels`` more.

    in_channels, in_strides: wired. channels: of every level (the papers': 256). norm: after the pyramid's
    convolutions, not the extra levels'; "none" gives them biases. min_level: backbone maps to leave out,
    counted from the finest.
    extra_levels: how many to add, each of twice the stride (RetinaNet, FCOS: 2). extra: how: "p5" by
    convolutions with stride 2, a ReLU between two of them, from the coarsest P level (torchvision's
    retinanet_resnet50_fpn and FCOS); "c5" the same from the backbone's last map (the RetinaNet paper and
    torchvision's _v2); "maxpool" by taking every second cell of the level before (the FPN paper).
    """

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        in_strides: tuple[int, ...],
        channels: PositiveInt = 64,
        norm: PyramidNorm = "none",
        extra_levels: NonNegativeInt = 0,
        extra: Literal["p5", "c5", "maxpool"] = "p5",
        min_level: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        if min_level >= len(in_channels):
            raise PartError(
                f"min_level is {min_level}, but the backbone gives {len(in_channels)} maps: at most "
                f"{len(in_channels) - 1} can be left out"
            )
        self.min_level, self.extra_levels, self.extra = min_level, extra_levels, extra
        self.top_down = TopDown(tuple(in_channels[min_level:]), channels, norm=norm)
        self.extra_convolutions: ExtraLevels | None = None
        if extra_levels and extra != "maxpool":
            self.extra_convolutions = ExtraLevels(
                channels if extra == "p5" else in_channels[-1], channels, extra_levels
            )
        strides = list(in_strides[min_level:])
        for _ in range(extra_levels):
            strides.append(strides[-1] * 2)
        self.strides = tuple(strides)
        self.channels = (channels,) * len(strides)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Maps (B,c_l,h_l,w_l), fine to coarse -> (B,channels,h_l,w_l) each, then the extra levels, sides
        halved and rounded up."""
        levels = self.top_down(features[self.min_level :])
        if self.extra_convolutions is not None:
            return levels + self.extra_convolutions(levels[-1] if self.extra == "p5" else features[-1])
        for _ in range(self.extra_levels):
            levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
        return levels
