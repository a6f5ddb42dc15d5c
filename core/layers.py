"""Layers that several parts share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FrozenBatchNorm2d

from densedet.core.depthwise import DepthwiseConv2d

Norm = Literal["none", "batch", "frozen", "group"]
Activation = Literal["relu", "relu6", "silu"]

kaiming_fan_out = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")
"""He et al. 2015, section 2.2, which keeps the variance of gradients: for convolutions before a ReLU."""


class FrozenNorm(FrozenBatchNorm2d):
    """Batch norm whose statistics and scale are constants, with the values of torchvision's.

    Without gradients it is one call, which passes over the maps once. With them torchvision's two calls need
    less memory, since they keep no maps; and under autocast they compute in float32.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise maps (B,c,h,w)."""
        if x.dtype != self.weight.dtype or (torch.is_grad_enabled() and x.requires_grad):
            return super().forward(x)  # type: ignore[no-any-return]
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def norm_layer(
    norm: Norm, channels: int, *, eps: float = 1e-5, momentum: float = 0.1, groups: int = 32
) -> nn.Module:
    """Make a normalisation layer for maps (B,channels,h,w).

    Args:
        norm: "batch", "frozen" (batch norm whose statistics and scale are constants, as in detection
            fine-tuning), "group", or "none" (identity).
        channels: channels of the maps.
        eps: added to the variance.
        momentum: of batch norm.
        groups: most groups of a group norm, which takes the largest divisor of ``channels`` up to this.

    Returns:
        The layer.
    """
    if norm == "none":
        return nn.Identity()
    if norm == "group":
        most = max(count for count in range(1, groups + 1) if channels % count == 0)
        return nn.GroupNorm(most, channels, eps=eps)
    if norm == "frozen":
        return FrozenNorm(channels, eps=eps)
    return nn.BatchNorm2d(channels, eps=eps, momentum=momentum)


def activation_layer(activation: Activation) -> nn.Module:
    """Make an activation layer that works in place.

    Args:
        activation: "relu", "relu6" or "silu".

    Returns:
        The layer.
    """
    return {"relu": nn.ReLU, "relu6": nn.ReLU6, "silu": nn.SiLU}[activation](inplace=True)


def init_convolutions(module: nn.Module, weights: Callable[[Tensor], Any] = kaiming_fan_out) -> None:
    """Initialise every convolution inside ``module`` in place; biases become 0.

    Args:
        module: network whose ``nn.Conv2d`` layers are initialised.
        weights: fills a weight tensor (out, in, kernel, kernel) in place.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            weights(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class ConvNormAct(nn.Sequential):
    """Convolution, normalisation and activation; layers that are "none" are left out.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: side of the convolution's kernel.
        stride: of the convolution.
        padding: of the convolution; None: the map keeps its size at stride 1 (for odd kernels).
        dilation: of the convolution.
        groups: of the convolution.
        norm: normalisation, see `norm_layer`.
        eps: added to the variance by the normalisation.
        momentum: of batch norm.
        activation: "relu", "relu6", "silu" or "none".
        bias: whether the convolution has a bias; None: only where no normalisation follows.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        norm: Norm = "batch",
        eps: float = 1e-5,
        momentum: float = 0.1,
        activation: Activation | Literal["none"] = "relu",
        bias: bool | None = None,
    ) -> None:
        depthwise = groups == in_channels == out_channels > 1
        layers: list[nn.Module] = [
            (DepthwiseConv2d if depthwise else nn.Conv2d)(
                in_channels,
                out_channels,
                kernel,
                stride,
                (kernel - 1) // 2 * dilation if padding is None else padding,
                dilation,
                groups,
                bias=norm == "none" if bias is None else bias,
            )
        ]
        if norm != "none":
            layers.append(norm_layer(norm, out_channels, eps=eps, momentum=momentum))
        if activation != "none":
            layers.append(activation_layer(activation))
        super().__init__(*layers)
        self.folded = norm == "frozen"

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B,in_channels,h,w) to (B,out_channels,h',w')."""
        if not self.folded:
            return super().forward(maps)  # type: ignore[no-any-return]
        # A frozen norm is an affine map of each channel, which the convolution does at no cost.
        convolution: Any = self[0]
        norm: Any = self[1]
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * scale
        if convolution.bias is not None:
            shift = shift + convolution.bias * scale
        maps = convolution._conv_forward(maps, convolution.weight * scale[:, None, None, None], shift)
        return self[2](maps) if len(self) > 2 else maps  # type: ignore[no-any-return]


def flatten_cells(maps: Tensor, channels: int) -> Tensor:
    """Bring a convolution's output into the order of the anchors.

    Args:
        maps: (B, A*channels, h, w), channel = anchor * channels + c.
        channels: outputs per anchor.

    Returns:
        (B, h*w*A, channels), order y, x, anchor.
    """
    batch, outputs, height, width = maps.shape
    anchors = outputs // channels
    # (B, A, c, h, w) -> (B, h, w, A, c)
    cells = maps.view(batch, anchors, channels, height, width).permute(0, 3, 4, 1, 2)
    return cells.reshape(batch, height * width * anchors, channels)


class Scale(nn.Module):
    """One learnable factor, as FCOS (Tian et al. 2019, section 3.2) has for the regression of each level.

    Args:
        value: the factor's initial value.
    """

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(float(value)))

    def forward(self, values: Tensor) -> Tensor:
        """Multiply values of any shape by the factor."""
        return values * self.value
