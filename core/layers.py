"""Layers that several parts share."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["none", "batch", "frozen", "group"]


def norm_layer(
    norm: Norm, channels: int, *, eps: float = 1e-5, momentum: float = 0.1, groups: int = 32
) -> nn.Module:
    """The normalisation of ``channels`` maps.

    "batch"; "frozen" (statistics and scale are constants, as in detection fine-tuning); "group" (GroupNorm
    with the largest number of groups <= ``groups`` that divides ``channels``); "none" (identity).
    """
    if norm == "none":
        return nn.Identity()
    if norm == "group":
        most = max(count for count in range(1, groups + 1) if channels % count == 0)
        return nn.GroupNorm(most, channels, eps=eps)
    if norm == "frozen":
        from torchvision.ops import FrozenBatchNorm2d

        return FrozenBatchNorm2d(channels, eps=eps)
    return nn.BatchNorm2d(channels, eps=eps, momentum=momentum)


class ConvNormAct(nn.Sequential):
    """Convolution, normalisation, activation. The convolution has a bias only where no normalisation follows
    (or ``bias`` says so)."""

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
        activation: Literal["relu", "relu6", "silu", "none"] = "relu",
        bias: bool | None = None,
    ) -> None:
        padding = (kernel - 1) // 2 * dilation if padding is None else padding
        layers: list[nn.Module] = [
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel,
                stride,
                padding,
                dilation,
                groups,
                bias=norm == "none" if bias is None else bias,
            )
        ]
        if norm != "none":
            layers.append(norm_layer(norm, out_channels, eps=eps, momentum=momentum))
        if activation != "none":
            layers.append({"relu": nn.ReLU, "relu6": nn.ReLU6, "silu": nn.SiLU}[activation](inplace=True))
        super().__init__(*layers)


def flatten_cells(maps: Tensor, channels: int) -> Tensor:
    """Convolution output (B, A*channels, h, w), channel = anchor * channels + c -> (B, h*w*A, channels) in
    the order y, x, anchor."""
    batch, _, height, width = maps.shape
    anchors = maps.shape[1] // channels
    cells = maps.view(batch, anchors, channels, height, width).permute(0, 3, 4, 1, 2)
    return cells.reshape(batch, height * width * anchors, channels)


class Scale(nn.Module):
    """One learnable factor, as FCOS (section 3.2) puts on each level's regression."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(float(value)))

    def forward(self, values: Tensor) -> Tensor:
        return values * self.value
