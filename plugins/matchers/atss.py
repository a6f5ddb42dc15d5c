"""Adaptive training sample selection (Zhang et al. 2020, ATSS, section 3.2, algorithm 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from densedet.core.arguments import PositiveInt
from densedet.core.boxes import centers, iou
from densedet.core.types import Assignment, Level, Reasons
from densedet.plugins.matchers._pairs import check_levels, in_chunks, resolve_conflicts


class ATSSMatcher:
    """Match each object by an IoU threshold of its own.

    The threshold is the mean plus the standard deviation of its candidates' IoU. An object's candidates are
    the anchors nearest to its centre on each level. Those match whose IoU reaches the threshold and whose
    centre lies inside the object; an anchor that several objects choose goes to the one with the largest IoU,
    equal IoU: the lower slot. No anchor is ignored. `Assignment.quality` is the IoU with the matched object.
    `by_the_book` in tests/plugins/matchers/test_atss.py is the paper's algorithm in plain loops.

    For example, an object with candidates of IoU 0.1, 0.2, 0.3 and 0.6 has mean 0.3, standard deviation
    sqrt((0.04 + 0.01 + 0 + 0.09) / 3) = 0.216 and threshold 0.516: the last candidate matches.

    Args:
        topk: cells per level that give candidates, each with all its anchors; a level with fewer cells gives
            all it has.
        rescue: true: an object without a match (a small one between the centres) gets its candidate with the
            largest IoU, if that is above 0, the nearest of equal ones. false: it ends without an anchor, as
            in the paper, which is frequent on small inputs.

    Raises:
        PartError: the anchors are not those of the levels.
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
        candidates = self._candidates(boxes, anchors, levels)  # (B,G,M)
        chosen = anchors[candidates]  # (B,G,M,4)
        ious = iou(boxes.unsqueeze(2), chosen)  # (B,G,M)
        # One candidate has no deviation: dividing by M-1 would make it NaN.
        deviation = ious.std(dim=2, keepdim=True, correction=min(1, ious.shape[2] - 1))
        matches = ious >= ious.mean(dim=2, keepdim=True) + deviation
        points = centers(chosen)  # (B,G,M,2)
        matches &= ((points > boxes[..., None, :2]) & (points < boxes[..., None, 2:])).all(dim=-1)
        if self.rescue:
            best, which = ious.max(dim=2, keepdim=True)  # (B,G,1) each
            unmatched = ~matches.any(dim=2, keepdim=True) & (best > 0)
            matches |= torch.zeros_like(matches).scatter_(2, which, unmatched)
        matches &= valid.unsqueeze(-1)
        slots = torch.arange(boxes.shape[1], device=boxes.device)[:, None].expand(candidates.shape)
        matched_idxs, matched_vals = resolve_conflicts(
            candidates.flatten(1), slots.flatten(1), ious.flatten(1), matches.flatten(1), len(anchors)
        )
        return Assignment(matched_idxs, matched_vals.float())

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
        candidates = self._candidates(boxes, anchors, levels)  # (B,G,M)
        chosen = anchors[candidates]  # (B,G,M,4)
        few = iou(boxes.unsqueeze(2), chosen)  # (B,G,M)
        limits = few.mean(dim=2) + few.std(dim=2, correction=min(1, few.shape[2] - 1))  # (B,G)
        # Of each anchor: its IoU with the objects whose candidate it is, -1 with the others.
        ious = few.new_full((*valid.shape, len(anchors)), -1.0).scatter_(2, candidates, few)
        largest, best = ious.masked_fill(~valid.unsqueeze(-1), -1.0).max(dim=1)  # (B,N) each
        matched = assignment.matched_idxs
        best = torch.where(matched >= 0, matched, best)
        own = ious.gather(1, best.unsqueeze(1)).squeeze(1)  # (B,N)
        limit = limits.gather(1, best)  # (B,N)
        rule = torch.where(own < limit, 1, 2).masked_fill(largest < 0, 0)
        rule[matched >= 0] = torch.where(own < limit, 4, 3)[matched >= 0]
        nearest = f"the anchors of the {self.topk} cells of its level nearest to the object's centre"
        limited = "{limit}, the mean of its candidates' IoU plus their standard deviation"
        return Reasons(
            (
                f"It is no object's candidate, which are {nearest}: background.",
                f"It is a candidate of {{object}}, but their IoU, {{own}}, is below the object's threshold "
                f"of {limited}: background.",
                f"Its IoU with {{object}}, {{own}}, reaches the object's threshold of {limited}, but its "
                f"centre lies outside of the object: background.",
                f"Its IoU with {{object}}, {{own}}, reaches the object's threshold of {limited}, and its "
                f"centre lies inside: positive.",
                "No candidate of {object} reaches its threshold of {limit} with the centre inside. This one "
                "has the largest IoU, {own}: positive all the same.",
            ),
            rule,
            {"own": own.clamp(min=0).float(), "limit": limit.float()},
            {"object": best.masked_fill(largest < 0, -1)},
        )

    def _candidates(self, boxes: Tensor, anchors: Tensor, levels: tuple[Level, ...]) -> Tensor:
        """Each object's nearest anchors, int64 (B,G,M): those of ``topk`` cells of each level, nearest
        first."""
        x, y = centers(boxes).unsqueeze(-1).unbind(-2)  # (B,G,1) each
        found, start = [], 0
        for level in levels:
            anchor_x, anchor_y = centers(anchors[start : start + level.count]).T.contiguous()  # (n,) each
            distance = (anchor_x - x).square_() + (anchor_y - y).square_()  # (B,G,n)
            count = min(self.topk * level.anchors, level.count)
            found.append(distance.topk(count, dim=2, largest=False).indices + start)
            start += level.count
        return torch.cat(found, dim=2)
