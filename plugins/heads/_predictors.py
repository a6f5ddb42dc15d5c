"""The last convolution of a head: one for all levels, or one per level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from densedet.core.errors import PartError
from densedet.core.layers import flatten_cells

Init = Literal["normal", "xavier"]


def refuse_unequal(head: str, channels: Sequence[int], num_anchors: Sequence[int]) -> None:
    """Raise PartError unless all levels have the same channels and anchors per cell, as a shared head needs.

    Args:
        head: its name, for the message.
        channels: of each level.
        num_anchors: per cell of each level.
    """
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
    """The convolution that gives each anchor its numbers, on every level.

    Args:
        in_channels: c_l of each level.
        num_anchors: A_l of each level.
        outputs: numbers per anchor; output channel = anchor * outputs + number.
        share: one convolution for all levels, which then need equal c_l and A_l.
        kernel: side of the kernel.
        init: start of the weights, "normal" or "xavier" (uniform).
        std: standard deviation of "normal".
        bias: start of all biases.
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

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B,c_l,h_l,w_l) to numbers (B, h_l*w_l*A_l, outputs), in the order y, x, anchor."""
        convs = [*self.convs] * len(features) if self.share else self.convs
        return [flatten_cells(conv(x), self.outputs) for conv, x in zip(convs, features)]


def initialise(module: nn.Module, *, init: Init, std: float = 0.01, bias: float = 0.0) -> None:
    """Initialise every convolution in ``module``: normal(0, std) or xavier weights, biases ``bias``."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            if init == "normal":
                nn.init.normal_(layer.weight, std=std)
            else:
                nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, bias)
