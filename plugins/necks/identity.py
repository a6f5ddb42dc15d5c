"""No neck at all."""

from __future__ import annotations

from torch import Tensor, nn


class IdentityNeck(nn.Module):
    """Hands the backbone's maps to the head as they are. Wired: in_channels, in_strides."""

    def __init__(self, *, in_channels: tuple[int, ...], in_strides: tuple[int, ...]) -> None:
        super().__init__()
        self.channels, self.strides = tuple(in_channels), tuple(in_strides)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Maps (B,c_l,h_l,w_l) in, the same out."""
        return list(features)
