"""What the pyramid necks share: the path from coarse to fine, and levels past the coarsest."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from densedet.core.layers import ConvNormAct

PyramidNorm = Literal["none", "batch", "group"]


class TopDown(nn.Module):
    """Feature pyramid (Lin et al. 2017, section 3): 1x1 convolutions to ``channels``, each coarser sum
    enlarged to the finer map's exact size by nearest neighbours and added, a 3x3 convolution on every sum; no
    activation anywhere, as in the paper.

    Maps (B,c_l,h_l,w_l), fine to coarse -> (B,channels,h_l,w_l) each.
    """

    def __init__(self, in_channels: tuple[int, ...], channels: int, *, norm: PyramidNorm) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            ConvNormAct(c, channels, kernel=1, norm=norm, activation="none") for c in in_channels
        )
        self.output = nn.ModuleList(
            ConvNormAct(channels, channels, norm=norm, activation="none") for _ in in_channels
        )
        init_convolutions(self)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        sums = [lateral(maps) for lateral, maps in zip(self.lateral, features)]
        for level in range(len(sums) - 2, -1, -1):
            sums[level] = sums[level] + resized(sums[level + 1], sums[level])
        return [output(maps) for output, maps in zip(self.output, sums)]


class ExtraLevels(nn.Module):
    """Levels past the coarsest, each half the side of the one before: 3x3 convolutions with stride 2 and a
    ReLU between two of them, as RetinaNet's P6 and P7 (Lin et al. 2017, Focal Loss, section 4).

    One map (B,in_channels,h,w) -> ``levels`` maps of ``channels`` channels, sides ceil(h / 2), ceil(h / 4),
    ...
    """

    def __init__(self, in_channels: int, channels: int, levels: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(in_channels if level == 0 else channels, channels, 3, stride=2, padding=1)
            for level in range(levels)
        )
        init_convolutions(self)

    def forward(self, maps: Tensor) -> list[Tensor]:
        levels: list[Tensor] = []
        for convolution in self.convolutions:
            maps = convolution(F.relu(levels[-1]) if levels else maps)
            levels.append(maps)
        return levels


def resized(maps: Tensor, like: Tensor) -> Tensor:
    """``maps`` at the height and width of ``like``, by nearest neighbours."""
    return (
        maps
        if maps.shape[-2:] == like.shape[-2:]
        else F.interpolate(maps, size=like.shape[-2:], mode="nearest")
    )


def init_convolutions(module: nn.Module) -> None:
    """Kaiming's uniform start without a rectifier's gain (none follows here), biases 0: as in the FPNs of
    Detectron and torchvision."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
