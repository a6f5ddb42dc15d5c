"""Task-aligned assignment (Feng et al. 2021, TOOD, section 3.2)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from densedet.core.arguments import NonNegativeFloat, PositiveInt
from densedet.core.boxes import centers, intersection
from densedet.core.errors import PartError
from densedet.core.types import Assignment, Level, Reasons
from densedet.plugins.matchers._pairs import in_chunks, pairwise_iou, points_inside, resolve_conflicts

MIN_IOU = 1e-5
"""The alignment counts a smaller IoU as this, so that scores still rank anchors whose decoded boxes miss the
object, and nothing is 0/0."""


class TaskAlignedMatcher:
    """Match each object with the anchors that predict it best at present, by score^alpha * IoU^beta.

    The score is that of the object's class, the IoU that of the anchor's decoded box. Candidates are the
    anchors whose centre lies strictly inside the object. An anchor that several objects choose goes to the
    one that its decoded box overlaps most, equal IoU: the lower slot. No anchor is ignored.
    `Assignment.quality` is the alignment, scaled per object so that its largest value is the largest IoU of
    the object's anchors.

    For example, with alpha 1, beta 1 and topk 2, an object whose candidates have scores 0.1, 0.8, 0.4 and IoU
    1, 0.5, 0.5 has alignments 0.1, 0.4, 0.2. The last two candidates match. The largest alignment 0.4 becomes
    0.5, their largest IoU, so their qualities are 0.5 and 0.2 / 0.4 * 0.5 = 0.25.

    Args:
        topk: anchors per object.
        alpha: power of the score.
        beta: power of the IoU.
        nearest: true: an object without a candidate may choose among the anchors whose centre is nearest to
            its own, if they touch it. false: it ends without an anchor.

    Raises:
        PartError: it is called without predictions.
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
                "the task_aligned matcher got no predictions: call it with (scores, decoded boxes), or name "
                "another matcher, e.g. iou"
            )
        scores, decoded = predictions
        return in_chunks(partial(self._match, anchors), len(anchors), boxes, labels, valid, scores, decoded)

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
        assert predictions is not None
        scores, alignment, ious = self._alignment(boxes, labels, *predictions)  # (B,G,N) each
        inside = points_inside(boxes, centers(anchors)) & valid.unsqueeze(-1)  # (B,G,N)
        matched = assignment.matched_idxs
        likely = alignment.masked_fill(~inside, -1.0).argmax(dim=1)  # (B,N)
        about = torch.where(matched >= 0, matched, likely).unsqueeze(1)  # (B,1,N)
        best = alignment.masked_fill(~inside, 0.0).topk(min(self.topk, len(anchors)), dim=2).values[..., -1]
        is_inside, none = inside.gather(1, about).squeeze(1), ~inside.any(dim=1)  # (B,N) each
        rule = torch.ones_like(matched).masked_fill(none, 0)
        rule[matched >= 0] = torch.where(is_inside, 2, 3)[matched >= 0]
        power = (
            f"score {{score}} to the power of {self.alpha:g}, times IoU {{iou}} to the power of {self.beta:g}"
        )
        return Reasons(
            (
                "Its centre lies in no object: background.",
                f"Its centre lies in {{object}}, which it predicts with an alignment of {{alignment}} "
                f"({power}). The {self.topk} best of the object have {{least}} or more, or another object "
                f"has a better claim: background.",
                f"It is one of the {self.topk} anchors inside of {{object}} that predict it best at "
                f"present: its alignment is {{alignment}} ({power}): positive.",
                "No anchor's centre lies inside of {object}. This is the nearest that touches it: positive.",
            ),
            rule,
            {
                "score": scores.gather(1, about).squeeze(1).float(),
                "iou": ious.gather(1, about).squeeze(1).float(),
                "alignment": alignment.gather(1, about).squeeze(1).float(),
                "least": best.gather(1, about.squeeze(1)).float(),
            },
            {"object": about.squeeze(1).masked_fill(none & (matched < 0), -1)},
        )

    def _alignment(
        self, boxes: Tensor, labels: Tensor, scores: Tensor, decoded: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the score of each object's class, the alignment and the IoU with each anchor's
        prediction, (B,G,N) each."""
        ious = pairwise_iou(boxes, decoded.to(boxes.dtype))
        channel = labels.clamp(min=0).unsqueeze(-1).expand(ious.shape)
        own_scores = scores.to(boxes.dtype).mT.gather(1, channel)
        alignment = own_scores.pow(self.alpha).mul_(ious.clamp(min=MIN_IOU).pow_(self.beta))
        return own_scores, alignment, ious

    def _match(
        self, anchors: Tensor, boxes: Tensor, labels: Tensor, valid: Tensor, scores: Tensor, decoded: Tensor
    ) -> Assignment:
        count = len(anchors)
        _, alignment, ious = self._alignment(boxes, labels, scores, decoded)  # (B,G,N) each
        candidate = points_inside(boxes, centers(anchors))  # (B,G,N)
        if self.nearest:
            self._add_nearest(candidate, boxes, valid, anchors)
        candidate &= valid.unsqueeze(-1)
        value, anchor = alignment.masked_fill(~candidate, -1.0).topk(min(self.topk, count), dim=2)  # (B,G,k)
        slot = torch.arange(boxes.shape[1], device=boxes.device)[:, None].expand(anchor.shape)
        matched_idxs, matched_vals = resolve_conflicts(
            anchor.flatten(1),
            slot.flatten(1),
            ious.gather(2, anchor).flatten(1),
            (value >= 0).flatten(1),
            count,
        )
        chosen = alignment.gather(1, matched_idxs.clamp(min=0).unsqueeze(1)).squeeze(1)  # (B,N)
        return Assignment(matched_idxs, _scaled(chosen, matched_vals, matched_idxs, boxes.shape[1]).float())

    @staticmethod
    def _add_nearest(candidate: Tensor, boxes: Tensor, valid: Tensor, anchors: Tensor) -> None:
        """Mark the nearest anchors that touch it, of each valid object without a candidate, in place."""
        image, slot = (valid & ~candidate.any(dim=2)).nonzero(as_tuple=True)  # (M,) each
        distance = (centers(boxes[image, slot]).unsqueeze(1) - centers(anchors)).square().sum(dim=-1)  # (M,N)
        touching = intersection(boxes[image, slot].unsqueeze(1), anchors) > 0
        candidate[image, slot] = (distance == distance.amin(dim=1, keepdim=True)) & touching


def _scaled(alignment: Tensor, ious: Tensor, matched_idxs: Tensor, num_objects: int) -> Tensor:
    """Scale the alignment (B,N) so that each object's largest is its largest IoU; 0 off the positives."""
    owner = matched_idxs.clamp(min=0)
    alignment = alignment.masked_fill(matched_idxs < 0, 0.0)
    zeros = alignment.new_zeros(len(alignment), num_objects)
    largest_alignment = zeros.scatter_reduce(1, owner, alignment, "amax").gather(1, owner)  # (B,N)
    largest_iou = zeros.scatter_reduce(1, owner, ious, "amax").gather(1, owner)  # (B,N)
    return alignment / largest_alignment.clamp(min=torch.finfo(alignment.dtype).tiny) * largest_iou
