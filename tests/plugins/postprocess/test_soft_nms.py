import math

import pytest
import torch

from densedet.core.types import Fate, Level
from densedet.plugins.postprocess.soft_nms import SoftNMSPostprocess

# Box 1 overlaps box 0 by 5x10 of 10x10 each: IoU 50 / 150 = 1/3. Box 2 is apart.
BOXES = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0], [50.0, 50.0, 60.0, 60.0]]])
LEVELS, SIZES = (Level(1, 3, 1, 8),), torch.tensor([[100, 100]])


def run(scores, trace=None, **arguments):
    return SoftNMSPostprocess(**arguments)(torch.tensor([scores]), BOXES, LEVELS, SIZES, trace)[0]


def test_gaussian_by_hand():
    # 0.8 * exp(-(1/3)^2 / 0.5) = 0.8 * 0.800737 = 0.640590, which falls behind box 2's 0.7
    found = run([[0.9], [0.8], [0.7]])
    assert found.anchors.tolist() == [0, 2, 1]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.7, 0.640590]))


def test_linear_by_hand():
    # 0.8 * (1 - 1/3) = 0.533333; with a threshold above 1/3 nothing happens
    torch.testing.assert_close(
        run([[0.9], [0.8], [0.7]], method="linear").scores, torch.tensor([0.9, 0.7, 0.533333])
    )
    torch.testing.assert_close(
        run([[0.9], [0.8], [0.7]], method="linear", iou=0.4).scores, torch.tensor([0.9, 0.8, 0.7])
    )


def test_classes_do_not_lower_each_other():
    scores = [[0.9, 0.0], [0.0, 0.8], [0.0, 0.0]]
    torch.testing.assert_close(run(scores).scores, torch.tensor([0.9, 0.8]))
    torch.testing.assert_close(
        run(scores, class_agnostic=True).scores, torch.tensor([0.9, 0.8 * math.exp(-2 / 9)])
    )


def test_fates_and_final_score():
    trace = {}
    found = run([[0.9], [0.8], [0.7]], trace, final_score=0.65, max_detections=5)
    assert found.anchors.tolist() == [0, 2]
    assert trace["fate"][0].flatten().tolist() == [Fate.KEPT, Fate.REMOVED_BY_NMS, Fate.KEPT]
    assert trace["by"][0].flatten().tolist() == [-1, 0, -1]
    run([[0.9], [0.8], [0.01]], trace, max_detections=1)
    assert trace["fate"][0].flatten().tolist() == [Fate.KEPT, Fate.CUT_BY_MAX_DETECTIONS, Fate.LOW_SCORE]


def plain(boxes, scores, sigma):
    """The paper's loop (figure 3) for one class: box indices and scores in the order of picking."""
    scores, left, picked = list(scores), list(range(len(scores))), []
    while left:
        best = max(left, key=lambda i: scores[i])
        left.remove(best)
        picked.append((best, scores[best]))
        for i in left:
            a, b = boxes[best], boxes[i]
            shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
            both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
            scores[i] *= math.exp(-((shared / both) ** 2) / sigma)
    return picked


@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_papers_loop_run_class_by_class(seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(20, 2, generator=generator) * 40
    boxes = torch.cat([corner, corner + 10 + torch.rand(20, 2, generator=generator) * 20], 1)
    scores = torch.rand(20, 3, generator=generator)
    ours = SoftNMSPostprocess(score=0.0, final_score=0.0)(
        scores[None], boxes[None], (Level(1, 20, 1, 8),), SIZES
    )[0]
    for label in range(3):
        mine = ours.labels == label
        expected = plain(boxes.tolist(), scores[:, label].tolist(), 0.5)
        assert ours.anchors[mine].tolist() == [i for i, _ in expected]
        torch.testing.assert_close(ours.scores[mine], torch.tensor([score for _, score in expected]))
    assert torch.equal(ours.scores, ours.scores.sort(descending=True).values)
