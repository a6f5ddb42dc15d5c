"""Grids of cells: where each cell's centre lies, and arguments that are given once or per level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from densedet.core.errors import PartError

Spacing = Literal["map", "floor", "stride"]
"""Distance of two cells in pixels. "map": image side / map side, so that the cells always tile the image.
"floor": the same rounded down, as torchvision's AnchorGenerator (differs where a map side does not divide the
image side). "stride": the neck's nominal stride."""

Values = tuple[float, ...] | tuple[tuple[float, ...], ...]


def per_level(values: Values, levels: int, argument: str) -> tuple[tuple[float, ...], ...]:
    """One flat list means the same for all ``levels``, a nested one is per level; PartError where the counts
    disagree."""
    nested = [value for value in values if isinstance(value, (tuple, list))]
    if not nested:
        return (tuple(float(value) for value in values),) * levels  # type: ignore[arg-type]
    check_count(len(nested), levels, f"{argument} has {len(nested)} lists")
    return tuple(tuple(float(value) for value in level) for level in nested)


def check_count(given: int, levels: int, what: str) -> None:
    """PartError unless ``given`` equals the number of levels."""
    if given != levels:
        raise PartError(
            f"{what}, but the neck has {levels} levels: give one entry per level, or change the neck's levels"
        )


def check_maps(level_sizes: Sequence[tuple[int, int]], levels: int) -> None:
    """PartError unless there is one feature map per level."""
    if len(level_sizes) != levels:
        raise PartError(
            f"anchors for {levels} levels got {len(level_sizes)} feature maps: the neck's strides and "
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
    """float32 (h,w,2), x and y in pixels: (index + offset) * spacing."""
    axes = []
    for cells, side in zip(level_size, image_hw):
        step: float = {"map": side / max(cells, 1), "floor": side // max(cells, 1), "stride": stride}[spacing]
        axes.append((torch.arange(cells, dtype=torch.float32, device=device) + offset) * step)
    y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack((x, y), dim=-1)


def around(points: Tensor, shapes: Tensor) -> Tensor:
    """Centres (h,w,2) and boxes around the origin (A,4) -> (h*w*A,4), order y, x, anchor."""
    return (points.repeat(1, 1, 2).unsqueeze(2) + shapes).reshape(-1, 4)
