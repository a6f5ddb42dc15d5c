"""Non-maximum suppression."""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import batched_nms
from torchvision.ops import nms as plain_nms

from densedet.core.arguments import NonNegativeFloat, PositiveInt, Probability
from densedet.core.types import Detections, Fate, Level, Trace
from densedet.plugins.postprocess._candidates import Per, candidates


class NMSPostprocess:
    """Of overlapping boxes of a class only the best stays.

    score: candidates need strictly more. top_k: how many go on, ``per`` level (over anchors and classes
    together, RetinaNet) or per class (SSD). iou: a box that overlaps a better one of its class by more is
    removed. max_detections: per image. class_agnostic: boxes of different classes remove each other too.
    min_size: pixels that both sides of a clipped box need; 0 keeps all.

    torchvision's arguments: RetinaNet 0.05, 1000, level, 0.5, 300; SSD300 0.01, 400, class, 0.45, 200;
    SSDlite320 0.001, 300, class, 0.55, 300; FCOS 0.2, 1000, level, 0.6, 100.
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
        self.score, self.top_k, self.per, self.min_size = score, top_k, per, min_size
        self.iou, self.max_detections, self.class_agnostic = iou, max_detections, class_agnostic

    def __call__(
        self,
        scores: Tensor,
        boxes: Tensor,
        levels: tuple[Level, ...],
        sizes: Tensor,
        trace: Trace | None = None,
    ) -> list[Detections]:
        """(B,N,C), (B,N,4), levels, (B,2) (height, width) -> B Detections, best first, clipped.
        trace["fate"]: see `Fate`."""
        results = []
        for found in candidates(
            scores,
            boxes,
            levels,
            sizes,
            score=self.score,
            top_k=self.top_k,
            per=self.per,
            min_size=self.min_size,
            trace=trace,
        ):
            if self.class_agnostic:
                survivors = plain_nms(found.boxes, found.scores, self.iou)
            else:
                survivors = batched_nms(found.boxes, found.scores, found.labels, self.iou)
            kept = survivors[: self.max_detections]
            found.condemn(slice(None), Fate.REMOVED_BY_NMS)
            found.condemn(survivors, Fate.CUT_BY_MAX_DETECTIONS)
            found.condemn(kept, Fate.KEPT)
            results.append(
                Detections(found.boxes[kept], found.scores[kept], found.labels[kept], found.anchors[kept])
            )
        return results
