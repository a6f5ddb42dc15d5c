"""Stacks of 3x3 convolutions before the predictors, shared by the levels (RetinaNet, FCOS) or one per
level."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from densedet.core.layers import Norm, norm_layer
from densedet.plugins.heads._canvas import Canvas
from densedet.plugins.heads._predictors import initialise


class Tower(nn.Module):
    """list of (B,c_l,h_l,w_l) -> list of (B,channels_l,h_l,w_l): ``depth`` times 3x3 convolution, norm, ReLU.

    in_channels: c_l. channels: width of the tower, None: as its input. depth: may be 0, then features pass
    through. share: one set of convolutions for all levels; needs equal c_l. bias: of the convolutions, None:
    only where no norm follows.

    Shared convolutions see maps whose statistics differ from level to level, so norms that keep statistics
    (batch, frozen) are separate per level even then; group norm has none and is shared. ``fits_canvas``:
    nothing but the convolutions tells levels apart, so they may run on several at once.
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
        self.share = share
        self.channels = (
            tuple(in_channels) if channels is None or depth == 0 else (channels,) * len(in_channels)
        )
        stacks = 1 if share else len(in_channels)
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList()
        self.shared_norm = share and norm in ("none", "group")
        for width, inputs in list(zip(self.channels, in_channels))[:stacks]:
            layers = [
                nn.Conv2d(
                    width if i else inputs,
                    width,
                    3,
                    padding=1,
                    bias=bias is True or (bias is None and norm == "none"),
                )
                for i in range(depth)
            ]
            self.convs.append(nn.ModuleList(layers))
        for width in self.channels[: 1 if self.shared_norm else None]:
            self.norms.append(nn.ModuleList(norm_layer(norm, width) for _ in range(depth)))
        initialise(self.convs, init="normal", std=0.01)

        self.fits_canvas = share and norm == "none"

    def forward(self, features: Sequence[Tensor], canvas: Canvas | None = None) -> list[Tensor]:
        """canvas: of which ``features`` is what `Canvas.join` gave; only if ``fits_canvas``."""
        return [self._level(x, level, canvas if level else None) for level, x in enumerate(features)]

    def _level(self, x: Tensor, level: int, canvas: Canvas | None) -> Tensor:
        convs = self.convs[0 if self.share else level].children()
        norms = self.norms[0 if self.shared_norm else level].children()
        for conv, norm in zip(convs, norms):
            x = norm(conv(x))
            x = functional.relu(x if canvas is None else canvas.clear(x), inplace=True)
        return x
