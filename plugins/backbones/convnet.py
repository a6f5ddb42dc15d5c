"""A plain residual network of dense 3x3 convolutions: the laptop's backbone."""

from __future__ import annotations

import itertools
import operator
from typing import Literal

from torch import Tensor, nn

from densedet.core.arguments import NonNegativeInt, PositiveFloat, PositiveInt
from densedet.core.errors import PartError
from densedet.core.layers import ConvNormAct, Norm
from densedet.plugins.backbones._images import image_statistics
from densedet.plugins.backbones._taps import check_taps

Activation = Literal["relu", "relu6", "silu"]


class ResidualBlock(nn.Module):
    """x + two 3x3 convolutions, activated (He et al. 2016, figure 2). (B,c,h,w) -> (B,c,h,w)."""

    def __init__(
        self, channels: int, *, norm: Norm, eps: float, momentum: float, activation: Activation
    ) -> None:
        super().__init__()
        self.first = ConvNormAct(
            channels, channels, norm=norm, eps=eps, momentum=momentum, activation=activation
        )
        self.second = ConvNormAct(
            channels, channels, norm=norm, eps=eps, momentum=momentum, activation="none"
        )
        self.activation = {"relu": nn.ReLU, "relu6": nn.ReLU6, "silu": nn.SiLU}[activation](inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        return self.activation(maps + self.second(self.first(maps)))


class ConvNetBackbone(nn.Module):
    """Stem, then stages of one 3x3 convolution (which may halve the map) and residual blocks. Nothing
    depthwise: dense convolutions use a CPU far better than their operation count says, in bf16 with
    channels-last above all.

    The defaults suit 128x64 grey images: taps of 24, 48 and 96 channels at strides 4, 8 and 16, 0.27 M
    parameters, 21 M multiply-adds forward. For strides 8, 16 and 32: ``widths: [24, 48, 96, 128]``, of which
    the last three stages are tapped.

    in_channels: wired. widths: channels per stage. depths: residual blocks per stage (0: its first
    convolution alone); null: one each.
    strides: of each stage, 1 or 2; null: all 2. stem: channels of the first convolution. stem_stride: its
    stride.
    out: numbers of the tapped stages, 1 is the first; null: the last three. Stages past the last tap are not
    built.
    norm, eps, momentum, activation: after each convolution; norm "none" gives the convolutions biases.
    mean, std: of the images scaled to 0..1, one value or one per channel; null: ImageNet's.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        widths: tuple[PositiveInt, ...] = (24, 48, 96),
        depths: tuple[NonNegativeInt, ...] | None = None,
        strides: tuple[Literal[1, 2], ...] | None = None,
        stem: PositiveInt = 16,
        stem_stride: Literal[1, 2] = 2,
        out: tuple[PositiveInt, ...] | None = None,
        norm: Norm = "batch",
        eps: PositiveFloat = 1e-5,
        momentum: PositiveFloat = 0.1,
        activation: Activation = "relu",
        mean: tuple[float, ...] | None = None,
        std: tuple[PositiveFloat, ...] | None = None,
    ) -> None:
        super().__init__()
        if not widths:
            raise PartError("widths is empty: give the channels of at least one stage, e.g. [24, 48, 96]")
        depths = (1,) * len(widths) if depths is None else depths
        steps = (2,) * len(widths) if strides is None else strides
        for name, given in (("depths", depths), ("strides", steps)):
            if len(given) != len(widths):
                raise PartError(
                    f"{name} has {len(given)} entries, but widths has {len(widths)} stages: write one "
                    f"entry per stage"
                )
        numbers = tuple(range(1, len(widths) + 1))
        out = numbers[-3:] if out is None else out
        check_taps(out, numbers)

        self.out = out
        self.mean, self.std = image_statistics(in_channels, mean, std)
        self.channels = tuple(widths[number - 1] for number in out)
        reached = list(itertools.accumulate(steps, operator.mul, initial=stem_stride))
        self.strides = tuple(reached[number] for number in out)

        def convolution(fan_in: int, width: int, stride: int) -> ConvNormAct:
            return ConvNormAct(
                fan_in, width, stride=stride, norm=norm, eps=eps, momentum=momentum, activation=activation
            )

        def block(width: int) -> ResidualBlock:
            return ResidualBlock(width, norm=norm, eps=eps, momentum=momentum, activation=activation)

        self.stem = convolution(in_channels, stem, stem_stride)
        self.stages = nn.ModuleList()
        fan_in = stem
        for width, depth, step in list(zip(widths, depths, steps))[: out[-1]]:
            self.stages.append(
                nn.Sequential(convolution(fan_in, width, step), *(block(width) for _ in range(depth)))
            )
            fan_in = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images (B,in_channels,H,W) -> the tapped maps, fine to coarse, sides rounded up: ceil(H
        / stride)."""
        maps = self.stem(images)
        taps = []
        for number, stage in enumerate(self.stages, start=1):
            maps = stage(maps)
            if number in self.out:
                taps.append(maps)
        return taps
