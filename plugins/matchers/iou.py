"""Thresholds on IoU (Liu et al. 2016, SSD, section 2.2; Lin et al. 2017, RetinaNet, section 4; torchvision's Matcher and SSDMatcher)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from densedet.core.arguments import Factor, Probability
from densedet.core.errors import PartError
from densedet.core.types import Assignment, Level
from densedet.plugins.matchers.forcing import one_to_one
from densedet.plugins.matchers.pairs import best_claims, in_chunks, pairwise_iou


class Iou:
    """An anchor answers for the object that it overlaps most, if the IoU suffices; objects left over may force an anchor.

    positive: IoU >= this is a match. negative: IoU < this is background; between the two the anchor is ignored.
    force: "best": every object takes the anchor that overlaps it most, however little (the first of several alike); "best_with_ties":
    all of several alike; "none": an object may end without an anchor.
    force_min_iou: forced only above this IoU; the default 0 means that an object which touches no anchor forces nothing. null: no
    such limit, as torchvision has it; with ties an object that touches nothing then turns every anchor it does not touch positive.
    force_to: whom a forced anchor answers for. "forcing": the object that forced it (SSD), even when it overlaps another one more, by
    any IoU. "own": the object that it overlaps most (torchvision's RetinaNet), so an object may still end without an anchor.
    contested: several objects force the same anchor (with force_to: forcing). "next_best": the larger IoU wins, and the loser takes
    its best anchor among those not forced by a larger IoU, so each object that touches enough anchors ends with one; that is the
    greedy one-to-one matching of SSD's original code. "best": the larger IoU wins, the loser forces nothing. "last": the later slot
    wins, as torchvision's SSD. Equal IoU: the lower slot wins, except for "last".

    torchvision's RetinaNet: {positive: .5, negative: .4, force: best_with_ties, force_to: own, force_min_iou: null}; its SSD:
    {positive: .5, negative: .5, force: best, force_to: forcing, force_min_iou: null, contested: last}.
    index: the anchor's object, equal IoU: the lower slot. quality: IoU with it. PartError when negative > positive.
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
            raise PartError(f"negative {negative:g} is above positive {positive:g}: lower negative to {positive:g} or less")
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
        overlaps = boxes.new_full((*boxes.shape[:-1], len(anchors)), -1.0)
        overlaps[valid] = pairwise_iou(boxes[valid], anchors)  # half the slots of a batch are padding
        largest, own = overlaps.max(dim=1)
        index = own.masked_fill(largest < self.positive, -2).masked_fill_(largest < self.negative, -1)
        if self.force != "none":
            forced = self._forced_own(overlaps, own) if self.force_to == "own" else self._forced(overlaps)
            index = torch.where(forced >= 0, forced, index)
        quality = overlaps.gather(1, index.clamp(min=0).unsqueeze(1)).squeeze(1).masked_fill_(index < 0, 0.0)
        return Assignment(index, quality.float())

    def _forced_own(self, overlaps: Tensor, own: Tensor) -> Tensor:
        """(B,N): the anchor's own best object where any object forces it, else -1."""
        if self.force == "best_with_ties":
            forced = self._tied(overlaps).any(dim=1)
        else:
            forced = self._winners(overlaps, "best") >= 0
        return own.masked_fill(~forced, -1)

    def _forced(self, overlaps: Tensor) -> Tensor:
        """(B,N): the object that forces the anchor, or -1."""
        winners = one_to_one(overlaps, self.minimum) if self.contested == "next_best" else self._winners(overlaps, self.contested)
        if self.force == "best":
            return winners
        tied = self._tied(overlaps)
        if self.contested == "last":
            slots = torch.arange(overlaps.shape[1], device=overlaps.device)[:, None]
            return torch.where(tied, slots, -1).amax(dim=1)
        value, slot = overlaps.masked_fill(~tied, -1.0).max(dim=1)
        return torch.where(winners >= 0, winners, slot.masked_fill(value < 0, -1))

    def _tied(self, overlaps: Tensor) -> Tensor:
        """bool (B,G,N): the object's largest IoU, ties included, where it may force."""
        largest = overlaps.amax(dim=2, keepdim=True)
        return (overlaps == largest) & (largest > self.minimum)

    def _winners(self, overlaps: Tensor, contested: str) -> Tensor:
        """(B,N): each object forces its first best anchor; contested ones go to the best IoU or the last slot; -1 elsewhere."""
        images, objects, anchors = overlaps.shape
        value, anchor = overlaps.max(dim=2)
        slot = torch.arange(objects, device=overlaps.device).expand(images, objects)
        forcing = value > self.minimum
        # Who comes last is who has the largest slot: deterministic, which plain indexed writes are not on a GPU.
        index, _ = best_claims(anchor, slot, slot.float() if contested == "last" else value, forcing, anchors)
        return index
