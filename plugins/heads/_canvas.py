"""The coarse levels' maps packed on one canvas, for heads that all levels share.

A convolution then runs twice instead of once a level. A head calls `predict_levels` and need not know more.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from densedet.core.layers import flatten_cells
from densedet.plugins.heads._predictors import Predictors
from densedet.plugins.heads._towers import Tower

MOST_CELLS = 16384
"""Most cells of all levels and images together with which packing pays. The cost of a convolution beside its
arithmetic (rearranging the weights for the kernel, making and adding up their gradient) does not grow with
the maps, while the gaps on a canvas are computed for nothing: a twentieth of the head."""


def predict_levels(features: Sequence[Tensor], *branches: tuple[Tower, Predictors]) -> list[list[Tensor]]:
    """Run towers and their predictors on the same maps.

    Args:
        features: a map (B,c_l,h_l,w_l) per level.
        branches: each a tower and the predictors on top of it.

    Returns:
        What ``predictors(tower(features))`` returns, for each branch. Where it makes a training step faster,
        the coarse levels lie on one canvas meanwhile.
    """
    canvas = Canvas.for_training(features) if all(_fits(*branch) for branch in branches) else None
    if canvas is None:
        return [predictors(tower(features)) for tower, predictors in branches]
    finest, whole = canvas.join(features)
    return [_on_canvas(canvas, finest, whole, tower, predictors) for tower, predictors in branches]


def _fits(tower: Tower, predictors: Predictors) -> bool:
    """Whether nothing but shared convolutions and ReLUs is applied to the maps."""
    return tower.training and tower.share and tower.norm == "none" and predictors.share


def _on_canvas(
    canvas: Canvas, finest: Tensor, whole: Tensor, tower: Tower, predictors: Predictors
) -> list[Tensor]:
    for conv in tower.convs[0].children():
        finest = functional.relu(conv(finest), inplace=True)
        whole = functional.relu(canvas.clear(conv(whole)), inplace=True)
    (predict,) = predictors.convs
    maps = canvas.split([predict(finest), predict(whole)])
    return [flatten_cells(x, predictors.outputs) for x in maps]


class Canvas:
    """A map of ``height`` x ``width`` cells that holds the maps of all levels but the finest.

    The maps lie at least one cell apart, so that a 3x3 convolution that pads with zeros gives each map what
    it gives it alone, as long as the gaps are 0. The finest level stays alone: its cells are three quarters
    of all, and its gaps would cost more than a call saves.

    Args:
        sizes: (height, width) of the coarse levels.

    Attributes:
        sizes: the same.
        corners: upper left corner (y, x) of each level's map.
        height: of the canvas, in cells.
        width: of the canvas, in cells.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        self.sizes = tuple(sizes)
        self.corners, (self.height, self.width) = arrange(self.sizes)
        self._gaps: dict[torch.device, Tensor] = {}

    @classmethod
    def for_training(cls, features: Sequence[Tensor]) -> Canvas | None:
        """The canvas that makes a training step on the levels' maps (B,c,h,w) faster, or None."""
        if len(features) < 3 or sum(f.shape[0] * f.shape[2] * f.shape[3] for f in features) > MOST_CELLS:
            return None
        if not features[0].is_contiguous(memory_format=torch.channels_last):
            # Measured: the gaps cost more than the calls saved, as kernels rearrange maps too.
            return None
        return _canvas(tuple((f.shape[2], f.shape[3]) for f in features[1:]))

    def join(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Pack maps (B,c,h_l,w_l) into two: the finest, and a canvas with the others."""
        return [features[0], _Join.apply(self, *features[1:])]  # type: ignore[no-untyped-call]

    def clear(self, whole: Tensor) -> Tensor:
        """Set the gaps of (B,c,height,width) to 0 in place."""
        if whole.device not in self._gaps:
            gap = torch.ones(1, 1, self.height, self.width, dtype=torch.bool, device=whole.device)
            for part in self.views(gap):
                part.fill_(False)
            self._gaps[whole.device] = gap
        return whole.masked_fill_(self._gaps[whole.device], 0)

    def split(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Unpack what `join` packed."""
        finest, whole = maps
        return [finest, *_Split.apply(self, whole)]  # type: ignore[no-untyped-call]

    def views(self, whole: Tensor) -> list[Tensor]:
        """The maps as views on (B,c,height,width); not for autograd."""
        return [whole[:, :, y : y + h, x : x + w] for (y, x), (h, w) in zip(self.corners, self.sizes)]

    def lay(self, features: Sequence[Tensor]) -> Tensor:
        """Copy the coarse maps onto a new channels-last canvas, 0 in the gaps; not for autograd."""
        size = features[0].shape[0], features[0].shape[1], self.height, self.width
        whole = torch.empty(
            size, dtype=features[0].dtype, device=features[0].device, memory_format=torch.channels_last
        ).zero_()
        for part, feature in zip(self.views(whole), features):
            part.copy_(feature)
        return whole


class _Join(torch.autograd.Function):
    """`Canvas.lay`; autograd would write a gradient of the whole canvas for each map."""

    @staticmethod
    def forward(ctx: Any, canvas: Canvas, *features: Tensor) -> Tensor:
        ctx.canvas = canvas
        return canvas.lay(features)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        return None, *ctx.canvas.views(gradient)


class _Split(torch.autograd.Function):
    """`Canvas.views` as copies; the reverse of `_Join`."""

    @staticmethod
    def forward(ctx: Any, canvas: Canvas, whole: Tensor) -> tuple[Tensor, ...]:
        ctx.canvas = canvas
        return tuple(view.contiguous(memory_format=torch.channels_last) for view in canvas.views(whole))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return None, ctx.canvas.lay(gradients)


@lru_cache(maxsize=64)
def _canvas(sizes: tuple[tuple[int, int], ...]) -> Canvas:
    return Canvas(sizes)


def arrange(sizes: Sequence[tuple[int, int]]) -> tuple[tuple[tuple[int, int], ...], tuple[int, int]]:
    """Lay rectangles at least one cell apart.

    Each in turn goes where the area grows least: beside or below one of those before it, or into a hole that
    they leave.

    Args:
        sizes: (height, width) of each.

    Returns:
        The upper left corner (y, x) of each, and the (height, width) that holds them all.
    """
    corners: list[tuple[int, int]] = []
    height = width = 0
    for count, (h, w) in enumerate(sizes):
        placed = list(zip(corners, sizes[:count]))
        free = [
            (max(height, y + h) * max(width, x + w), y, x)
            for y in (0, *(top + tall + 1 for (top, _), (tall, _) in placed))
            for x in (0, *(left + wide + 1 for (_, left), (_, wide) in placed))
            if all(
                y + h < top or top + tall < y or x + w < left or left + wide < x
                for (top, left), (tall, wide) in placed
            )
        ]
        _, y, x = min(free)  # never empty: below or beside all others is free
        corners.append((y, x))
        height, width = max(height, y + h), max(width, x + w)
    return tuple(corners), (height, width)
