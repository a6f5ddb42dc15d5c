"""Points inside the box, the object's size chooses the level (Tian et al. 2019, FCOS, section 3.2;
torchvision's FCOS)."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from densedet.core.arguments import NonNegativeFloat, PositiveFloat
from densedet.core.boxes import area, centers
from densedet.core.errors import PartError
from densedet.core.types import Assignment, Level
from densedet.plugins.matchers import _pairs as pairs


class FCOSMatcher:
    """An anchor answers for the smallest object that its centre lies in (strictly), if the object's size is
    for the anchor's level.

    Size is the largest of the four distances from the centre to the sides. Level l takes sizes from m_{l-1}
    to m_l; m_0 = 0, the last is infinite.
    ranges: m_1 ... m_{L-1} in pixels; null: reach * stride of each level but the last (64, 128, 256, 512 for
    strides 8 to 128, the paper's; where strides double, a level's range is 4 to 8 strides as in torchvision).
    reach: in strides, where ``ranges`` is null.
    ends: of the ranges. "closed" as the paper, so a size of exactly m_l is for both levels; "open" as
    torchvision, for neither.
    center_radius: the centre must also lie less than this many strides from the object's centre, along x and
    y (centre sampling);
    null: anywhere inside.
    area_offset: objects are ranked by area_offset - area in float32. 0 ranks them exactly; torchvision's 1e8
    takes areas within 8 square pixels for equal. Equal: the lower slot.

    torchvision: {ends: open, area_offset: 1e8}. No anchor is ignored; quality: None.
    PartError when the anchors are not those of the levels, or ranges do not fit them.
    """

    uses_predictions = False

    def __init__(
        self,
        *,
        ranges: tuple[PositiveFloat, ...] | None = None,
        reach: PositiveFloat = 8.0,
        ends: Literal["closed", "open"] = "closed",
        center_radius: PositiveFloat | None = 1.5,
        area_offset: NonNegativeFloat = 0.0,
    ) -> None:
        if ranges is not None and list(ranges) != sorted(set(ranges)):
            raise PartError(
                f"ranges {list(ranges)} must grow from level to level: write {sorted(set(ranges))}"
            )
        self.ranges = ranges
        self.reach = reach
        self.ends = ends
        self.center_radius = center_radius
        self.area_offset = area_offset

    @torch.no_grad()
    def __call__(
        self,
        boxes: Tensor,
        labels: Tensor,
        valid: Tensor,
        anchors: Tensor,
        levels: tuple[Level, ...],
        predictions: tuple[Tensor, Tensor] | None = None,
    ) -> Assignment:
        """See `densedet.core.contracts.Matcher`."""
        pairs.check_levels(levels, anchors)
        x, y = centers(anchors).T.contiguous()
        low, high, radius = self._limits(levels, anchors)
        # Each anchor decides for itself, so large maps are cut into pieces too.
        piece = max(1, pairs.LARGEST // max(1, boxes.shape[1]))
        parts = [
            pairs.in_chunks(partial(self._match, limits), len(limits[0]), boxes, valid).matched_idxs
            for limits in zip(*(values.split(piece) for values in (x, y, low, high, radius)))
        ]
        return Assignment(
            torch.cat(parts, dim=1) if parts else pairs.background(len(boxes), 0, boxes.device)[0]
        )

    def _limits(self, levels: tuple[Level, ...], anchors: Tensor) -> tuple[Tensor, ...]:
        """(N,) each: smallest and largest size, and the distance from the object's centre, that an anchor
        takes, in pixels."""
        counts = torch.tensor([level.count for level in levels])
        borders = self._borders(levels)
        radius = [
            float("inf") if self.center_radius is None else self.center_radius * level.stride
            for level in levels
        ]
        columns = (borders[:-1], borders[1:], radius)
        return tuple(
            torch.tensor(values, dtype=anchors.dtype).repeat_interleave(counts).to(anchors.device)
            for values in columns
        )

    def _borders(self, levels: tuple[Level, ...]) -> list[float]:
        """L + 1 borders in pixels, from 0 to infinity."""
        inner = (
            [self.reach * level.stride for level in levels[:-1]] if self.ranges is None else list(self.ranges)
        )
        if len(inner) != len(levels) - 1:
            raise PartError(
                f"ranges has {len(inner)} entries, but there are {len(levels)} levels: give "
                f"{len(levels) - 1} (the last level is open)"
            )
        return [0.0, *inner, float("inf")]

    def _match(self, limits: tuple[Tensor, ...], boxes: Tensor, valid: Tensor) -> Assignment:
        x, y, low, high, radius = limits
        left, top, right, bottom = pairs.columns(boxes, -1)
        # Buffers of B*G*N floats are used twice where they can be: allocating them is what takes the time on
        # a CPU.
        before, after = x - left, right - x
        nearest, size = torch.minimum(before, after), torch.maximum(before, after)
        torch.sub(y, top, out=before)
        torch.sub(bottom, y, out=after)
        for distance in (before, after):
            torch.minimum(nearest, distance, out=nearest)
            torch.maximum(size, distance, out=size)
        matches = (nearest > 0) & valid.unsqueeze(-1)
        matches &= (size >= low) & (size <= high) if self.ends == "closed" else (size > low) & (size < high)
        if self.center_radius is not None:
            center_x, center_y = centers(boxes).unsqueeze(-1).unbind(-2)
            matches &= torch.sub(x, center_x, out=before).abs_() < radius
            matches &= torch.sub(y, center_y, out=after).abs_() < radius
        rank = torch.where(matches, (self.area_offset - area(boxes)).unsqueeze(-1), -torch.inf)
        best, index = rank.max(dim=1)
        return Assignment(index.masked_fill_(best == -torch.inf, -1))
