"""Functions on boxes, with hand-computed numbers."""

import torch

from densedet.core import boxes

FIRST = torch.tensor([[0.0, 0.0, 4.0, 2.0], [0.0, 0.0, 4.0, 4.0]])
OTHER = torch.tensor([[2.0, 1.0, 6.0, 3.0], [5.0, 5.0, 7.0, 6.0], [3.0, 3.0, 3.0, 3.0]])


def test_area():
    assert boxes.area(FIRST).tolist() == [8, 16]
    assert boxes.area(torch.tensor([[4.0, 0.0, 1.0, 2.0]])).tolist() == [0]  # inverted
    assert boxes.area(torch.zeros(0, 4)).shape == (0,)


def test_pairs():
    # [0,0,4,2] and [2,1,6,3] share 2 x 1 = 2; union 8 + 8 - 2 = 14. [0,0,4,4] and [2,1,6,3] share 2 x 2 = 4;
    # union 16 + 8 - 4 = 20. An empty box shares nothing.
    assert boxes.pairwise_intersection(FIRST, OTHER).tolist() == [[2, 0, 0], [4, 0, 0]]
    assert torch.allclose(
        boxes.pairwise_iou(FIRST, OTHER), torch.tensor([[2 / 14, 0.0, 0.0], [4 / 20, 0.0, 0.0]])
    )
    assert boxes.pairwise_iou(torch.zeros(3, 0, 4), torch.rand(5, 4)).shape == (3, 0, 5)


def test_element_by_element():
    assert torch.allclose(boxes.iou(FIRST, OTHER[:2]), torch.tensor([2 / 14, 0.0]))
    empty = torch.zeros(1, 4)
    assert boxes.iou(empty, empty).tolist() == [0]  # not 0 / 0


def test_centres_and_xywh():
    assert boxes.centers(OTHER[:1]).tolist() == [[4, 2]]
    assert boxes.to_xywh(OTHER[:1]).tolist() == [[2, 1, 4, 2]]


def test_boxes_are_cut_to_height_and_width():
    box = torch.tensor([[-1.0, -2.0, 50.0, 60.0]])
    assert boxes.clip(box, torch.tensor([20, 30])).tolist() == [[0, 0, 30, 20]]
    batch = boxes.clip(box.expand(2, 1, 4), torch.tensor([[20, 30], [5, 6]]))
    assert batch.tolist() == [[[0, 0, 30, 20]], [[0, 0, 6, 5]]]
