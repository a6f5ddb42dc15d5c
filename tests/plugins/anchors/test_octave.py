import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from densedet.core.errors import PartError
from densedet.plugins.anchors.octave import OctaveAnchors

RETINANET_SIZES = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512))


@pytest.mark.parametrize("image_hw", [(64, 128), (200, 333), (97, 61)])
def test_retinanet_is_torchvisions_to_the_bit(image_hw):
    height, width = image_hw
    strides = (8, 16, 32, 64, 128)
    maps = [(-(-height // s), -(-width // s)) for s in strides]
    ours = OctaveAnchors(strides=strides, sizes=RETINANET_SIZES, round=True, offset=0.0, spacing="floor")
    theirs = AnchorGenerator(RETINANET_SIZES, ((0.5, 1.0, 2.0),) * 5)
    images = ImageList(torch.zeros(1, 1, height, width), [image_hw])
    expected = theirs(images, [torch.zeros(1, 1, *size) for size in maps])[0]
    assert ours.num_anchors == tuple(theirs.num_anchors_per_location()) == (9,) * 5
    assert torch.equal(torch.cat(ours(maps, image_hw, "cpu")), expected)


def test_by_hand():
    # stride 8, base 8*2 = 16, octaves 16 and 16*sqrt(2); ratio 4 = height/width: 16/2 wide, 16*2 high. Cell
    # centres at 4 and 12.
    anchors = OctaveAnchors(strides=(8,), base_scale=2, octaves=2, ratios=(1, 4))
    assert anchors.num_anchors == (4,)
    boxes = anchors([(1, 2)], (8, 16), "cpu")[0]
    half = 8 * 2**0.5
    cell = torch.tensor(
        [
            [-8, -8, 8, 8],
            [-half, -half, half, half],
            [-4, -16, 4, 16],
            [-half / 2, -half * 2, half / 2, half * 2],
        ]
    )
    expected = torch.cat((cell + torch.tensor([4.0, 4, 4, 4]), cell + torch.tensor([12.0, 4, 12, 4])))
    torch.testing.assert_close(boxes, expected, rtol=0, atol=1e-5)


def test_order_is_y_x_anchor():
    boxes = OctaveAnchors(strides=(8,), octaves=2, ratios=(1,))([(2, 3)], (16, 24), "cpu")[0]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    cells = [[x, y] for y in (4.0, 12.0) for x in (4.0, 12.0, 20.0) for _ in range(2)]
    torch.testing.assert_close(centers, torch.tensor(cells))
    widths = (boxes[:, 2] - boxes[:, 0])[:2]
    assert widths[0] < widths[1]


@pytest.mark.parametrize(("spacing", "last"), [("map", 14.25), ("floor", 13.5), ("stride", 12.0)])
def test_spacing_where_the_map_does_not_divide_the_image(spacing, last):
    # 19 px, 2 cells of stride 8: 19/2 = 9.5, 19//2 = 9, 8; the second cell's centre is 1.5 of them from the
    # border.
    boxes = OctaveAnchors(strides=(8,), octaves=1, ratios=(1,), spacing=spacing)([(2, 2)], (19, 19), "cpu")[0]
    assert ((boxes[-1, 0] + boxes[-1, 2]) / 2).item() == last


def test_one_size_per_level_is_multiplied_by_the_octaves():
    per_level = OctaveAnchors(strides=(8, 16), sizes=(10, 30), octaves=2, ratios=(1,))
    nested = OctaveAnchors(strides=(8, 16), sizes=((10, 10 * 2**0.5), (30, 30 * 2**0.5)), ratios=(1,))
    maps = [(2, 2), (1, 1)]
    assert all(
        torch.equal(a, b) for a, b in zip(per_level(maps, (16, 16), "cpu"), nested(maps, (16, 16), "cpu"))
    )


def test_levels_may_differ_in_anchors():
    anchors = OctaveAnchors(strides=(8, 16), sizes=((10,), (20, 30)), ratios=((1, 2), (1,)))
    assert anchors.num_anchors == (2, 2)
    assert OctaveAnchors(strides=(8, 16), sizes=((10,), (20, 30)), ratios=(1, 2, 3)).num_anchors == (3, 6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sizes": (32, 64, 128, 256, 512, 1024)}, "sizes has 6 entries.*4 levels"),
        ({"sizes": ((32,), (64,))}, "sizes has 2 entries.*4 levels"),
        ({"ratios": ((1,), (1,))}, "ratios has 2 lists.*4 levels"),
        ({"ratios": ()}, "ratios leaves a level without anchors"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, words):
    with pytest.raises(PartError, match=words):
        OctaveAnchors(strides=(4, 8, 16, 32), **arguments)


def test_another_number_of_maps_is_refused():
    with pytest.raises(PartError, match="1 level got 2"):
        OctaveAnchors(strides=(8,))([(8, 8), (4, 4)], (64, 64), "cpu")
