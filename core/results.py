"""Detections as rows of a COCO results file. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from densedet.core.types import Detections, to_array


def coco_results(
    detections: Detections, image_id: int | str, category_ids: Sequence[int | None]
) -> list[dict[str, Any]]:
    """Return detections as rows of a COCO results file, with the values of `Detections.extra` by their names.

    Args:
        detections: in source pixels.
        image_id: the image's.
        category_ids: the file's id of each label. A label of None (the data set has no such class) makes no
            row.

    Returns:
        Mappings with image_id, category_id, bbox (x, y, width, height) and score; keypoints flat as COCO has
        them, [x, y, visibility, x, ...]: a branch called "keypoints" makes a file that COCO's tools read.
    """
    rows: list[dict[str, Any]] = []
    extra = {
        name: (
            to_array(values).reshape(len(values), -1).astype(np.float64).round(3)
            if name in detections.keypoints
            else values
        ).tolist()
        for name, values in detections.extra.items()
    }
    for number, (box, score, label) in enumerate(
        zip(detections.boxes.tolist(), detections.scores.tolist(), detections.labels.tolist())
    ):
        if category_ids[label] is None:
            continue
        x1, y1, x2, y2 = box
        rows.append(
            {
                "image_id": image_id,
                "category_id": category_ids[label],
                "bbox": [round(v, 3) for v in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(score, 6),
                **{name: values[number] for name, values in extra.items()},
            }
        )
    return rows
