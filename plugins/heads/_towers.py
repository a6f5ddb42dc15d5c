"""Stacks of 3x3 convolutions before the predictors, shared by the levels or one per level."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from densedet.core.layers import Norm, norm_layer
from densedet.plugins.heads._predictors import initialise


class Tower(nn.Module):
    """``depth`` times 3x3 convolution, norm and ReLU, on every level.

    Shared convolutions see maps whose statistics differ from level to level, so norms that keep statistics
    (batch, frozen) are separate per level even then; a group norm keeps none and is shared.

    Args:
        in_channels: c_l of each level.
        channels: width of the tower; None: that of its input.
        depth: number of convolutions; at 0 the features pass through.
        share: one set of convolutions for all levels, which then need equal c_l.
        norm: normalisation after each convolution.
        bias: whether convolutions have a bias; None: only where no norm follows.

    Attributes:
        channels: width of each level's output.
        share: as given.
        norm: as given.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        channels: int | None = None,
        depth: int = 4,
        share: bool = True,
        norm: Norm = "none",
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        self.share, self.norm = share, norm
        bias = norm == "none" if bias is None else bias
        self.channels = (
            tuple(in_channels) if channels is None or depth == 0 else (channels,) * len(in_channels)
        )
        self.convs = nn.ModuleList()
        for width, inputs in list(zip(self.channels, in_channels))[: 1 if share else None]:
            widths = [inputs] + [width] * (depth - 1)
            self.convs.append(
                nn.ModuleList(nn.Conv2d(c, width, 3, padding=1, bias=bias) for c in widths[:depth])
            )
        self.shared_norm = share and norm in ("none", "group")
        self.norms = nn.ModuleList()
        for width in self.channels[: 1 if self.shared_norm else None]:
            self.norms.append(nn.ModuleList(norm_layer(norm, width) for _ in range(depth)))
        initialise(self.convs, init="normal", std=0.01)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B,c_l,h_l,w_l) to maps (B,channels_l,h_l,w_l)."""
        return [self._level(x, level) for level, x in enumerate(features)]

    def _level(self, x: Tensor, level: int) -> Tensor:
        convs = self.convs[0 if self.share else level].children()
        norms = self.norms[0 if self.shared_norm else level].children()
        for conv, norm in zip(convs, norms):
            x = functional.relu(norm(conv(x)), inplace=True)
        return x
