"""Path aggregation: a feature pyramid and a short path back from fine to coarse."""

from __future__ import annotations

import itertools
from typing import Literal

from torch import Tensor, nn

from densedet.core.arguments import NonNegativeInt, PositiveInt
from densedet.core.layers import ConvNormAct
from densedet.plugins.necks._pyramid import ExtraLevels, PyramidNorm, TopDown, resized


class PANNeck(nn.Module):
    """PANet's bottom-up path (Liu et al. 2018, section 3.1): N_1 = P_1; N_{l+1} is a 3x3 convolution of the
    sum of P_{l+1} and a 3x3 convolution of N_l whose stride is what lies between the two levels; an
    activation follows each of those convolutions.

    in_channels, in_strides: wired. channels: of every level. top_down: make the P levels by a feature pyramid
    inside; false: by 1x1 convolutions of the backbone's maps alone. norm: after every convolution but the
    extra levels'; "none" gives them biases (the paper).
    activation: on the bottom-up path. extra_levels: how many to add past the coarsest, each of twice the
    stride, by convolutions with a ReLU between two of them.
    """

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        in_strides: tuple[int, ...],
        channels: PositiveInt = 64,
        top_down: bool = True,
        norm: PyramidNorm = "batch",
        activation: Literal["relu", "relu6", "silu"] = "relu",
        extra_levels: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        self.top_down = TopDown(tuple(in_channels), channels, norm=norm) if top_down else None
        self.lateral = nn.ModuleList()
        if not top_down:
            self.lateral.extend(
                ConvNormAct(c, channels, kernel=1, norm=norm, activation=activation) for c in in_channels
            )
        steps = [max(1, coarse // fine) for fine, coarse in itertools.pairwise(in_strides)]
        self.down = nn.ModuleList(
            ConvNormAct(channels, channels, stride=step, norm=norm, activation=activation) for step in steps
        )
        self.output = nn.ModuleList(
            ConvNormAct(channels, channels, norm=norm, activation=activation) for _ in steps
        )
        for layers in (self.lateral, self.down, self.output):
            for layer in layers.modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                    if layer.bias is not None:
                        nn.init.zeros_(layer.bias)
        self.extra = ExtraLevels(channels, channels, extra_levels)
        strides = list(in_strides)
        for _ in range(extra_levels):
            strides.append(strides[-1] * 2)
        self.strides = tuple(strides)
        self.channels = (channels,) * len(strides)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Maps (B,c_l,h_l,w_l), fine to coarse -> (B,channels,h_l,w_l) each, then the extra levels, sides
        halved and rounded up."""
        if self.top_down is not None:
            inputs = self.top_down(features)
        else:
            inputs = [lateral(maps) for lateral, maps in zip(self.lateral, features)]
        levels = [inputs[0]]
        for down, output, maps in zip(self.down, self.output, inputs[1:]):
            # A backbone that rounds map sides down leaves maps one cell smaller than this path's own, which
            # rounds up.
            levels.append(output(maps + resized(down(levels[-1]), maps)))
        return levels + self.extra(levels[-1])
