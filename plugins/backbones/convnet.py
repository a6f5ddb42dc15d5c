"""A plain residual network of dense 3x3 convolutions: the laptop's backbone."""

from __future__ import annotations

import itertools
import operator
from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from densedet.core.arguments import ChannelCount, LayerCount, PositiveFloat, PositiveInt
from densedet.core.errors import PartError
from densedet.core.layers import Activation, ConvNormAct, Norm, activation_layer, init_convolutions
from densedet.core.text import counted
from densedet.plugins.backbones._images import image_statistics
from densedet.plugins.backbones._out_indices import check_out_indices


class ResidualBlock(nn.Module):
    """x + two 3x3 convolutions, activated (He et al. 2016, figure 2).

    Args:
        channels: channels of the input and the output.
        norm: normalisation after each convolution.
        eps: added to the variance by the normalisation.
        momentum: of batch norm.
        activation: after the first convolution and after the sum.
    """

    def __init__(
        self, channels: int, *, norm: Norm, eps: float, momentum: float, activation: Activation
    ) -> None:
        super().__init__()
        convolution = partial(ConvNormAct, channels, channels, norm=norm, eps=eps, momentum=momentum)
        self.first = convolution(activation=activation)
        self.second = convolution(activation="none")
        self.activation = activation_layer(activation)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B,c,h,w) to (B,c,h,w)."""
        return self.activation(maps + self.second(self.first(maps)))


class ConvNetBackbone(nn.Module):
    """Residual network of dense 3x3 convolutions: a stem, then stages that may halve the map.

    A stage is one 3x3 convolution, which has the stage's stride, and residual blocks. Nothing is depthwise: a
    CPU runs dense convolutions far faster than their operation count suggests, in bf16 with channels-last
    above all. The defaults suit 128x64 grey images: maps of 24, 48 and 96 channels at strides 4, 8 and 16,
    0.27 M parameters, 21 M multiply-adds for a forward pass. ``widths: [24, 48, 96, 128]`` gives strides 8,
    16 and 32.

    Args:
        in_channels: (wired) channels of the images, 1 or 3.
        widths: channels of each stage.
        depths: residual blocks of each stage, 0 for its first convolution alone; null: one each.
        strides: stride of each stage, 1 or 2; null: all 2.
        stem: channels of the first convolution.
        stem_stride: stride of the first convolution.
        out_indices: stages whose maps are returned, fine to coarse; 1 is the first stage. The stride of index
            k is stem_stride times the strides of stages 1..k (2^(k+1) by default). Stages past the last index
            are not built. null: the last three.
        norm: normalisation after each convolution; "none" gives the convolutions biases.
        eps: added to the variance by the normalisation.
        momentum: of batch norm.
        activation: after each convolution.
        mean: mean of the images scaled to 0..1, one value or one per channel; null: ImageNet's.
        std: standard deviation of the images scaled to 0..1, one value or one per channel; null: ImageNet's.

    Attributes:
        channels: channels of each returned map.
        strides: stride of each returned map in input pixels.

    Raises:
        PartError: where lists have different lengths or out_indices names a stage that does not exist.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        widths: Annotated[tuple[ChannelCount, ...], Field(max_length=50)] = (24, 48, 96),
        depths: tuple[LayerCount, ...] | None = None,
        strides: tuple[Literal[1, 2], ...] | None = None,
        stem: ChannelCount = 16,
        stem_stride: Literal[1, 2] = 2,
        out_indices: tuple[PositiveInt, ...] | None = None,
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
                    f"{name} has {counted(len(given), 'entry')}, but widths has "
                    f"{counted(len(widths), 'stage')}: write one "
                    f"entry per stage"
                )
        numbers = tuple(range(1, len(widths) + 1))
        out_indices = numbers[-3:] if out_indices is None else out_indices
        check_out_indices(out_indices, numbers)

        self.out_indices = out_indices
        self.mean, self.std = image_statistics(in_channels, mean, std)
        self.channels = tuple(widths[index - 1] for index in out_indices)
        stage_strides = list(itertools.accumulate(steps, operator.mul, initial=stem_stride))
        self.strides = tuple(stage_strides[index] for index in out_indices)

        convolution = partial(ConvNormAct, norm=norm, eps=eps, momentum=momentum, activation=activation)
        block = partial(ResidualBlock, norm=norm, eps=eps, momentum=momentum, activation=activation)
        self.stem = convolution(in_channels, stem, stride=stem_stride)
        self.stages = nn.ModuleList()
        fan_in = stem
        for width, depth, step in list(zip(widths, depths, steps))[: out_indices[-1]]:
            self.stages.append(
                nn.Sequential(convolution(fan_in, width, stride=step), *(block(width) for _ in range(depth)))
            )
            fan_in = width
        init_convolutions(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the feature maps.

        Args:
            images: float32 (B,in_channels,H,W), normalised.

        Returns:
            The maps of out_indices (B,c_l,h_l,w_l), fine to coarse, with sides ceil(H / stride).
        """
        maps = self.stem(images)
        features = []
        for index, stage in enumerate(self.stages, start=1):
            maps = stage(maps)
            if index in self.out_indices:
                features.append(maps)
        return features
