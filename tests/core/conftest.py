"""Judgements made by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from densedet.core.judgement.judgement import Evidence, Found, Judgement, Truth


def by_hand(
    objects: Sequence[tuple[int, Sequence[float], int]],
    detections: Sequence[tuple[int, Sequence[float], float, int]],
    *,
    images: int = 1,
    classes: tuple[str, ...] = ("cat", "dog"),
    ignored: Sequence[bool] = (),
    **changes: Any,
) -> Judgement:
    """A judgement of images of 100 x 100 pixels, half as large in the network.

    Args:
        objects: (image, box, label) each.
        detections: (image, box, score, label) each, the images in order.
        images: number of images.
        classes: names.
        ignored: of each object; (): none is.
        **changes: other fields; those of the evidence too.
    """
    image = np.array([row[0] for row in objects], dtype=np.int64)
    boxes = np.array([row[1] for row in objects], dtype=np.float64).reshape(-1, 4)
    truth = Truth(
        image=image,
        boxes=boxes,
        labels=np.array([row[2] for row in objects], dtype=np.int64),
        areas=(boxes[:, 2:] - boxes[:, :2]).prod(1),
        ignored=np.array(ignored or [False] * len(objects), dtype=bool),
    )
    found = Found(
        image=np.array([row[0] for row in detections], dtype=np.int64),
        boxes=np.array([row[1] for row in detections], dtype=np.float32).reshape(-1, 4),
        scores=np.array([row[2] for row in detections], dtype=np.float32),
        labels=np.array([row[3] for row in detections], dtype=np.int64),
    )
    count = len(objects)
    none: dict[str, Any] = {
        "positives": np.full(count, -1),
        "ignored_anchors": np.full(count, -1),
        "filtered": np.zeros(count, dtype=bool),
        "traced": np.zeros(count, dtype=bool),
        "best_score": np.full(count, -1, dtype=np.float32),
        "best_iou": np.zeros(count, dtype=np.float32),
        "lost_fate": np.full(count, -1),
        "lost_score": np.full(count, -1, dtype=np.float32),
        "lost_box": np.zeros((count, 4), dtype=np.float32),
        "by_label": np.full(count, -1),
        "by_score": np.full(count, -1, dtype=np.float32),
        "by_box": np.zeros((count, 4), dtype=np.float32),
    }
    evidence = Evidence(**{name: changes.pop(name, value) for name, value in none.items()})
    fields: dict[str, Any] = {
        "classes": classes,
        "image_ids": tuple(range(10, 10 + images)),
        "file_names": tuple(f"{number}.png" for number in range(images)),
        "indices": np.arange(images),
        "sizes_wh": np.full((images, 2), 100),
        "scales_xy": np.full((images, 2), 0.5),
        "metrics": {"AP": 0.5},
        "max_detections": 100,
        "iou": 0.5,
        "thresholds": (0.3,) * len(classes),
        "thresholds_from": "default",
        "weights": "",
        "data": {},
        "settings": {},
        "recipe": "",
        "recipe_name": "made_by_hand",
        "split": "val",
        "seconds": 1.0,
    }
    return Judgement(**{**fields, **changes}, truth=truth, found=found, evidence=evidence)


@pytest.fixture(scope="session")
def judged() -> Callable[..., Judgement]:
    """`by_hand`."""
    return by_hand
