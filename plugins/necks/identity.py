"""No neck at all."""

from __future__ import annotations

from torch import Tensor, nn


class IdentityNeck(nn.Module):
    """No neck: the head reads the backbone's maps.

    Args:
        in_channels: (wired) channels of each map, fine to coarse.
        in_strides: (wired) stride of each map in input pixels.

    Attributes:
        channels: channels of each map.
        strides: stride of each map in input pixels.
    """

    def __init__(self, *, in_channels: tuple[int, ...], in_strides: tuple[int, ...]) -> None:
        super().__init__()
        self.channels, self.strides = tuple(in_channels), tuple(in_strides)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return the maps (B,c_l,h_l,w_l) unchanged."""
        return list(features)
