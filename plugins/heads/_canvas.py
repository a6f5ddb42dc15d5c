"""The coarse levels' maps side by side on one, so that a shared convolution runs twice instead of once a
level."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

MOST_CELLS = 16384
"""Of all levels and images together. What a call costs beyond its arithmetic (rearranging the weights for the
kernel, making and adding up their gradient) does not grow with the maps, while the gaps on a canvas are
calculated for nothing: a twentieth of the head."""


class Canvas:
    """Where the maps of all levels but the finest lie on one of ``height`` x ``width``: at least one cell
    apart, so that a 3x3 convolution that pads with zeros gives every map what it gives it alone, as long as
    the gaps are 0. The finest stays alone: its cells are three quarters of all, and its gaps would cost more
    than a call saves.

    `Canvas.for_training` makes one where it pays, `join` lays the maps on it, `clear` zeroes the gaps after a
    layer, `split` takes the maps off again. sizes: (h, w) of the coarse levels.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        self.sizes = tuple(sizes)
        self.corners, (self.height, self.width) = arrange(self.sizes)
        self._gaps: dict[torch.device, Tensor] = {}

    @classmethod
    def for_training(cls, features: Sequence[Tensor]) -> Canvas | None:
        """The canvas that makes a training step on all levels' maps (B,c,h,w) faster, or None."""
        if len(features) < 3 or sum(f.shape[0] * f.shape[2] * f.shape[3] for f in features) > MOST_CELLS:
            return None
        if not features[0].is_contiguous(memory_format=torch.channels_last):
            # Measured: the gaps cost more than the calls saved, as kernels rearrange maps too.
            return None
        return _canvas(tuple((f.shape[2], f.shape[3]) for f in features[1:]))

    def join(self, features: Sequence[Tensor]) -> list[Tensor]:
        """list of (B,c,h_l,w_l) -> [the finest, (B,c,height,width) with the others and 0 in the gaps]."""
        return [features[0], _Join.apply(self, *features[1:])]  # type: ignore[no-untyped-call]

    def clear(self, whole: Tensor) -> Tensor:
        """(B,c,height,width) with 0 in the gaps; changes it in place."""
        if whole.device not in self._gaps:
            gap = torch.ones(1, 1, self.height, self.width, dtype=torch.bool, device=whole.device)
            for part in self.views(gap):
                part.fill_(False)
            self._gaps[whole.device] = gap
        return whole.masked_fill_(self._gaps[whole.device], 0)

    def split(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """[the finest, (B,c,height,width)] -> list of (B,c,h_l,w_l); what the gaps hold is lost."""
        finest, whole = maps
        return [finest, *_Split.apply(self, whole)]  # type: ignore[no-untyped-call]

    def views(self, whole: Tensor) -> list[Tensor]:
        """The maps on ``whole``, without its gaps; not for autograd."""
        return [whole[:, :, y : y + h, x : x + w] for (y, x), (h, w) in zip(self.corners, self.sizes)]

    def lay(self, features: Sequence[Tensor]) -> Tensor:
        """A whole, channels-last, with ``features`` on it and 0 in the gaps; not for autograd."""
        size = features[0].shape[0], features[0].shape[1], self.height, self.width
        whole = torch.empty(
            size, dtype=features[0].dtype, device=features[0].device, memory_format=torch.channels_last
        ).zero_()
        for part, feature in zip(self.views(whole), features):
            part.copy_(feature)
        return whole


class _Join(torch.autograd.Function):
    """Autograd would write a gradient of the whole canvas for each map."""

    @staticmethod
    def forward(ctx: Any, canvas: Canvas, *features: Tensor) -> Tensor:
        ctx.canvas = canvas
        return canvas.lay(features)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        return None, *ctx.canvas.views(gradient)


class _Split(torch.autograd.Function):
    """See `_Join`, the other way round."""

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
    """Upper left corners (y, x) of (h, w) rectangles at least one cell apart, and the (height, width) that
    holds them. Each in turn goes
    where the area grows least: beside or below one of those before it, or into a hole that they leave."""
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
