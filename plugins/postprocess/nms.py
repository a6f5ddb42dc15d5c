"""Non-maximum suppression."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torchvision.ops import batched_nms
from torchvision.ops import nms as plain_nms

from densedet.core.arguments import NonNegativeFloat, PositiveInt, Probability
from densedet.core.boxes import pairwise_iou
from densedet.core.types import Detections, Fate, Level, Trace
from densedet.plugins.postprocess._candidates import Candidates, Per, candidates

LARGEST = 1 << 22
"""Pairs of boxes whose IoU is computed at once."""


class NMSPostprocess:
    """Of overlapping boxes of a class only the one with the best score stays.

    torchvision's arguments (score, top_k, per, iou, max_detections) are, for RetinaNet, 0.05, 1000, level,
    0.5, 300; for SSD300 0.01, 400, class, 0.45, 200; for SSDlite320 0.001, 300, class, 0.55, 300; for FCOS
    0.2, 1000, level, 0.6, 100.

    Args:
        score: candidates need a score above this.
        top_k: candidates that go on, per ``per``.
        per: "level": over a level's anchors and classes together (RetinaNet); "class": per class (SSD).
        iou: a box is removed whose IoU with a better one of its class is above this.
        max_detections: most detections per image.
        class_agnostic: true: boxes of different classes remove each other too.
        min_size: pixels that both sides of a clipped box need; 0 keeps all.
    """

    def __init__(
        self,
        *,
        score: Probability = 0.05,
        top_k: PositiveInt = 1000,
        per: Per = "level",
        iou: Probability = 0.5,
        max_detections: PositiveInt = 100,
        class_agnostic: bool = False,
        min_size: NonNegativeFloat = 0.0,
    ) -> None:
        self.candidates = partial(candidates, score=score, top_k=top_k, per=per, min_size=min_size)
        self.iou, self.max_detections, self.class_agnostic = iou, max_detections, class_agnostic

    def __call__(
        self,
        scores: Tensor,
        boxes: Tensor,
        levels: tuple[Level, ...],
        sizes: Tensor,
        trace: Trace | None = None,
    ) -> list[Detections]:
        """See `densedet.core.contracts.Postprocess`."""
        results = []
        for found in self.candidates(scores, boxes, levels, sizes, trace=trace):
            if self.class_agnostic:
                survivors = plain_nms(found.boxes, found.scores, self.iou)
            else:
                survivors = batched_nms(found.boxes, found.scores, found.labels, self.iou)
            kept = survivors[: self.max_detections]
            found.note(slice(None), Fate.REMOVED_BY_NMS)
            found.note(survivors, Fate.CUT_BY_MAX_DETECTIONS)
            found.note(kept, Fate.KEPT)
            if trace is not None:
                self._note_removals(found, survivors)
            results.append(
                Detections(found.boxes[kept], found.scores[kept], found.labels[kept], found.anchors[kept])
            )
        return results

    def _note_removals(self, found: Candidates, survivors: Tensor) -> None:
        """Write into the trace which survivor removed each other candidate: the best that overlaps it."""
        removed = torch.ones_like(found.scores, dtype=torch.bool)
        removed[survivors] = False
        if not bool(removed.any()):
            return
        for part in removed.nonzero().squeeze(1).split(max(1, LARGEST // max(1, len(survivors)))):
            overlap = pairwise_iou(found.boxes[part], found.boxes[survivors])
            if not self.class_agnostic:
                overlap[found.labels[part, None] != found.labels[survivors]] = -1
            # The survivors come best first, so that the first above the threshold removed the box. Where
            # rounding leaves none above it, the nearest one did.
            above = overlap > self.iou
            first = torch.where(above.any(dim=1), above.int().argmax(dim=1), overlap.argmax(dim=1))
            found.note_removal(part, survivors[first])
