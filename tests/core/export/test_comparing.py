"""The largest difference of detections, by hand."""

from __future__ import annotations

import pytest
import torch

from densedet.core.export.comparing import Difference
from densedet.core.suppression import Suppression
from densedet.core.types import Detections

HOW = Suppression(score=0.1, top_k=9, per="level", iou=0.5, max_detections=3)


def found(*rows: tuple[int, list[float], float, int]) -> Detections:
    """Detections of (anchor, box, score, label)."""
    anchors, boxes, scores, labels = zip(*rows)
    return Detections(
        torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels), torch.tensor(anchors), extra={}
    )


def test_boxes_count_by_the_image_s_side_and_scores_as_they_are():
    """The second box is 0.5 of 100 pixels wider, its score 0.002 lower; the order does not count."""
    difference = Difference()
    ours = found((1, [0.0, 0, 10, 10], 0.9, 0), (2, [0.0, 0, 20, 20], 0.8, 1))
    theirs = found((2, [0.0, 0, 20.5, 20], 0.798, 1), (1, [0.0, 0, 10, 10], 0.9, 0))
    difference.add(ours, theirs, (100, 50), HOW)
    assert difference.boxes == pytest.approx(0.005) and difference.scores == pytest.approx(0.002, abs=1e-6)
    assert difference.largest == pytest.approx(0.005) and difference.alone == 0


@pytest.mark.parametrize(
    ("alone", "margin"),
    [
        ((7, [50.0, 50, 60, 60], 0.1003, 0), 0.0003),  # nearly at the score from which detections count
        ((7, [50.0, 50, 60, 60], 0.7, 0), 0.5),  # far above it, far from the limit of overlap
        ((7, [0.0, 0, 10, 5.01], 0.7, 0), 0.001),  # IoU .501 with the better box of its class
        ((7, [0.0, 0, 10, 5.01], 0.7, 1), 0.6),  # of another class
    ],
)
def test_a_detection_of_one_side_alone_counts_by_what_would_have_decided_otherwise(alone, margin):
    both = (1, [0.0, 0, 10, 10], 0.9, 0)
    for ours, theirs in (((both, alone), (both,)), ((both,), (both, alone))):
        difference = Difference()
        difference.add(found(*ours), found(*theirs), (100, 100), HOW)
        assert difference.alone == 1 and difference.margin == pytest.approx(margin, abs=1e-5)


def test_a_full_image_is_cut_at_its_last_score():
    difference = Difference()
    same = [(n, [20.0 * n, 0, 20.0 * n + 9, 9], 0.9, 0) for n in (1, 2)]
    ours, theirs = ((*same, (last, [0.0, 0, 9, 9], score, 0)) for last, score in ((3, 0.5), (4, 0.502)))
    difference.add(found(*ours), found(*theirs), (100, 100), HOW)
    assert difference.alone == 2 and difference.margin == pytest.approx(0.002, abs=1e-6)
