"""Thresholds on IoU (Liu et al. 2016, SSD, section 2.2; Lin et al. 2017, RetinaNet, section 4)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from densedet.core.arguments import Factor, Probability
from densedet.core.errors import PartError
from densedet.core.types import Assignment, Level, Reasons
from densedet.plugins.matchers._bipartite import bipartite_matching
from densedet.plugins.matchers._pairs import background, in_chunks, largest_of_group, pairwise_iou


class IoUMatcher:
    """Match each anchor with the object that it overlaps most, and each object with its best anchor.

    The first takes an IoU of ``positive``, the second is called a low-quality match. `Assignment.quality` is
    the IoU with the matched object. Of objects with equal IoU the lower slot is taken.

    An example of a conflict: three anchors of 10 x 10 pixels in a row, and the objects (0, 0, 12, 3) and
    (0, 0, 12, 2). Their IoU with anchor 0 is 30/(100+36-30) and 20/(100+24-20), with anchor 1 it is 6/130 and
    4/120::

                    anchor 0   anchor 1   anchor 2
        object 0       0.283      0.046      0.000
        object 1       0.192      0.033      0.000

        low_quality_matches: none       -> matched_idxs [-1, -1, -1]: no IoU reaches 0.5
        low_quality_conflict: bipartite -> matched_idxs [ 0,  1, -1]: object 0 takes anchor 0 (0.283 is the
                                           largest IoU), object 1 the best that is left (0.033)
        low_quality_conflict: best      -> matched_idxs [ 0, -1, -1]: object 1 loses anchor 0 and gets none
        low_quality_conflict: last      -> matched_idxs [ 1, -1, -1]: the later object takes anchor 0

    torchvision's RetinaNet has positive 0.5, negative 0.4, low_quality_matches best_with_ties,
    low_quality_target best_object and low_quality_min_iou null; its SSD has positive 0.5, negative 0.5,
    low_quality_min_iou null and low_quality_conflict last. `reference` in tests/plugins/matchers/test_iou.py
    is the same matcher for one image in some twenty plain lines.

    Args:
        positive: an IoU of at least this is a match.
        negative: an IoU below this is background; anchors between the two thresholds are ignored.
        low_quality_matches: whether an object also gets its best anchor where their IoU is below
            ``positive``. "best": yes, the first of several anchors of equal IoU; "best_with_ties": yes, all
            of them; "none": no, an object may end without an anchor.
        low_quality_min_iou: a low-quality match needs an IoU above this. At 0 an object that touches no
            anchor gets none. null: no limit, as torchvision has it; with ties, an object that touches no
            anchor then gets every anchor.
        low_quality_target: the object that the anchor of a low-quality match is trained on.
            "claiming_object": the object whose best anchor it is, although the anchor may overlap another one
            more (SSD); "best_object": the object that the anchor overlaps most (RetinaNet), so that an object
            may still end without an anchor.
        low_quality_conflict: the rule for an anchor that is the best of several objects; only with
            low_quality_target claiming_object. "bipartite": the larger IoU wins, and the other object takes
            its best anchor among those that it wins, as in SSD's original code; "best": the larger IoU wins,
            the other object gets none; "last": the higher slot wins, as in torchvision's SSD.

    Raises:
        PartError: ``negative`` is above ``positive``.
    """

    uses_predictions = False

    def __init__(
        self,
        *,
        positive: Factor = 0.5,
        negative: Factor = 0.4,
        low_quality_matches: Literal["none", "best", "best_with_ties"] = "best",
        low_quality_min_iou: Probability | None = 0.0,
        low_quality_target: Literal["claiming_object", "best_object"] = "claiming_object",
        low_quality_conflict: Literal["bipartite", "best", "last"] = "bipartite",
    ) -> None:
        if negative > positive:
            raise PartError(
                f"negative {negative:g} is above positive {positive:g}: lower negative to {positive:g} "
                f"or less"
            )
        self.positive = positive
        self.negative = negative
        self.low_quality_matches = low_quality_matches
        # Empty slots have an IoU of -1, objects at least 0: above -1 is any object.
        self.min_iou = -1.0 if low_quality_min_iou is None else low_quality_min_iou
        self.low_quality_target = low_quality_target
        self.low_quality_conflict = low_quality_conflict

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
        return in_chunks(lambda b, v: self._match(b, v, anchors), len(anchors), boxes, valid)

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
        ious = pairwise_iou(boxes, anchors).masked_fill(~valid.unsqueeze(-1), -1.0)  # (B,G,N)
        largest, best = ious.max(dim=1)  # (B,N) each; equal: the lower slot
        matched = assignment.matched_idxs
        own = ious.gather(1, matched.clamp(min=0).unsqueeze(1)).squeeze(1)  # (B,N), with the matched object
        rule = torch.where(largest > 0, 1, 0)
        rule[matched == -2] = 2
        rule[matched >= 0] = 3
        rule[(matched >= 0) & (own < self.positive)] = (
            4 if self.low_quality_target == "claiming_object" else 5
        )
        rule[(matched >= 0) & (matched != best)] = 6
        return Reasons(
            (
                "No object overlaps it: background, so every class is to score low here.",
                f"Its largest IoU is {{iou}}, with {{best}}. That is below {self.negative:g}: background, "
                f"so every class is to score low here.",
                f"Its largest IoU is {{iou}}, with {{best}}. That is at least {self.negative:g} but below "
                f"{self.positive:g}: it is ignored, and no loss is taken here.",
                f"Its IoU with {{object}} is {{own}}, and at least {self.positive:g}: positive, it is to "
                f"find this object.",
                f"Its IoU with {{object}} is {{own}}, below {self.positive:g}. Each object keeps its best "
                f"anchor all the same, and that is this one: a forced match.",
                f"It is the best anchor of an object, though no IoU of it reaches {self.positive:g}: a "
                f"forced match. It is trained on the object that it overlaps most, {{object}} (IoU "
                f"{{own}}).",
                "It overlaps {best} most (IoU {iou}), but it is the anchor that {object} keeps (IoU {own}), "
                "since each object gets one: a forced match.",
            ),
            rule,
            {"iou": largest.clamp(min=0).float(), "own": own.clamp(min=0).float()},
            {"best": best.masked_fill(largest <= 0, -1), "object": matched.clamp(min=-1)},
        )

    def _match(self, boxes: Tensor, valid: Tensor, anchors: Tensor) -> Assignment:
        image, slot = valid.nonzero(as_tuple=True)  # (M,) each: the M objects; half the slots are padding
        object_ious = pairwise_iou(boxes[image, slot], anchors)  # (M,N)
        ious = boxes.new_full((*valid.shape, len(anchors)), -1.0)  # (B,G,N)
        ious[image, slot] = object_ious
        matched_idxs, matched_vals = background(len(valid), len(anchors), boxes.device)  # (B,N) each

        # Thresholds, on the Q anchors that are near an object; these are few.
        near = (ious.amax(dim=1) >= self.negative).nonzero(as_tuple=True)  # image (Q,), anchor (Q,)
        vals, idxs = _best_object(ious, *near)  # (Q,) each
        matches = vals >= self.positive
        matched_idxs[near] = torch.where(matches, idxs, -2)
        matched_vals[near] = torch.where(matches, vals, 0.0).float()

        # Low-quality matches, which come before the thresholds.
        if self.low_quality_matches != "none":
            row, anchor = self._low_quality_pairs(object_ious, image)  # (Q,) each
            place = image[row], anchor
            if self.low_quality_target == "claiming_object":
                vals, idxs = object_ious[row, anchor], slot[row]
            else:
                vals, idxs = _best_object(ious, *place)
            matched_idxs[place], matched_vals[place] = idxs, vals.float()
        return Assignment(matched_idxs, matched_vals)

    def _low_quality_pairs(self, ious: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Find each object's best anchor, without conflicts.

        Args:
            ious: (M,N), IoU of the batch's M objects with the anchors.
            image: int64 (M,), the image of each object.

        Returns:
            Rows and anchors, int64 (Q,) each. An anchor of an image occurs once, except with
            low_quality_target best_object, where the row does not matter.
        """
        if self.low_quality_matches == "best":
            if self.low_quality_target == "claiming_object" and self.low_quality_conflict == "bipartite":
                return bipartite_matching(ious, image, self.min_iou)
            value, anchor = ious.max(dim=1)  # (M,) each
            row = (value > self.min_iou).nonzero().squeeze(1)  # (Q,)
            anchor, value = anchor[row], value[row]
        else:
            largest = ious.amax(dim=1, keepdim=True)  # (M,1)
            row, anchor = ((ious == largest) & (largest > self.min_iou)).nonzero(as_tuple=True)  # (Q,) each
            value = largest[row, 0]
        if self.low_quality_target == "best_object":
            return row, anchor
        if self.low_quality_conflict == "last":
            value = row.float()
        elif self.low_quality_conflict == "bipartite":
            # The anchor that the bipartite matching gives an object is not lost to a tie of another object: a
            # value of 2 is above every IoU.
            first_row, first_anchor = bipartite_matching(ious, image, self.min_iou)
            row, anchor = torch.cat((first_row, row)), torch.cat((first_anchor, anchor))
            value = torch.cat((torch.full_like(first_row, 2, dtype=value.dtype), value))
        wins = largest_of_group(image[row] * ious.shape[1] + anchor, value)
        return row[wins], anchor[wins]


def _best_object(ious: Tensor, image: Tensor, anchor: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of an anchor's IoUs (B,G,N) and its slot, (Q,) each, of Q anchors; equal: the lower
    slot."""
    vals, idxs = ious.transpose(1, 2)[image, anchor].max(dim=1)
    return vals, idxs
