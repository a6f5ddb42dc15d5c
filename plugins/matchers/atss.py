"""Adaptive training sample selection (Zhang et al. 2020, ATSS, section 3.2, algorithm 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from densedet.core.arguments import PositiveInt
from densedet.core.boxes import centers, iou
from densedet.core.types import Assignment, Level
from densedet.plugins.matchers._pairs import best_claims, check_levels, in_chunks


class ATSSMatcher:
    """Each object's candidates are the anchors nearest to its centre on each level; those of them match whose
    IoU reaches the mean plus the standard deviation of the candidates' IoU and whose centre lies inside the
    object.

    topk: cells per level, all anchors of each; a level with fewer cells gives all it has.
    rescue: an object that no candidate passes for (a small one between the centres) takes its candidate with
    the largest IoU, if that is above 0, among equals the nearest. The paper leaves it without an anchor
    (false), which on small inputs is frequent.

    index: the object with the largest IoU where several claim an anchor, equal IoU: the lower slot; no anchor
    is ignored.
    quality: IoU with it. PartError when the anchors are not those of the levels.
    """

    uses_predictions = False

    def __init__(self, *, topk: PositiveInt = 9, rescue: bool = True) -> None:
        self.topk = topk
        self.rescue = rescue

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
        check_levels(levels, anchors)
        return in_chunks(lambda b, v: self._match(b, v, anchors, levels), len(anchors), boxes, valid)

    def _match(self, boxes: Tensor, valid: Tensor, anchors: Tensor, levels: tuple[Level, ...]) -> Assignment:
        candidates = self._candidates(boxes, anchors, levels)
        chosen = anchors[candidates]
        overlaps = iou(boxes.unsqueeze(2), chosen)
        # One candidate has no deviation: dividing by M-1 would make it NaN.
        deviation = overlaps.std(dim=2, keepdim=True, correction=min(1, overlaps.shape[2] - 1))
        passes = overlaps >= overlaps.mean(dim=2, keepdim=True) + deviation
        points = centers(chosen)
        passes &= ((points > boxes[..., None, :2]) & (points < boxes[..., None, 2:])).all(dim=-1)
        if self.rescue:
            best, which = overlaps.max(dim=2, keepdim=True)
            lonely = ~passes.any(dim=2, keepdim=True) & (best > 0)
            passes |= torch.zeros_like(passes).scatter_(2, which, lonely)
        passes &= valid.unsqueeze(-1)
        slots = torch.arange(boxes.shape[1], device=boxes.device)[:, None].expand(candidates.shape)
        index, quality = best_claims(
            candidates.flatten(1), slots.flatten(1), overlaps.flatten(1), passes.flatten(1), len(anchors)
        )
        return Assignment(index, quality.float())

    def _candidates(self, boxes: Tensor, anchors: Tensor, levels: tuple[Level, ...]) -> Tensor:
        """int64 (B,G,M): per level the topk cells' anchors nearest to the object's centre, the nearest
        first."""
        x, y = centers(boxes).unsqueeze(-1).unbind(-2)
        found, start = [], 0
        for level in levels:
            anchor_x, anchor_y = centers(anchors[start : start + level.count]).T.contiguous()
            distance = (anchor_x - x).square_() + (anchor_y - y).square_()
            count = min(self.topk * level.anchors, level.count)
            found.append(distance.topk(count, dim=2, largest=False).indices + start)
            start += level.count
        return torch.cat(found, dim=2)
