"""The last convolution of a head, on every level: one for all levels, or one per level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from densedet.core.errors import PartError
from densedet.core.layers import flatten_cells
from densedet.plugins.heads._canvas import Canvas

Init = Literal["normal", "xavier"]


def refuse_unequal(head: str, channels: Sequence[int], num_anchors: Sequence[int]) -> None:
    """Raise PartError unless all levels can share one head: the same channels and the same anchors per cell
    everywhere."""
    for what, values, remedy in (
        ("channels", channels, "put a neck with one width before it (fpn, pan)"),
        ("anchors", num_anchors, "give each level the same number of anchors per cell"),
    ):
        if len(set(values)) > 1:
            listed = ", ".join(str(value) for value in values)
            raise PartError(
                f"the {head} head is shared by all levels but they have ({listed}) {what}: {remedy}, "
                f"or write share: false"
            )


class Predictors(nn.Module):
    """list of (B,c_l,h_l,w_l) -> list of (B, h_l*w_l*A_l, outputs), order y, x, anchor; output channel =
    anchor * outputs + c.

    in_channels, num_anchors: c_l and A_l. share: one convolution for all levels, which then need equal c_l
    and A_l.
    init: "normal" (std) or "xavier" (uniform) for the weights. bias: what all biases start at.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        num_anchors: Sequence[int],
        outputs: int,
        share: bool = False,
        kernel: int = 3,
        init: Init = "normal",
        std: float = 0.01,
        bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.outputs, self.share = outputs, share
        levels = list(zip(in_channels, num_anchors))[: 1 if share else None]
        self.convs = nn.ModuleList(nn.Conv2d(c, a * outputs, kernel, padding=kernel // 2) for c, a in levels)
        for conv in self.convs:
            initialise(conv, init=init, std=std, bias=bias)

    def forward(self, features: Sequence[Tensor], canvas: Canvas | None = None) -> list[Tensor]:
        """canvas: of which ``features`` is what `Canvas.join` gave; only with share."""
        maps = [self.convs[0 if self.share else level](x) for level, x in enumerate(features)]
        if canvas is not None:
            maps = canvas.split(maps)
        return [flatten_cells(x, self.outputs) for x in maps]


def initialise(module: nn.Module, *, init: Init, std: float = 0.01, bias: float = 0.0) -> None:
    """Start the weights of every convolution in ``module`` at normal(0, std) or xavier uniform, its biases at
    ``bias``."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            if init == "normal":
                nn.init.normal_(layer.weight, std=std)
            else:
                nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, bias)
