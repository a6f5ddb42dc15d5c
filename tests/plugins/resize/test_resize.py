import pytest
import torch

from densedet.core.placement import Placement
from densedet.plugins.resize.exact import ExactResize
from densedet.plugins.resize.letterbox import LetterboxResize
from densedet.plugins.resize.short_side import ShortSideResize


def test_exact_ignores_the_aspect():
    assert ExactResize(size_wh=(128, 64))(500, 500) == Placement(128, 64, (128, 64))
    assert ExactResize(size_wh=(300, 300), antialias=False)(10, 20) == Placement(
        300, 300, (300, 300), antialias=False
    )


@pytest.mark.parametrize(
    ("source", "scaled"),
    [
        ((640, 480), (85, 64)),  # min(128/640, 64/480) = 2/15: 85.33, 64
        ((1000, 100), (128, 13)),  # 128/1000: 128, 12.8
        ((32, 16), (128, 64)),  # enlarged four times
        ((5000, 1), (128, 1)),  # never less than a pixel
        ((3, 1000), (1, 64)),
    ],
)
def test_letterbox_keeps_the_aspect(source, scaled):
    assert LetterboxResize(size_wh=(128, 64))(*source) == Placement(*scaled, (128, 64))


def test_short_side_by_hand():
    assert ShortSideResize(short=800, max=1333)(640, 480) == Placement(
        1066, 800, (1066, 800)
    )  # 800/480 = 1.667: 1066.67
    assert ShortSideResize(short=800, max=1333)(1000, 300) == Placement(
        1333, 399, (1333, 399)
    )  # 1333/1000: 399.9
    assert ShortSideResize(short=4, max=5, antialias=False)(1000, 1) == Placement(
        5, 1, (5, 1), antialias=False
    )


def test_short_side_is_torchs_rule():
    resize = ShortSideResize(short=80, max=133)
    for width, height in [(640, 480), (427, 640), (333, 500), (97, 53), (612, 612), (49, 480), (500, 281)]:
        scale = min(80 / min(width, height), 133 / max(width, height))
        image = torch.zeros(1, 1, height, width)
        reference = torch.nn.functional.interpolate(
            image, scale_factor=scale, recompute_scale_factor=True, mode="bilinear"
        )
        placement = resize(width, height)
        assert (placement.height, placement.width) == reference.shape[-2:]
