"""Pictures of anchors at a size that a screen shows."""

from __future__ import annotations

import pytest
import torch

from densedet.core.showing.anchors import around


@pytest.mark.parametrize(
    ("box", "size", "scale", "shift"),
    [
        ((10.0, 10, 90, 90), (768, 512), 0.64, (0, 0)),  # 768 / 1200
        ((-600.0, 0, 1800, 800), (1024, 341), 1024 / 2400, (600, 0)),  # 600 of grey on both sides
        ((-60.0, 0, 1200, 800), (806, 512), 0.64, (60, 0)),  # 1260 * 0.64 = 806.4
    ],
)
def test_a_large_image_is_shrunk_with_what_lies_around_it(box, size, scale, shift) -> None:
    picture, moved, factor = around(torch.full((1, 800, 1200), 7, dtype=torch.uint8), torch.tensor([box]))
    assert picture.size == size
    assert factor == pytest.approx(scale)
    assert moved.tolist() == [*shift, *shift]
    left = round(shift[0] * factor)
    assert picture.getpixel((left, 0)) == (7, 7, 7)
    assert left == 0 or picture.getpixel((left - 1, 0)) == (190, 190, 190)


def test_a_small_image_keeps_its_whole_factor() -> None:
    # 512 / 128 = 4, with 76 pixels (0.6 * 128 = 76.8) of grey on each side: (128 + 2 * 77) * 4 = 1128
    picture, _, factor = around(
        torch.zeros(1, 64, 128, dtype=torch.uint8), torch.tensor([[-200.0, 0, 400, 64]])
    )
    assert (factor, picture.size) == (4, (1128, 256))
