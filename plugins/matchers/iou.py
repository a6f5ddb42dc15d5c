"""Thresholds on IoU (Liu et al. 2016, SSD, section 2.2; Lin et al. 2017, RetinaNet, section 4; torchvision's
Matcher and SSDMatcher)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from densedet.core.arguments import Factor, Probability
from densedet.core.errors import PartError
from densedet.core.types import Assignment, Level
from densedet.plugins.matchers._forcing import one_to_one
from densedet.plugins.matchers._pairs import background, in_chunks, outbid, pairwise_iou


class IoUMatcher:
    """An anchor answers for the object that it overlaps most, if the IoU suffices; objects left over may
    force an anchor.

    positive: IoU >= this is a match. negative: IoU < this is background; between the two the anchor is
    ignored.
    force: "best": every object takes the anchor that overlaps it most, however little (the first of several
    alike); "best_with_ties": all of several alike; "none": an object may end without an anchor.
    force_min_iou: forced only above this IoU; the default 0 means that an object which touches no anchor
    forces nothing. null: no such limit, as torchvision has it; with ties an object that touches nothing then
    turns every anchor it does not touch positive.
    force_to: whom a forced anchor answers for. "forcing": the object that forced it (SSD), even when it
    overlaps another one more, by any IoU. "own": the object that it overlaps most (torchvision's RetinaNet),
    so an object may still end without an anchor.
    contested: several objects force the same anchor (with force_to: forcing). "next_best": the larger IoU
    wins, and the loser takes its best anchor among those not forced by a larger IoU, so each object that
    touches enough anchors ends with one; that is the greedy one-to-one matching of SSD's original code.
    "best": the larger IoU wins, the loser forces nothing. "last": the later slot wins, as torchvision's SSD.
    Equal IoU: the lower slot wins, except for "last".

    torchvision's RetinaNet: {positive: .5, negative: .4, force: best_with_ties, force_to: own, force_min_iou:
    null}; its SSD: {positive: .5, negative: .5, force: best, force_to: forcing, force_min_iou: null,
    contested: last}.
    index: the anchor's object, equal IoU: the lower slot. quality: IoU with it. PartError when negative >
    positive.
    """

    uses_predictions = False

    def __init__(
        self,
        *,
        positive: Factor = 0.5,
        negative: Factor = 0.4,
        force: Literal["none", "best", "best_with_ties"] = "best",
        force_min_iou: Probability | None = 0.0,
        force_to: Literal["forcing", "own"] = "forcing",
        contested: Literal["next_best", "best", "last"] = "next_best",
    ) -> None:
        if negative > positive:
            raise PartError(
                f"negative {negative:g} is above positive {positive:g}: lower negative to {positive:g} "
                f"or less"
            )
        self.positive = positive
        self.negative = negative
        self.force = force
        # Empty slots have an IoU of -1, real objects >= 0: above -1 is "any object, without a limit".
        self.minimum = -1.0 if force_min_iou is None else force_min_iou
        self.force_to = force_to
        self.contested = contested

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

    def _match(self, boxes: Tensor, valid: Tensor, anchors: Tensor) -> Assignment:
        image, slot = valid.nonzero(as_tuple=True)
        rows = pairwise_iou(boxes[image, slot], anchors)  # (M,N): half the slots of a batch are padding
        overlaps = boxes.new_full((*valid.shape, len(anchors)), -1.0)
        overlaps[image, slot] = rows
        index, quality = background(len(valid), len(anchors), boxes.device)
        # Few anchors are near an object: what they get is written at their places.
        near = (overlaps.amax(dim=1) >= self.negative).nonzero(as_tuple=True)
        largest, own = _own(overlaps, *near)
        matched = largest >= self.positive
        index[near] = torch.where(matched, own, -2)
        quality[near] = torch.where(matched, largest, 0.0).float()
        if self.force != "none":
            row, anchor = self._claims(rows, image)
            place = image[row], anchor
            value, forcing = (
                (rows[row, anchor], slot[row]) if self.force_to == "forcing" else _own(overlaps, *place)
            )
            index[place], quality[place] = forcing, value.float()
        return Assignment(index, quality)

    def _claims(self, overlaps: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """(M,N), (M,) -> the rows of the objects that force an anchor, and the anchors; each anchor of an
        image once, unless all who force it say the same (force_to: own)."""
        if self.force == "best" and self.force_to == "forcing" and self.contested == "next_best":
            return one_to_one(overlaps, image, self.minimum)
        if self.force == "best":
            value, anchor = overlaps.max(dim=1)
            row = (value > self.minimum).nonzero().squeeze(1)
            anchor, value = anchor[row], value[row]
        else:
            largest = overlaps.amax(dim=1, keepdim=True)
            row, anchor = ((overlaps == largest) & (largest > self.minimum)).nonzero(as_tuple=True)
            value = largest[row, 0]
        if self.force_to == "own":
            return row, anchor
        if self.contested == "last":
            value = row.float()
        elif self.contested == "next_best":
            # The anchor that an object holds alone comes before all ties (IoU <= 1), so that they do not take
            # it away.
            holder, held = one_to_one(overlaps, image, self.minimum)
            row, anchor = torch.cat((holder, row)), torch.cat((held, anchor))
            value = torch.cat((torch.full_like(holder, 2, dtype=value.dtype), value))
        wins = ~outbid(image[row] * overlaps.shape[1] + anchor, value)
        return row[wins], anchor[wins]


def _own(overlaps: Tensor, image: Tensor, anchor: Tensor) -> tuple[Tensor, Tensor]:
    """(B,G,N), P anchors -> (P,) IoU with and (P,) slot of the object that each overlaps most; equal IoU: the
    lower slot."""
    value, slot = overlaps.transpose(1, 2)[image, anchor].max(dim=1)
    return value, slot
