"""How overlapping candidates are suppressed, as numbers: a postprocess has them so that an exported file can
do the same without it. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Suppression:
    """Settings of non-maximum suppression; `densedet.core.contracts.Postprocess` has them as ``suppression``.

    Attributes:
        score: candidates need a score above this.
        top_k: candidates that go on, per ``per``.
        per: "level": over a level's anchors and classes together; "class": per class.
        iou: of the method.
        max_detections: most detections per image.
        class_agnostic: whether boxes of different classes suppress each other too.
        min_size: pixels that both sides of a clipped box need; 0 keeps all.
        method: what a detection does to a worse box of IoU u: "hard" removes it where u > ``iou``; "linear"
            multiplies its score by 1 - u where u >= ``iou``; "gaussian" by exp(-u^2 / sigma).
        sigma: of the gaussian.
        final_score: a lowered score must stay above this.
    """

    score: float
    top_k: int
    per: Literal["level", "class"]
    iou: float
    max_detections: int
    class_agnostic: bool = False
    min_size: float = 0.0
    method: Literal["hard", "linear", "gaussian"] = "hard"
    sigma: float = 0.5
    final_score: float = 0.0
