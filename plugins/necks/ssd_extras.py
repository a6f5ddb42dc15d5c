"""SSD's neck: the backbone's maps, the first L2-normalised where asked for, then ever smaller ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from densedet.core.arguments import ChannelCount, NonNegativeInt, PositiveFloat, PositiveInt
from densedet.core.errors import PartError
from densedet.core.layers import Activation, ConvNormAct, Norm, init_convolutions
from densedet.plugins.necks._l2_norm import L2Norm


class Stage(BaseModel):
    """One extra map: a 1x1 convolution to ``hidden_channels``, then a convolution to ``out_channels``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    out_channels: ChannelCount = Field(..., description="channels of the new map")
    hidden_channels: ChannelCount | None = Field(
        default=None, description="channels between the two convolutions; null: half of out_channels"
    )
    kernel: PositiveInt = Field(default=3, description="side of the second convolution")
    stride: PositiveInt = Field(default=2, description="stride of the second convolution")
    padding: NonNegativeInt | None = Field(
        default=None, description="padding of the second convolution; null: (kernel - 1) // 2"
    )
    norm: Norm | None = Field(default=None, description="normalisation; null: the neck's")
    depthwise: bool | None = Field(
        default=None, description="second convolution depthwise, a 1x1 after it; null: the neck's"
    )

    @property
    def pad(self) -> int:
        """Padding of the second convolution."""
        return (self.kernel - 1) // 2 if self.padding is None else self.padding


class SSDExtrasNeck(nn.Module):
    """SSD's pyramid (Liu et al. 2016, figure 2; SSDlite: Sandler et al. 2018, section 6.2).

    A new map's stride is its input's times the stage's ``stride``: the distance of two cells in input pixels.
    A stage without padding cuts the border off and leaves the stride alone, so SSD300's maps 38, 19, 10, 5,
    3, 1 have strides 8, 16, 32, 64, 64, 64, and anchors spread evenly over the image lie wider apart than
    that.

    The recipes ssd300_vgg16 and ssdlite320_mobilenet_v3 have the papers' stages. The defaults suit small
    images.

    Args:
        in_channels: (wired) channels of each map, fine to coarse.
        in_strides: (wired) stride of each map in input pixels.
        stages: extra maps, each made from the one before; may be empty. SSD300 has 512, 256, 256 and 256
            out_channels, the last two with stride 1 and padding 0.
        l2_norm: initial scale of the L2 norm on the first map (ParseNet, Liu et al. 2015, section 3.3; SSD:
            20); null: no L2 norm.
        depthwise: SSDlite's separable stages.
        norm: normalisation after each convolution; "none" gives them biases.
        eps: added to the variance by the normalisation.
        momentum: of batch norm.
        activation: after each convolution.

    Attributes:
        channels: channels of each map.
        strides: stride of each map in input pixels.
    """

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        in_strides: tuple[int, ...],
        stages: Annotated[tuple[Stage, ...], Field(max_length=50)] = (
            Stage(out_channels=96),
            Stage(out_channels=96),
        ),
        l2_norm: PositiveFloat | None = None,
        depthwise: bool = False,
        norm: Norm = "batch",
        eps: PositiveFloat = 1e-5,
        momentum: PositiveFloat = 0.1,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.stages = tuple(stages)
        channels, strides = list(in_channels), list(in_strides)
        self.l2_norm = None if l2_norm is None else L2Norm(channels[0], scale=l2_norm)
        self.extras = nn.ModuleList()
        for stage in self.stages:
            convolution = partial(
                ConvNormAct,
                norm=norm if stage.norm is None else stage.norm,
                eps=eps,
                momentum=momentum,
                activation=activation,
            )
            separable = depthwise if stage.depthwise is None else stage.depthwise
            self.extras.append(_stage_layers(channels[-1], stage, separable, convolution))
            channels.append(stage.out_channels)
            strides.append(strides[-1] * stage.stride)
        self.channels, self.strides = tuple(channels), tuple(strides)
        # SSD section 3: the "xavier" method for all newly added convolutions.
        init_convolutions(self.extras, nn.init.xavier_uniform_)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Compute the maps.

        Args:
            features: maps (B,c_l,h_l,w_l), fine to coarse.

        Returns:
            The same maps, the first one normalised where l2_norm is set, and one more per stage.

        Raises:
            PartError: where a map is smaller than the kernel of the stage that reads it.
        """
        maps = list(features)
        for number, (stage, layers) in enumerate(zip(self.stages, self.extras), start=1):
            height, width = maps[-1].shape[-2:]
            smallest = stage.kernel - 2 * stage.pad
            if min(height, width) < smallest:
                raise PartError(
                    f"stage {number} of {len(self.stages)} convolves {stage.kernel}x{stage.kernel} "
                    f"with padding {stage.pad} and "
                    f"needs a map of at least {smallest}x{smallest}, but gets one of {width}x{height} "
                    f"(width x height): "
                    f"use larger images, leave the stage out, or give it padding: {stage.kernel // 2}",
                    part="neck",
                )
            maps.append(layers(maps[-1]))
        if self.l2_norm is not None:
            maps[0] = self.l2_norm(maps[0])
        return maps


def _stage_layers(
    fan_in: int, stage: Stage, depthwise: bool, convolution: Callable[..., ConvNormAct]
) -> nn.Sequential:
    out = stage.out_channels
    hidden = max(1, out // 2) if stage.hidden_channels is None else stage.hidden_channels
    squeeze = convolution(fan_in, hidden, kernel=1)
    spatial = partial(convolution, kernel=stage.kernel, stride=stage.stride, padding=stage.pad)
    if not depthwise:
        return nn.Sequential(squeeze, spatial(hidden, out))
    return nn.Sequential(squeeze, spatial(hidden, hidden, groups=hidden), convolution(hidden, out, kernel=1))
