"""Path aggregation: a feature pyramid and a short path back from fine to coarse."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from densedet.core.arguments import ChannelCount, LayerCount
from densedet.core.layers import Activation, ConvNormAct, init_convolutions
from densedet.plugins.necks._pyramid import ExtraLevels, PyramidNorm, TopDown, extended, resized


class PANNeck(nn.Module):
    """PANet's bottom-up path (Liu et al. 2018, section 3.1) behind a feature pyramid.

    N_1 = P_1, and N_{l+1} = conv3x3(P_{l+1} + conv3x3(N_l)), where the inner convolution has the stride
    between the two levels. An activation follows each of the two.

    Args:
        in_channels: (wired) channels of each map, fine to coarse.
        in_strides: (wired) stride of each map in input pixels.
        channels: channels of every level.
        top_down: true makes the P levels by a feature pyramid, false by 1x1 convolutions of the backbone's
            maps alone.
        norm: normalisation after every convolution but the extra levels'; "none" (the paper) gives them
            biases.
        activation: activation on the bottom-up path.
        extra_levels: how many levels to add past the coarsest, each of twice the stride, by convolutions with
            a ReLU between two of them.

    Attributes:
        channels: channels of each level.
        strides: stride of each level in input pixels.
    """

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        in_strides: tuple[int, ...],
        channels: ChannelCount = 64,
        top_down: bool = True,
        norm: PyramidNorm = "batch",
        activation: Activation = "relu",
        extra_levels: LayerCount = 0,
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
            init_convolutions(layers)
        self.extra = ExtraLevels(channels, channels, extra_levels)
        self.strides = extended(in_strides, extra_levels)
        self.channels = (channels,) * len(self.strides)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Compute the levels.

        Args:
            features: maps (B,c_l,h_l,w_l), fine to coarse.

        Returns:
            (B,channels,h_l,w_l) for each map, then the extra levels, whose sides are halved and rounded up.
        """
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
