"""Detections on their way to source pixels and into a results file."""

from __future__ import annotations

import json

import torch

from densedet.core.examples import example_batch
from densedet.core.results import coco_results
from densedet.core.training.evaluation import to_source
from densedet.core.types import Detections


def detections() -> Detections:
    return Detections(
        torch.tensor([[1.0, 2, 11, 12], [0, 0, 4, 4]]),
        torch.tensor([0.9, 0.5]),
        torch.tensor([0, 1]),
        torch.tensor([3, 1]),
        {"keypoints": torch.tensor([[[2.0, 3, 0.75]], [[1, 1, 0.5]]]), "ink": torch.tensor([1, 0])},
        ("keypoints",),
    )


def test_boxes_and_keypoints_are_moved_to_source_pixels() -> None:
    """Twice as wide, three times as high, shifted by (10, 20); other values and scores stay."""
    batch = example_batch()
    batch.to_source[1] = torch.tensor([2.0, 3, 10, 20])
    batch.source_hw[1] = torch.tensor([100, 30])
    _, moved = to_source([Detections.empty(), detections()], batch)
    assert moved.extra["keypoints"].tolist() == [[[14, 29, 0.75]], [[12, 23, 0.5]]]
    assert moved.extra["ink"].tolist() == [1, 0]
    assert moved.boxes.tolist() == [[12, 26, 30, 56], [10, 20, 18, 32]]  # 11*2+10 = 32 is cut at 30


def test_results_carry_extras_and_keypoints_flat() -> None:
    rows = coco_results(detections(), 7, [5, None])
    assert json.loads(json.dumps(rows)) == [
        {
            "image_id": 7,
            "category_id": 5,
            "bbox": [1, 2, 10, 10],
            "score": 0.9,
            "keypoints": [2, 3, 0.75],
            "ink": 1,
        }
    ]
    second = coco_results(detections(), 7, [None, 8])[0]
    assert (second["category_id"], second["keypoints"], second["ink"]) == (8, [1, 1, 0.5], 0)
