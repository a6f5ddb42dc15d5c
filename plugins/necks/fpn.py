"""Feature pyramid network, with the levels that RetinaNet and FCOS add to it."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from densedet.core.arguments import ChannelCount, LayerCount, NonNegativeInt
from densedet.core.errors import PartError
from densedet.plugins.necks._pyramid import ExtraLevels, PyramidNorm, TopDown, extended


class FPNNeck(nn.Module):
    """Feature pyramid (Lin et al. 2017, section 3): one level P_l per backbone map C_l, then extra levels.

    Args:
        in_channels: (wired) channels of each map, fine to coarse.
        in_strides: (wired) stride of each map in input pixels.
        channels: channels of every level (the papers': 256).
        norm: normalisation after the pyramid's convolutions, not the extra levels'; "none" gives them biases.
        extra_levels: how many levels to add, each of twice the stride (RetinaNet, FCOS: 2).
        extra: how levels are added. "p5": by convolutions with stride 2 and a ReLU between two of them, from
            the coarsest P level (torchvision's retinanet_resnet50_fpn and FCOS). "c5": the same from the
            backbone's last map (the RetinaNet paper and torchvision's _v2). "maxpool": by every second cell
            of the level before (the FPN paper).
        min_level: how many backbone maps to leave out, counted from the finest.

    Attributes:
        channels: channels of each level.
        strides: stride of each level in input pixels.

    Raises:
        PartError: where min_level leaves no map.
    """

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        in_strides: tuple[int, ...],
        channels: ChannelCount = 64,
        norm: PyramidNorm = "none",
        extra_levels: LayerCount = 0,
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
        self.strides = extended(in_strides[min_level:], extra_levels)
        self.channels = (channels,) * len(self.strides)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Compute the levels.

        Args:
            features: maps (B,c_l,h_l,w_l), fine to coarse.

        Returns:
            (B,channels,h_l,w_l) for each map from min_level on, then the extra levels, whose sides are halved
            and rounded up.
        """
        levels = self.top_down(features[self.min_level :])
        if self.extra_convolutions is not None:
            return levels + self.extra_convolutions(levels[-1] if self.extra == "p5" else features[-1])
        for _ in range(self.extra_levels):
            levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
        return levels
