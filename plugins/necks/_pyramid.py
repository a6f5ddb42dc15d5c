"""Modules of the pyramid necks: the path from coarse to fine, and levels past the coarsest."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from densedet.core.layers import ConvNormAct, init_convolutions

PyramidNorm = Literal["none", "batch", "group"]

kaiming_uniform = partial(nn.init.kaiming_uniform_, a=1)
"""Without a rectifier's gain, since none follows: as in the FPNs of Detectron and torchvision."""


class TopDown(nn.Module):
    """Feature pyramid (Lin et al. 2017, section 3), without any activation as in the paper.

    A 1x1 convolution brings every map to ``channels``. Each coarser sum is enlarged to the finer map's exact
    size by nearest neighbours and added to it. A 3x3 convolution follows on every sum.

    Args:
        in_channels: channels of each map, fine to coarse.
        channels: channels of every level.
        norm: normalisation after every convolution.
    """

    def __init__(self, in_channels: tuple[int, ...], channels: int, *, norm: PyramidNorm) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            ConvNormAct(c, channels, kernel=1, norm=norm, activation="none") for c in in_channels
        )
        self.output = nn.ModuleList(
            ConvNormAct(channels, channels, norm=norm, activation="none") for _ in in_channels
        )
        init_convolutions(self, kaiming_uniform)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Map (B,c_l,h_l,w_l), fine to coarse, to (B,channels,h_l,w_l) each."""
        sums = [lateral(maps) for lateral, maps in zip(self.lateral, features)]
        for level in range(len(sums) - 2, -1, -1):
            sums[level] = sums[level] + resized(sums[level + 1], sums[level])
        return [output(maps) for output, maps in zip(self.output, sums)]


class ExtraLevels(nn.Module):
    """Levels past the coarsest: 3x3 convolutions with stride 2 and a ReLU between two of them.

    RetinaNet's P6 and P7 (Lin et al. 2017, Focal Loss, section 4).

    Args:
        in_channels: channels of the map that the first convolution reads.
        channels: channels of every added level.
        levels: how many levels to add.
    """

    def __init__(self, in_channels: int, channels: int, levels: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(in_channels if level == 0 else channels, channels, 3, stride=2, padding=1)
            for level in range(levels)
        )
        init_convolutions(self, kaiming_uniform)

    def forward(self, maps: Tensor) -> list[Tensor]:
        """Map (B,in_channels,h,w) to ``levels`` maps (B,channels,h_l,w_l), sides ceil(h/2), ceil(h/4) ..."""
        levels: list[Tensor] = []
        for convolution in self.convolutions:
            maps = convolution(F.relu(levels[-1]) if levels else maps)
            levels.append(maps)
        return levels


def resized(maps: Tensor, like: Tensor) -> Tensor:
    """Bring maps (B,c,h,w) to the height and width of ``like`` by nearest neighbours."""
    size = like.shape[-2:]
    return maps if maps.shape[-2:] == size else F.interpolate(maps, size=size, mode="nearest")


def extended(strides: tuple[int, ...], extra_levels: int) -> tuple[int, ...]:
    """Append the strides of ``extra_levels`` more levels, each twice the one before."""
    return *strides, *(strides[-1] * 2**k for k in range(1, extra_levels + 1))
