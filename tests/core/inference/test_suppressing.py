"""Suppression with NumPy finds what the postprocesses find with torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densedet.core.inference.suppressing import suppress
from densedet.core.suppression import Suppression
from densedet.core.types import Level
from densedet.plugins.postprocess.nms import NMSPostprocess
from densedet.plugins.postprocess.soft_nms import SoftNMSPostprocess

LEVELS = (Level(10, 8, 2, 8), Level(5, 4, 2, 16))


def crowd(classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Scores (200,C) and overlapping boxes (200,4) in a square of 64 pixels."""
    random = np.random.default_rng(0)
    corner, side = random.random((200, 2)) * 40, random.random((200, 2)) * 20 + 4
    boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
    return random.random((200, classes), dtype=np.float32), boxes


@pytest.mark.parametrize(
    "part",
    [
        NMSPostprocess(score=0.3, top_k=40, iou=0.4, max_detections=50),
        NMSPostprocess(score=0.3, top_k=40, per="class", max_detections=300),
        NMSPostprocess(score=0.9, class_agnostic=True, min_size=8.0),
        SoftNMSPostprocess(score=0.3, max_detections=60),
        SoftNMSPostprocess(method="linear", iou=0.3, top_k=30, max_detections=60),
    ],
)
def test_it_finds_what_torch_finds(part):
    scores, boxes = crowd()
    anchors, labels, values = suppress(scores, boxes, [160, 40], part.suppression)
    (expected,) = part(torch.from_numpy(scores[None]), torch.from_numpy(boxes[None]), LEVELS, SIZE)
    assert anchors.tolist() == expected.anchors.tolist()
    assert labels.tolist() == expected.labels.tolist()
    assert np.allclose(values, expected.scores.numpy(), atol=1e-6)
    assert len(anchors) > 20


SIZE = torch.tensor([[64, 64]])


def test_by_hand():
    """IoU of the first two boxes: 8 * 10 / (100 + 100 - 80) = 2/3. The third is elsewhere, the fourth of
    another class, the fifth below the score."""
    boxes = np.array([[0, 0, 10, 10], [2, 0, 12, 10], [30, 30, 40, 40], [0, 0, 10, 10], [50, 0, 60, 10]])
    scores = np.array([[0.8, 0], [0.9, 0], [0.5, 0], [0, 0.7], [0.1, 0]], dtype=np.float32)
    how = Suppression(score=0.1, top_k=9, per="level", iou=0.5, max_detections=9)
    anchors, labels, values = suppress(scores, boxes.astype(np.float32), [5], how)
    assert anchors.tolist() == [1, 3, 2] and labels.tolist() == [0, 1, 0]
    assert values.tolist() == pytest.approx([0.9, 0.7, 0.5])


def test_nothing_is_found_where_no_score_is_high_enough():
    how = Suppression(score=0.5, top_k=9, per="class", iou=0.5, max_detections=9)
    scores, boxes = np.zeros((3, 2), np.float32), np.zeros((3, 4), np.float32)
    assert [len(column) for column in suppress(scores, boxes, [3], how)] == [0, 0, 0]
