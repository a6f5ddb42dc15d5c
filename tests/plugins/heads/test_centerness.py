import math

import torch

from densedet.core.types import Level, Targets
from densedet.plugins.heads._centerness import adjust, branch, centerness, loss, target


def targets(anchors, boxes, positive):
    anchors, boxes, positive = torch.tensor(anchors), torch.tensor([boxes]), torch.tensor([positive])
    return Targets(
        anchors=anchors,
        levels=(Level(1, len(anchors), 1, 8),),
        matched_idxs=torch.where(positive, 0, -1),
        positive=positive,
        labels=torch.where(positive, 0, 1),
        boxes=boxes,
    )


def test_by_hand():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    # In the middle 1. At (2, 10): l 2, r 8, t = b = 10: sqrt(2/8 * 1) = 0.5. At (2, 4): t 4, b 16: sqrt(2/8 *
    # 4/16) = 0.25. On the edge 0. Outside, at (-5, 10) and (-5, -5), 0 and not NaN (there l < 0 < r; -5/15 *
    # -5/25 would even be positive).
    points = torch.tensor([[5.0, 10.0], [2.0, 10.0], [2.0, 4.0], [0.0, 10.0], [-5.0, 10.0], [-5.0, -5.0]])
    torch.testing.assert_close(centerness(points, boxes), torch.tensor([1.0, 0.5, 0.25, 0.0, 0.0, 0.0]))


def test_a_box_without_extent_is_0():
    assert centerness(torch.tensor([[3.0, 3.0]]), torch.tensor([[3.0, 3.0, 3.0, 3.0]])).tolist() == [0.0]


def test_target_is_0_off_the_positives():
    # Anchor centres (2, 10) and (5, 10) in the same box; the second, in the very middle, is not positive.
    given = targets(
        [[0.0, 8.0, 4.0, 12.0], [3.0, 8.0, 7.0, 12.0]], [[0.0, 0.0, 10.0, 20.0]] * 2, [True, False]
    )
    torch.testing.assert_close(target(given), torch.tensor([[0.5, 0.0]]))
    torch.testing.assert_close(branch().weight(given), torch.tensor([[0.5, 0.0]]))


def test_loss_counts_positives_only():
    given = targets(
        [[0.0, 8.0, 4.0, 12.0], [3.0, 8.0, 7.0, 12.0]], [[0.0, 0.0, 10.0, 20.0]] * 2, [True, False]
    )
    values = torch.tensor([[[math.log(3.0)], [100.0]]], requires_grad=True)
    # sigmoid(log 3) = 0.75, target 0.5: -(0.5 log 0.75 + 0.5 log 0.25) = 0.836988; gradient 0.75 - 0.5
    result = loss(values, given)
    torch.testing.assert_close(result, torch.tensor([[0.836988, 0.0]]))
    result.sum().backward()
    torch.testing.assert_close(values.grad, torch.tensor([[[0.25], [0.0]]]))


def test_loss_is_finite_for_points_outside():
    given = targets([[100.0, 100.0, 108.0, 108.0]], [[0.0, 0.0, 10.0, 20.0]], [True])
    values = torch.zeros(1, 1, 1, requires_grad=True)
    result = loss(values, given)
    # target 0, p 0.5: log 2
    torch.testing.assert_close(result, torch.tensor([[math.log(2.0)]]))
    result.sum().backward()
    assert values.grad.isfinite().all()


def test_no_positives_is_0_and_connected():
    given = targets([[0.0, 8.0, 4.0, 12.0]], [[0.0, 8.0, 4.0, 12.0]], [False])
    values = torch.randn(1, 1, 1, requires_grad=True)
    total = loss(values, given).sum()
    total.backward()
    assert total.item() == 0
    assert values.grad.tolist() == [[[0.0]]]


def test_adjust_is_the_root_of_the_product():
    # sigmoid(0) = 0.5: sqrt(0.5 * 0.5) = 0.5, sqrt(0.02 * 0.5) = 0.1
    torch.testing.assert_close(
        adjust(torch.tensor([[[0.5, 0.02]]]), torch.zeros(1, 1, 1)), torch.tensor([[[0.5, 0.1]]])
    )
