"""Octave scales times ratios (Lin et al. 2017, RetinaNet, section 4; torchvision's AnchorGenerator)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from densedet.core.arguments import LayerCount, PositiveFloat, Probability
from densedet.core.errors import PartError
from densedet.core.text import counted
from densedet.plugins.anchors._grid import Spacing, around, centers, check_count, check_maps, per_level


class OctaveAnchors:
    """Several sizes per octave times several ratios, on every cell.

    A size is the square root of an anchor's area. An anchor is size / sqrt(ratio) wide and size * sqrt(ratio)
    high: a size of 32 and a ratio of 4 give 16 x 64 pixels. The anchors of a cell are ratio-major, as
    torchvision's: all sizes of the first ratio, then all of the second.

    Args:
        strides: (wired) stride of each level in input pixels.
        base_scale: smallest size of a level, in strides. The paper's 4 means 32 pixels at stride 8; small
            images need less.
        octaves: how many sizes a level has: base * 2^(0/octaves), base * 2^(1/octaves), ...
        ratios: height / width, one list for all levels or a list per level.
        sizes: sizes in pixels instead of base_scale. One number per level is multiplied by the octaves; a
            list per level is taken unchanged (torchvision's RetinaNet: [[32, 40, 50], [64, 80, 101], [128,
            161, 203], [256, 322, 406], [512, 645, 812]]). null: base_scale.
        round: whether the corners of the anchors around 0 are rounded to whole pixels, as in torchvision.
        offset: place within a cell where its anchors are centred: 0.5 the centre, 0 the corner (torchvision).
        spacing: distance of two cells in pixels: "map" image side / map side, "floor" the same rounded down
            (torchvision), "stride" the nominal stride.

    Attributes:
        num_anchors: anchors per cell of each level.

    Raises:
        PartError: where arguments are given for another number of levels, or a level has no anchor.
    """

    def __init__(
        self,
        *,
        strides: tuple[int, ...],
        base_scale: PositiveFloat = 4.0,
        octaves: Annotated[LayerCount, Field(ge=1)] = 3,
        ratios: tuple[PositiveFloat, ...] | tuple[tuple[PositiveFloat, ...], ...] = (0.5, 1.0, 2.0),
        sizes: tuple[PositiveFloat, ...] | tuple[tuple[PositiveFloat, ...], ...] | None = None,
        round: bool = False,
        offset: Probability = 0.5,
        spacing: Spacing = "map",
    ) -> None:
        self.strides = tuple(strides)
        self.offset = offset
        self.spacing: Spacing = spacing
        levels = len(self.strides)
        level_ratios = per_level(ratios, levels, "ratios")
        level_sizes = self._sizes(base_scale, octaves, sizes)
        for argument, lists in (("ratios", level_ratios), ("sizes", level_sizes)):
            if not all(lists):
                raise PartError(
                    f"{argument} leaves a level without anchors: give at least one number per level"
                )
        self._shapes = [_shapes(s, r, round=round) for s, r in zip(level_sizes, level_ratios)]
        self.num_anchors = tuple(len(shapes) for shapes in self._shapes)

    def _sizes(
        self, base_scale: float, octaves: int, sizes: tuple[float, ...] | tuple[tuple[float, ...], ...] | None
    ) -> tuple[tuple[float, ...], ...]:
        levels = len(self.strides)
        if sizes is None:
            bases = tuple(base_scale * stride for stride in self.strides)
        else:
            check_count(len(sizes), levels, f"sizes has {counted(len(sizes), 'entry')}")
            if any(isinstance(size, (tuple, list)) for size in sizes):
                return per_level(sizes, levels, "sizes")
            bases = sizes  # type: ignore[assignment]
        return tuple(tuple(base * 2 ** (k / octaves) for k in range(octaves)) for base in bases)

    def __call__(
        self, level_sizes: Sequence[tuple[int, int]], image_hw: tuple[int, int], device: torch.device | str
    ) -> list[Tensor]:
        """Make the anchors: float32 (h*w*A,4) xyxy per level, order y, x, anchor.

        Raises:
            PartError: where the number of maps is not that of the strides.
        """
        check_maps(level_sizes, len(self.strides))
        return [
            around(
                centers(size, image_hw, stride, spacing=self.spacing, offset=self.offset, device=device),
                shapes.to(device),
            )
            for size, stride, shapes in zip(level_sizes, self.strides, self._shapes)
        ]


def _shapes(sizes: tuple[float, ...], ratios: tuple[float, ...], *, round: bool) -> Tensor:
    """Compute the boxes of one cell around 0: float32 (A,4), ratio-major.

    The operations are torchvision's, so the result is equal to the last bit.
    """
    size = torch.tensor(sizes, dtype=torch.float32)
    height_factor = torch.tensor(ratios, dtype=torch.float32).sqrt()
    width = (1 / height_factor[:, None] * size).flatten()
    height = (height_factor[:, None] * size).flatten()
    shapes = torch.stack((-width, -height, width, height), dim=1) / 2
    return shapes.round() if round else shapes
