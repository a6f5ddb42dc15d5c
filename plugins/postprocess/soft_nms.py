"""Soft-NMS: overlap lowers a score instead of removing the box."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from densedet.core.arguments import NonNegativeFloat, PositiveFloat, PositiveInt, Probability
from densedet.core.boxes import iou
from densedet.core.suppression import Suppression
from densedet.core.types import Detections, Fate, Level, Trace
from densedet.plugins.postprocess._candidates import Candidates, Per, finder


class SoftNMSPostprocess:
    """Each detection lowers the scores of boxes of its class that overlap it (Bodla et al. 2017).

    Args:
        method: factor on a lowered score: "gaussian": exp(-IoU^2 / sigma); "linear": 1 - IoU where IoU is at
            least ``iou``, else 1.
        sigma: of the gaussian.
        iou: of the linear method; without effect on the gaussian.
        score: candidates need a score above this, before any is lowered.
        top_k: candidates that go on, per ``per``.
        per: "level": over a level's anchors and classes together (RetinaNet); "class": per class (SSD).
        final_score: a lowered score must stay above this.
        max_detections: most detections per image.
        class_agnostic: true: boxes of different classes lower each other too.
        min_size: pixels that both sides of a clipped box need; 0 keeps all.
    """

    def __init__(
        self,
        *,
        method: Literal["gaussian", "linear"] = "gaussian",
        sigma: PositiveFloat = 0.5,
        iou: Probability = 0.3,
        score: Probability = 0.05,
        final_score: Probability = 0.001,
        top_k: PositiveInt = 1000,
        per: Per = "level",
        max_detections: PositiveInt = 100,
        class_agnostic: bool = False,
        min_size: NonNegativeFloat = 0.0,
    ) -> None:
        self.method, self.sigma, self.iou, self.final_score = method, sigma, iou, final_score
        self.suppression = Suppression(
            score=score,
            top_k=top_k,
            per=per,
            iou=iou,
            max_detections=max_detections,
            class_agnostic=class_agnostic,
            min_size=min_size,
            method=method,
            sigma=sigma,
            final_score=final_score,
        )
        self.candidates = finder(self.suppression)
        self.max_detections, self.class_agnostic = max_detections, class_agnostic

    def __call__(
        self,
        scores: Tensor,
        boxes: Tensor,
        levels: tuple[Level, ...],
        sizes: Tensor,
        trace: Trace | None = None,
    ) -> list[Detections]:
        """See `densedet.core.contracts.Postprocess`; REMOVED_BY_NMS is a score that sank to final_score, by
        the detection that lowered it last."""
        images = self.candidates(scores, boxes, levels, sizes, trace=trace)
        return [self._suppress(found) for found in images]

    def _suppress(self, found: Candidates) -> Detections:
        # Picking over all classes at once is the same as class by class: only a box's own class lowers it.
        # Scores only sink, so the picks come best first, and the loop ends after max_detections picks.
        remaining = found.scores.clone()
        picks: list[Tensor] = []
        lowered: list[Tensor] = []
        while len(picks) < min(self.max_detections, len(remaining)):
            value, best = remaining.max(0)
            if not value > self.final_score:
                break
            picks.append(best)
            lowered.append(value)
            factor = self._factor(iou(found.boxes[best], found.boxes))
            left = remaining > self.final_score
            left[best] = False
            remaining *= (
                factor
                if self.class_agnostic
                else torch.where(found.labels == found.labels[best], factor, 1.0)
            )
            found.note_removal(left & (remaining <= self.final_score), best)
            remaining[best] = -1
        kept = torch.stack(picks) if picks else found.labels.new_zeros(0)
        found.note(remaining <= self.final_score, Fate.REMOVED_BY_NMS)
        found.note(remaining > self.final_score, Fate.CUT_BY_MAX_DETECTIONS)
        found.note(kept, Fate.KEPT)
        values = torch.stack(lowered) if lowered else found.scores.new_zeros(0)
        return Detections(found.boxes[kept], values, found.labels[kept], found.anchors[kept])

    def _factor(self, overlap: Tensor) -> Tensor:
        """Factors on the scores, (M,), by the boxes' IoU with the new detection, (M,)."""
        if self.method == "gaussian":
            return torch.exp(-overlap.square() / self.sigma)
        return torch.where(overlap >= self.iou, 1 - overlap, 1.0)
