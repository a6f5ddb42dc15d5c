"""Task-aligned assignment (Feng et al. 2021, TOOD, section 3.2)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from densedet.core.arguments import NonNegativeFloat, PositiveInt
from densedet.core.boxes import centers, intersection
from densedet.core.errors import PartError
from densedet.core.types import Assignment, Level
from densedet.plugins.matchers._pairs import best_claims, in_chunks, pairwise_iou, points_inside

FLOOR = 1e-5
"""IoU of the alignment is at least this, so that scores still rank anchors whose decoded boxes miss the
object, and nothing is 0/0."""


class TaskAlignedMatcher:
    """An object takes the anchors that predict it best by now: score^alpha * IoU^beta, its label's score and
    its decoded box.

    topk: anchors per object. alpha, beta: powers of the score and of the IoU.
    nearest: an object that contains no anchor's centre may choose among the anchors whose centre is nearest
    to its own; false: it ends without an anchor. Only anchors that touch the object are taken.

    Candidates are the anchors whose centre lies strictly inside the object. An anchor chosen by several
    objects goes to the one that
    its decoded box overlaps most, equal IoU: the lower slot. No anchor is ignored.
    quality: score^alpha * IoU^beta, per object scaled so that its largest is the largest IoU of its anchors.
    PartError without predictions.
    """

    uses_predictions = True

    def __init__(
        self,
        *,
        topk: PositiveInt = 13,
        alpha: NonNegativeFloat = 1.0,
        beta: NonNegativeFloat = 6.0,
        nearest: bool = True,
    ) -> None:
        self.topk = topk
        self.alpha = alpha
        self.beta = beta
        self.nearest = nearest

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
        """See `densedet.core.contracts.Matcher`; predictions are scores (B,N,C) and decoded boxes (B,N,4)."""
        if predictions is None:
            raise PartError(
                "the task_aligned matcher got no predictions: hand it (scores, decoded boxes), or name "
                "another matcher, e.g. iou"
            )
        scores, decoded = predictions
        return in_chunks(partial(self._match, anchors), len(anchors), boxes, labels, valid, scores, decoded)

    def _match(
        self, anchors: Tensor, boxes: Tensor, labels: Tensor, valid: Tensor, scores: Tensor, decoded: Tensor
    ) -> Assignment:
        count, points = len(anchors), centers(anchors)
        overlaps = pairwise_iou(boxes, decoded.to(boxes.dtype))
        own_scores = scores.to(boxes.dtype).mT.gather(
            1, labels.clamp(min=0).unsqueeze(-1).expand(-1, -1, count)
        )
        alignment = own_scores.pow(self.alpha).mul_(overlaps.clamp(min=FLOOR).pow_(self.beta))
        candidate = points_inside(boxes, points)
        if self.nearest:
            self._add_nearest(candidate, boxes, valid, anchors)
        candidate &= valid.unsqueeze(-1)
        value, anchor = alignment.masked_fill(~candidate, -1.0).topk(min(self.topk, count), dim=2)
        slot = torch.arange(boxes.shape[1], device=boxes.device)[:, None].expand(anchor.shape)
        overlap = overlaps.gather(2, anchor)
        index, overlap = best_claims(
            anchor.flatten(1), slot.flatten(1), overlap.flatten(1), (value >= 0).flatten(1), count
        )
        chosen = alignment.gather(1, index.clamp(min=0).unsqueeze(1)).squeeze(1)
        return Assignment(index, _scaled(chosen, overlap, index, boxes.shape[1]).float())

    @staticmethod
    def _add_nearest(candidate: Tensor, boxes: Tensor, valid: Tensor, anchors: Tensor) -> None:
        """Mark the nearest anchors (all that are equally near) of valid objects without any, if they touch;
        candidate bool (B,G,N), in place."""
        image, slot = (valid & ~candidate.any(dim=2)).nonzero(as_tuple=True)
        distance = (centers(boxes[image, slot]).unsqueeze(1) - centers(anchors)).square().sum(dim=-1)
        touching = intersection(boxes[image, slot].unsqueeze(1), anchors) > 0
        candidate[image, slot] = (distance == distance.amin(dim=1, keepdim=True)) & touching


def _scaled(alignment: Tensor, overlap: Tensor, index: Tensor, objects: int) -> Tensor:
    """(B,N) alignment, scaled per object to a largest value of its largest overlap; 0 where index is
    negative."""
    owner = index.clamp(min=0)
    alignment = alignment.masked_fill(index < 0, 0.0)
    nothing = alignment.new_zeros(len(index), objects)
    most_aligned = nothing.scatter_reduce(1, owner, alignment, "amax").gather(1, owner)
    most_overlap = nothing.scatter_reduce(1, owner, overlap, "amax").gather(1, owner)
    return alignment / most_aligned.clamp(min=torch.finfo(alignment.dtype).tiny) * most_overlap
