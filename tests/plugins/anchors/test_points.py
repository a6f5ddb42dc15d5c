import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from densedet.core.errors import PartError
from densedet.plugins.anchors.points import PointAnchors


def test_by_hand():
    points = PointAnchors(strides=(8, 16))
    assert points.num_anchors == (1, 1)
    fine, coarse = points([(1, 2), (1, 1)], (8, 16), "cpu")
    assert fine.tolist() == [[0, 0, 8, 8], [8, 0, 16, 8]]
    assert coarse.tolist() == [
        [0, -4, 16, 12]
    ]  # the only row of cells is 8 px high: its centre is at 4, the square 16 wide


@pytest.mark.parametrize("image_hw", [(64, 128), (97, 61)])
def test_fcos_is_torchvisions_to_the_bit(image_hw):
    height, width = image_hw
    strides = (8, 16, 32, 64, 128)
    maps = [(-(-height // s), -(-width // s)) for s in strides]
    theirs = AnchorGenerator(tuple((s,) for s in strides), ((1.0,),) * 5)
    expected = theirs(
        ImageList(torch.zeros(1, 1, height, width), [image_hw]), [torch.zeros(1, 1, *size) for size in maps]
    )[0]
    ours = PointAnchors(strides=strides, offset=0.0, spacing="floor")
    assert torch.equal(torch.cat(ours(maps, image_hw, "cpu")), expected)


def test_a_map_without_cells_has_no_points():
    assert PointAnchors(strides=(8,))([(2, 0)], (16, 4), "cpu")[0].shape == (0, 4)


def test_another_number_of_maps_is_refused():
    with pytest.raises(PartError, match="2 levels got 1"):
        PointAnchors(strides=(8, 16))([(8, 8)], (64, 64), "cpu")
