import pytest
import torch
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from densedet.core.errors import PartError
from densedet.plugins.anchors.default_boxes import DefaultBoxAnchors

SSD300_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
SSD300_SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
SSD300_STEPS = (8, 16, 32, 64, 100, 300)
SIX = (8, 16, 32, 64, 100, 300)


def torchvisions(generator, maps, image_hw):
    height, width = image_hw
    images = ImageList(torch.zeros(1, 1, height, width), [image_hw])
    return generator(images, [torch.zeros(1, 1, *size) for size in maps])[0]


@pytest.mark.parametrize("image_hw", [(300, 300), (240, 320)])
def test_ssd300_is_torchvisions_to_the_bit(image_hw):
    maps = [(-(-image_hw[0] // step), -(-image_hw[1] // step)) for step in SSD300_STEPS]
    ours = DefaultBoxAnchors(strides=SIX, scales=SSD300_SCALES, ratios=SSD300_RATIOS, steps=SSD300_STEPS)
    theirs = DefaultBoxGenerator(
        [list(r) for r in SSD300_RATIOS], scales=list(SSD300_SCALES), steps=list(SSD300_STEPS)
    )
    assert ours.num_anchors == tuple(theirs.num_anchors_per_location()) == (4, 6, 6, 6, 4, 4)
    assert torch.equal(torch.cat(ours(maps, image_hw, "cpu")), torchvisions(theirs, maps, image_hw))


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("image_hw", [(320, 320), (64, 128)])
def test_linear_scales_are_torchvisions_to_the_bit(image_hw, clip):
    maps = [(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
    ours = DefaultBoxAnchors(strides=SIX, min_scale=0.2, max_scale=0.95, ratios=(2, 3), clip=clip)
    theirs = DefaultBoxGenerator([[2, 3] for _ in range(6)], min_ratio=0.2, max_ratio=0.95, clip=clip)
    assert torch.equal(torch.cat(ours(maps, image_hw, "cpu")), torchvisions(theirs, maps, image_hw))


def test_one_level_by_hand():
    # 2x1 cells of 10 px on an image 10 high and 20 wide; scales 0.2 and 0.8: squares of 0.2 and sqrt(0.2*0.8)
    # = 0.4; ratio 4: 0.2*2 by 0.2/2. Relative to the sides: widths times 20, heights times 10.
    boxes = DefaultBoxAnchors(strides=(10,), scales=(0.2, 0.8), ratios=(4,))([(1, 2)], (10, 20), "cpu")
    assert len(boxes) == 1
    first_cell = [
        [3, 4, 7, 6],
        [1, 3, 9, 7],
        [1, 4.5, 9, 5.5],
        [4, 3, 6, 7],
    ]  # 4x2, 8x4, 8x1, 2x4 around (5, 5)
    second_cell = [[left + 10, top, right + 10, bottom] for left, top, right, bottom in first_cell]
    torch.testing.assert_close(boxes[0], torch.tensor(first_cell + second_cell), rtol=0, atol=1e-5)


def test_relative_to_keeps_squares_square_on_a_wide_image():
    def square(relative_to):
        box = DefaultBoxAnchors(strides=(16,), scales=(0.5, 0.5), ratios=(), relative_to=relative_to)(
            [(4, 16)], (64, 256), "cpu"
        )[0][0]
        return (box[2:] - box[:2]).tolist()

    assert square("sides") == [128, 32]
    assert square("short") == [32, 32]
    assert square("area") == [64, 64]  # sqrt(64*256) = 128, half of it; the area of 128 x 32


def test_clip_cuts_sides_and_not_corners():
    def largest(clip):
        return DefaultBoxAnchors(strides=(50,), scales=(1.5, 1.5), ratios=(), clip=clip)(
            [(2, 2)], (100, 100), "cpu"
        )[0][0].tolist()

    assert largest(True) == [-25, -25, 75, 75]  # 100 wide around (25, 25)
    assert largest(False) == [-50, -50, 100, 100]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scales": (0.1, 0.2)}, "scales has 2 entries.*give 3"),
        ({"steps": (8,)}, "steps has 1 entry.*2 levels"),
        ({"ratios": ((2,), (2,), (2,))}, "ratios has 3 lists.*2 levels"),
        ({"ratios": (0.5, 1.0, 2.0)}, "leave the 1 out"),
        ({"ratios": (0.5, 2.0)}, "leave 2 out"),
        ({"min_scale": 0.9, "max_scale": 0.2}, "min_scale 0.9 is not below max_scale 0.2"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, words):
    with pytest.raises(PartError, match=words):
        DefaultBoxAnchors(strides=(8, 16), **arguments)


def test_another_number_of_maps_is_refused():
    with pytest.raises(PartError, match="2 levels got 1"):
        DefaultBoxAnchors(strides=(8, 16))([(8, 8)], (64, 64), "cpu")
