"""Default boxes (Liu et al. 2016, SSD, section 2.2; torchvision's DefaultBoxGenerator)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from densedet.core.arguments import PositiveFloat
from densedet.core.errors import PartError
from densedet.core.text import counted
from densedet.plugins.anchors._grid import check_count, check_maps, per_level


class DefaultBoxAnchors:
    """Two squares and two boxes per ratio on every cell, sized relative to the image.

    Level k has a scale s_k. The boxes of a cell are a square of s_k, a square of sqrt(s_k * s_{k+1}), and per
    ratio a horizontal and a vertical box. For example, s_k = 0.2, s_{k+1} = 0.45 and the ratio 4 give (width,
    height) of (0.2, 0.2), (0.3, 0.3), (0.4, 0.1) and (0.1, 0.4).

    Args:
        strides: (wired) stride of each level; only their number counts.
        scales: s_1 ... s_L and one more, 1 is the whole image; null: linear from min_scale to max_scale, then
            1 (section 2.2, equation 4).
        min_scale: scale of the first level where scales is null. A single level takes min_scale and max_scale
            as its two scales.
        max_scale: scale of the last level where scales is null.
        ratios: long side / short side, each used horizontally and vertically; the squares are always there.
            One list for all levels ([2]: 4 boxes per cell, [2, 3]: 6) or a list per level (SSD300: [[2], [2,
            3], [2, 3], [2, 3], [2], [2]]).
        steps: distance of two cells in pixels, per level; null: image side / map side, so that the cells tile
            the image.
        clip: whether width and height are cut to the image's, as torchvision does. Corners never are, so
            boxes at the border reach over it.
        relative_to: what a scale of 1 means. "sides": the image's width for widths and its height for
            heights, as in SSD and torchvision; on a 128x64 image "squares" are then twice as wide as high,
            which is right where images were squeezed by as much. "short": the short side for both, so squares
            are squares. "area": sqrt(width * height) for both: squares, with the areas of "sides". All agree
            on square images.

    Attributes:
        num_anchors: boxes per cell of each level.

    Raises:
        PartError: where arguments are given for another number of levels, the scales do not ascend, or a
            ratio repeats boxes.
    """

    def __init__(
        self,
        *,
        strides: tuple[int, ...],
        scales: tuple[PositiveFloat, ...] | None = None,
        min_scale: PositiveFloat = 0.2,
        max_scale: PositiveFloat = 0.9,
        ratios: tuple[PositiveFloat, ...] | tuple[tuple[PositiveFloat, ...], ...] = (2.0, 3.0),
        steps: tuple[PositiveFloat, ...] | None = None,
        clip: bool = True,
        relative_to: Literal["sides", "short", "area"] = "sides",
    ) -> None:
        levels = len(strides)
        if scales is None:
            scales = _linear_scales(min_scale, max_scale, levels)
        elif len(scales) != levels + 1:
            raise PartError(
                f"scales has {counted(len(scales), 'entry')}, but the neck has "
                f"{counted(levels, 'level')}: give "
                f"{levels + 1}, the last for the extra square"
            )
        if steps is not None:
            check_count(len(steps), levels, f"steps has {counted(len(steps), 'entry')}")
        self.steps = steps
        self.clip = clip
        self.relative_to = relative_to
        level_ratios = per_level(ratios, levels, "ratios")
        for level in level_ratios:
            _check_ratios(level)
        self._sides = [
            _relative_sides(s, following, r) for s, following, r in zip(scales, scales[1:], level_ratios)
        ]
        self.num_anchors = tuple(len(sides) for sides in self._sides)

    def __call__(
        self, level_sizes: Sequence[tuple[int, int]], image_hw: tuple[int, int], device: torch.device | str
    ) -> list[Tensor]:
        """Make the anchors: float32 (h*w*A,4) xyxy per level, order y, x, anchor.

        Raises:
            PartError: where the number of maps is not that of the strides.
        """
        check_maps(level_sizes, len(self._sides))
        height, width = image_hw
        extent = torch.tensor([width, height, width, height], dtype=torch.float32, device=device)
        unit = {"sides": None, "short": min(height, width), "area": math.sqrt(height * width)}[
            self.relative_to
        ]
        across, down = (1.0, 1.0) if unit is None else (unit / width, unit / height)
        boxes = []
        # Centres and sides are computed relative to the image, in torchvision's order of operations.
        for k, (rows, columns) in enumerate(level_sizes):
            cells_x, cells_y = (
                (columns, rows) if self.steps is None else (width / self.steps[k], height / self.steps[k])
            )
            x = (torch.arange(columns, dtype=torch.float32, device=device) + 0.5) / cells_x
            y = (torch.arange(rows, dtype=torch.float32, device=device) + 0.5) / cells_y
            center = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).unsqueeze(2)
            sides = torch.tensor(
                [(w * across, h * down) for w, h in self._sides[k]], dtype=torch.float32, device=device
            )
            half = 0.5 * (sides.clamp(max=1) if self.clip else sides)
            boxes.append((torch.cat((center - half, center + half), dim=-1) * extent).reshape(-1, 4))
        return boxes


def _linear_scales(smallest: float, largest: float, levels: int) -> tuple[float, ...]:
    if smallest >= largest:
        raise PartError(
            f"min_scale {smallest} is not below max_scale {largest}: give a smaller min_scale or a "
            f"larger max_scale"
        )
    if levels == 1:
        return (smallest, largest)
    return tuple(smallest + (largest - smallest) * k / (levels - 1.0) for k in range(levels)) + (1.0,)


def _check_ratios(ratios: tuple[float, ...]) -> None:
    """Refuse ratios that repeat boxes: 1, and 0.5 beside 2, since each ratio is used in both directions."""
    if 1.0 in ratios:
        raise PartError(f"ratios {list(ratios)} holds 1, but the squares are always there: leave the 1 out")
    long = [max(ratio, 1 / ratio) for ratio in ratios]
    for i, ratio in enumerate(long):
        if any(math.isclose(ratio, other) for other in long[:i]):
            raise PartError(
                f"ratios {list(ratios)} gives boxes twice, as each is used in both directions: leave "
                f"{ratios[i]:g} out"
            )


def _relative_sides(scale: float, following: float, ratios: tuple[float, ...]) -> list[tuple[float, float]]:
    """Compute (width, height) of the boxes of one cell, relative to the image."""
    extra = math.sqrt(scale * following)
    sides = [(scale, scale), (extra, extra)]
    for ratio in ratios:
        long, short = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
        sides += [(long, short), (short, long)]
    return sides
