import pytest
import torch

from densedet.core.placement import Placement, blank_outside, place


def test_boxes_to_input_and_back():
    placement = Placement(128, 64, (128, 64))  # of 640 x 480: x / 5, y / 7.5
    boxes = placement.boxes_to_input(torch.tensor([[10.0, 15.0, 640.0, 480.0]]), (640, 480))
    assert boxes.tolist() == [[2.0, 2.0, 128.0, 64.0]]
    assert placement.to_source((640, 480)) == (5.0, 7.5, 0.0, 0.0)
    assert placement.boxes_to_input(torch.zeros(0, 4), (640, 480)).shape == (0, 4)


def test_place_puts_the_image_at_the_top_left():
    held = place(torch.ones(1, 2, 3, dtype=torch.uint8), (4, 3))
    assert held[0].tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_blank_outside(dtype):
    images = torch.full((2, 1, 2, 3), 7, dtype=dtype)
    blank = blank_outside(images, torch.tensor([[2, 3], [1, 2]]))
    assert blank.dtype == dtype
    assert blank[0].tolist() == images[0].tolist()
    assert blank[1, 0].tolist() == [[7, 7, 0], [0, 0, 0]]
    assert blank_outside(images, torch.tensor([[2, 3], [2, 3]])) is images
