"""SSD's neck: the backbone's maps, the first L2-normalised where asked for, then ever smaller ones."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from densedet.core.arguments import NonNegativeInt, PositiveFloat, PositiveInt
from densedet.core.errors import PartError
from densedet.core.layers import ConvNormAct, Norm
from densedet.plugins.necks._l2_norm import L2Norm


class Stage(BaseModel):
    """One extra map: a 1x1 convolution to ``hidden`` channels, then a convolution to ``out``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    out: PositiveInt = Field(..., description="channels of the new map")
    hidden: PositiveInt | None = Field(
        default=None, description="channels between the two convolutions; null: half of out"
    )
    kernel: PositiveInt = Field(default=3, description="side of the second convolution")
    stride: PositiveInt = Field(default=2, description="of the second convolution")
    padding: NonNegativeInt | None = Field(
        default=None, description="of the second convolution; null: (kernel - 1) // 2"
    )
    norm: Norm | None = Field(default=None, description="null: the neck's")
    depthwise: bool | None = Field(
        default=None, description="second convolution depthwise, a 1x1 after it; null: the neck's"
    )


class SSDExtrasNeck(nn.Module):
    """SSD's pyramid (Liu et al. 2016, figure 2; SSDlite: Sandler et al. 2018, section 6.2).

    A new map's stride is its input's times the stage's ``stride``: the distance of two cells in input pixels.
    A stage without padding cuts the border off and leaves the stride alone, so SSD300's maps 38, 19, 10, 5,
    3, 1 have strides 8, 16, 32, 64, 64, 64, and anchors spread evenly over the image lie wider apart than
    that.

    in_channels, in_strides: wired. stages: the extra maps, each made of the one before; may be empty.
    l2_norm: initial scale of the L2 norm on the first map (Liu et al. 2015, ParseNet, section 3.3; SSD: 20);
    null: none.
    depthwise: SSDlite's separable stages. norm, eps, momentum, activation: after each convolution; norm
    "none" gives them biases.

    The papers': SSD300 has ``norm: none, l2_norm: 20, stages: [{out: 512}, {out: 256}, {out: 256, stride: 1,
    padding: 0}, {out: 256,
    stride: 1, padding: 0}]``; SSDlite320 has ``depthwise: true, activation: relu6, eps: 0.001, momentum:
    0.03, stages: [{out: 512}, {out: 256}, {out: 256}, {out: 128}]``. The defaults suit small images.
    """

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        in_strides: tuple[int, ...],
        stages: tuple[Stage, ...] = (Stage(out=96), Stage(out=96)),
        l2_norm: PositiveFloat | None = None,
        depthwise: bool = False,
        norm: Norm = "batch",
        eps: PositiveFloat = 1e-5,
        momentum: PositiveFloat = 0.1,
        activation: Literal["relu", "relu6", "silu"] = "relu",
    ) -> None:
        super().__init__()
        self.stages = tuple(stages)
        channels, strides = list(in_channels), list(in_strides)
        self.l2_norm = None if l2_norm is None else L2Norm(channels[0], scale=l2_norm)
        self.extras = nn.ModuleList()
        for stage in self.stages:
            self.extras.append(
                _stage_layers(
                    channels[-1],
                    stage,
                    depthwise=depthwise if stage.depthwise is None else stage.depthwise,
                    norm=norm if stage.norm is None else stage.norm,
                    eps=eps,
                    momentum=momentum,
                    activation=activation,
                )
            )
            channels.append(stage.out)
            strides.append(strides[-1] * stage.stride)
        self.channels, self.strides = tuple(channels), tuple(strides)
        for module in self.extras.modules():
            if isinstance(module, nn.Conv2d):
                # SSD section 3: the "xavier" method for all newly added convolutions.
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Maps (B,c_l,h_l,w_l), fine to coarse -> the same and one more per stage.

        Raises PartError where a map is smaller than the kernel of the stage that reads it.
        """
        maps = list(features)
        for number, (stage, layers) in enumerate(zip(self.stages, self.extras), start=1):
            height, width = maps[-1].shape[-2:]
            smallest = stage.kernel - 2 * _padding(stage)
            if min(height, width) < smallest:
                raise PartError(
                    f"stage {number} of {len(self.stages)} convolves {stage.kernel}x{stage.kernel} "
                    f"with padding {_padding(stage)} and "
                    f"needs a map of at least {smallest}x{smallest}, but gets one of {width}x{height} "
                    f"(width x height): "
                    f"use larger images, leave the stage out, or give it padding: {stage.kernel // 2}",
                    part="neck",
                )
            maps.append(layers(maps[-1]))
        if self.l2_norm is not None:
            maps[0] = self.l2_norm(maps[0])
        return maps


def _padding(stage: Stage) -> int:
    return (stage.kernel - 1) // 2 if stage.padding is None else stage.padding


def _stage_layers(
    fan_in: int,
    stage: Stage,
    *,
    depthwise: bool,
    norm: Norm,
    eps: float,
    momentum: float,
    activation: Literal["relu", "relu6", "silu"],
) -> nn.Sequential:
    hidden = max(1, stage.out // 2) if stage.hidden is None else stage.hidden

    def convolution(
        inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int = 0, groups: int = 1
    ) -> ConvNormAct:
        return ConvNormAct(
            inputs,
            outputs,
            kernel=kernel,
            stride=stride,
            padding=padding,
            groups=groups,
            norm=norm,
            eps=eps,
            momentum=momentum,
            activation=activation,
        )

    spatial = (stage.kernel, stage.stride, _padding(stage))
    if depthwise:
        return nn.Sequential(
            convolution(fan_in, hidden),
            convolution(hidden, hidden, *spatial, hidden),
            convolution(hidden, stage.out),
        )
    return nn.Sequential(convolution(fan_in, hidden), convolution(hidden, stage.out, *spatial))
