"""Detections drawn on the image in which they were found. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from densedet.core.data.decoding import open_image
from densedet.core.report.drawing import draw_boxes
from densedet.core.types import Detections


def draw(
    image: Any, detections: Detections, classes: Sequence[str] = (), *, min_score: float | None = None
) -> Image.Image:
    """Draw detections on an image.

    Args:
        image: a path, encoded bytes, a Pillow image, a uint8 array (H,W) or (H,W,3), or a tensor (ch,H,W)
            0..255, in whose pixels the boxes are.
        detections: what was found in it.
        classes: names in label order; () takes those of the detections.
        min_score: detections with a lower score are left out. None: those below 0.3, or none where a detector
            has left out already what is below its thresholds or below the score that it was given.
    """
    picture = image if hasattr(image, "detach") else open_image(image)
    return draw_boxes(
        picture,
        detections.boxes,
        detections.labels,
        detections.scores,
        classes or detections.classes,
        min_score=detections.shown_from if min_score is None else min_score,
        extra=detections.extra,
        keypoints=detections.keypoints,
    )
