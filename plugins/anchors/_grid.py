"""Grids of cells: the centre of each cell, and arguments that are given once or per level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from densedet.core.errors import PartError
from densedet.core.text import counted

Spacing = Literal["map", "floor", "stride"]
"""Distance of two cells in pixels. "map": image side / map side, so that the cells always tile the image.
"floor": the same rounded down, as torchvision's AnchorGenerator (differs where a map side does not divide the
image side). "stride": the neck's nominal stride."""

Values = tuple[float, ...] | tuple[tuple[float, ...], ...]


def per_level(values: Values, levels: int, argument: str) -> tuple[tuple[float, ...], ...]:
    """Expand an argument to one list per level.

    Args:
        values: a flat list for all levels, or a list per level.
        levels: number of levels.
        argument: the argument's name, for the message.

    Returns:
        ``levels`` lists of float.

    Raises:
        PartError: where there is another number of lists.
    """
    nested = [value for value in values if isinstance(value, (tuple, list))]
    if not nested:
        return (tuple(float(value) for value in values),) * levels  # type: ignore[arg-type]
    check_count(len(nested), levels, f"{argument} has {len(nested)} lists")
    return tuple(tuple(float(value) for value in level) for level in nested)


def check_count(given: int, levels: int, what: str) -> None:
    """Raise PartError unless ``given`` equals the number of levels."""
    if given != levels:
        raise PartError(
            f"{what}, but the neck has {counted(levels, 'level')}: give one entry per level, or change "
            f"the neck's levels"
        )


def check_maps(level_sizes: Sequence[tuple[int, int]], levels: int) -> None:
    """Raise PartError unless there is one feature map per level."""
    if len(level_sizes) != levels:
        raise PartError(
            f"anchors for {counted(levels, 'level')} got {counted(len(level_sizes), 'feature map')}: the "
            f"neck's strides and "
            f"its maps disagree"
        )


def centers(
    level_size: tuple[int, int],
    image_hw: tuple[int, int],
    stride: int,
    *,
    spacing: Spacing,
    offset: float,
    device: torch.device | str,
) -> Tensor:
    """Compute the centres of a level's cells, (index + offset) * spacing.

    Args:
        level_size: (height, width) of the feature map.
        image_hw: (height, width) of the tensor of images.
        stride: nominal stride in input pixels.
        spacing: see `Spacing`.
        offset: 0.5 is the cell's centre, 0 its corner.
        device: device of the result.

    Returns:
        float32 (h,w,2), x and y in pixels.
    """
    axes = []
    for cells, side in zip(level_size, image_hw):
        step: float = {"map": side / max(cells, 1), "floor": side // max(cells, 1), "stride": stride}[spacing]
        axes.append((torch.arange(cells, dtype=torch.float32, device=device) + offset) * step)
    y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack((x, y), dim=-1)


def around(points: Tensor, shapes: Tensor) -> Tensor:
    """Move boxes around the origin (A,4) to centres (h,w,2): (h*w*A,4), order y, x, anchor."""
    return (points.repeat(1, 1, 2).unsqueeze(2) + shapes).reshape(-1, 4)
