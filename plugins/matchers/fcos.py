"""Points inside the box, the object's size chooses the level (Tian et al. 2019, FCOS, section 3.2)."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from densedet.core.arguments import NonNegativeFloat, PositiveFloat
from densedet.core.boxes import area, centers
from densedet.core.errors import PartError
from densedet.core.text import counted
from densedet.core.types import Assignment, Level, Reasons
from densedet.plugins.matchers import _pairs as pairs


class FCOSMatcher:
    """Match each anchor with the smallest object around its centre whose size fits the anchor's level.

    The centre must lie strictly inside the object. Size is the largest of the four distances from the centre
    to the object's sides. Level l takes sizes from m_(l-1) to m_l, where m_0 = 0 and the last m is infinite.
    No anchor is ignored, and `Assignment.quality` is None.

    An example: strides 8, 16, 32, so the ranges are 0..64, 64..128, 128..inf pixels, and the object (100,
    100, 300, 160), whose centre is (200, 130)::

        stride   anchor's centre   left   top   right   bottom   size
             8        (204, 132)    104    32      96       28    104   not in 0..64: background
            16        (200, 136)    100    36     100       24    100   in 64..128: match
            16        (232, 136)    132    36      68       24    132   not in 64..128: background
            32        (240, 144)    140    44      60       16    140   in 128..inf: match

    Centre sampling (1.5 strides) keeps the last match: the anchor's centre is 40 and 14 pixels from the
    object's, less than 1.5 * 32 = 48. With a center_radius of 1 it would be background.

    torchvision's FCOS has ends open and area_offset 1e8.

    Args:
        ranges: m_1 ... m_(L-1) in pixels, growing, one less than there are levels. null: ``reach`` * stride
            of each level but the last, which is the paper's 64, 128, 256, 512 for strides 8 to 128.
        reach: upper end of a level's range in strides; only where ``ranges`` is null.
        ends: "closed": a size of exactly m_l belongs to both levels, as in the paper; "open": to neither, as
            in torchvision.
        center_radius: centre sampling: the anchor's centre must also lie less than this many strides from the
            object's centre, along x and along y. null: anywhere inside the object.
        area_offset: objects are ranked by area_offset - area in float32. At 0 the smaller area wins exactly;
            at torchvision's 1e8, areas within 8 square pixels are equal. Of equal ones the lower slot wins.

    Raises:
        PartError: the ranges do not grow or do not fit the levels, or the anchors are not those of the
            levels.
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
        x, y = centers(anchors).T.contiguous()  # (N,) each
        low, high, radius = self._limits(levels, anchors)
        # Anchors do not depend on each other, so large maps are cut into pieces too.
        piece = max(1, pairs.LARGEST // max(1, boxes.shape[1]))
        parts = [
            pairs.in_chunks(partial(self._match, limits), len(limits[0]), boxes, valid).matched_idxs
            for limits in zip(*(values.split(piece) for values in (x, y, low, high, radius)))
        ]
        return Assignment(
            torch.cat(parts, dim=1) if parts else pairs.background(len(boxes), 0, boxes.device)[0]
        )

    @torch.no_grad()
    def reasons(
        self,
        assignment: Assignment,
        boxes: Tensor,
        labels: Tensor,
        valid: Tensor,
        anchors: Tensor,
        levels: tuple[Level, ...],
        predictions: tuple[Tensor, Tensor] | None = None,
    ) -> Reasons:
        """See `densedet.core.contracts.Matcher`."""
        low, high, radius = self._limits(levels, anchors)  # (N,) each
        points = centers(anchors)  # (N,2)
        inside = pairs.points_inside(boxes, points) & valid.unsqueeze(-1)  # (B,G,N)
        # The object that the sentence is about: the matched one, else the smallest around the centre.
        smallest = area(boxes).unsqueeze(-1).masked_fill(~inside, torch.inf).argmin(dim=1)  # (B,N)
        matched = assignment.matched_idxs
        about = torch.where(matched >= 0, matched, smallest)
        box = boxes.gather(1, about.unsqueeze(-1).expand(-1, -1, 4))  # (B,N,4)
        size = torch.cat([points - box[..., :2], box[..., 2:] - points], dim=-1).amax(dim=-1)  # (B,N)
        away = (centers(box) - points).abs().amax(dim=-1)  # (B,N)
        fits = (size >= low) & (size <= high) if self.ends == "closed" else (size > low) & (size < high)
        none = ~inside.any(dim=1)
        rule = torch.where(fits, torch.where(away < radius, 3, 2), 1).masked_fill(none, 0)
        rule[matched >= 0] = 4
        reach = "its farthest side is {size} pixels away, and this level takes sizes from {low} to {high}"
        near = "" if self.center_radius is None else ", less than {radius} pixels from the object's centre"
        return Reasons(
            (
                "Its centre lies in no object: background.",
                f"Its centre lies in {{object}}, but {reach}: background.",
                "Its centre lies in {object}, but {away} pixels from the object's centre along x or y, "
                "which is not less than {radius}: background.",
                "Its centre lies in {object}, but it was not chosen: background.",
                f"Its centre lies in {{object}}{near}; {reach}. Of the objects for which that holds, this "
                f"is the smallest: positive.",
            ),
            rule,
            {
                "size": size.float(),
                "away": away.float(),
                **{
                    name: values.float().expand(size.shape)
                    for name, values in (("low", low), ("high", high), ("radius", radius))
                },
            },
            {"object": about.masked_fill(none & (matched < 0), -1)},
        )

    def _limits(self, levels: tuple[Level, ...], anchors: Tensor) -> tuple[Tensor, ...]:
        """Smallest size, largest size and center_radius of each anchor, in pixels, (N,) each."""
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
        """m_0 ... m_L in pixels, from 0 to infinity."""
        inner = (
            [self.reach * level.stride for level in levels[:-1]] if self.ranges is None else list(self.ranges)
        )
        if len(inner) != len(levels) - 1:
            raise PartError(
                f"ranges has {counted(len(inner), 'entry')} for {counted(len(levels), 'level')}: give "
                f"{len(levels) - 1} (the last level is open)"
            )
        return [0.0, *inner, float("inf")]

    def _match(self, limits: tuple[Tensor, ...], boxes: Tensor, valid: Tensor) -> Assignment:
        x, y, low, high, radius = limits  # (N,) each
        left, top, right, bottom = pairs.columns(boxes, -1)  # (B,G,1) each
        # Allocating (B,G,N) buffers is what takes the time on a CPU, so these four are used again and again.
        before, after = x - left, right - x
        nearest, size = torch.minimum(before, after), torch.maximum(before, after)
        torch.sub(y, top, out=before)
        torch.sub(bottom, y, out=after)
        for distance in (before, after):
            torch.minimum(nearest, distance, out=nearest)
            torch.maximum(size, distance, out=size)
        matches = (nearest > 0) & valid.unsqueeze(-1)  # (B,G,N)
        matches &= (size >= low) & (size <= high) if self.ends == "closed" else (size > low) & (size < high)
        if self.center_radius is not None:
            center_x, center_y = centers(boxes).unsqueeze(-1).unbind(-2)  # (B,G,1) each
            matches &= torch.sub(x, center_x, out=before).abs_() < radius
            matches &= torch.sub(y, center_y, out=after).abs_() < radius
        # The smallest object of each anchor.
        rank = torch.where(matches, (self.area_offset - area(boxes)).unsqueeze(-1), -torch.inf)  # (B,G,N)
        matched_vals, matched_idxs = rank.max(dim=1)  # (B,N) each
        return Assignment(matched_idxs.masked_fill_(matched_vals == -torch.inf, -1))
