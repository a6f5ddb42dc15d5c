import math

import pytest
import torch
from torchvision.models.detection._utils import BoxLinearCoder

from densedet.plugins.coders.ltrb import LTRBCoder


def around_centers(count, seed, reach=40.0):
    """Squares of side 8 and boxes that contain their centres."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 2, generator=generator) * 100
    near, far = (torch.rand(count, 2, generator=generator) * reach + 0.1 for _ in range(2))
    return torch.cat((points - 4, points + 4), dim=1), torch.cat((points - near, points + far), dim=1)


def test_by_hand():
    # centre (4, 8) of an anchor 8 wide and 16 high, box (0, 0, 12, 40): l = 4, t = 8, r = 8, b = 32 px; over
    # 8, 16, 8, 16.
    anchor, box = torch.tensor([[0.0, 0, 8, 16]]), torch.tensor([[0.0, 0, 12, 40]])
    assert LTRBCoder().encode(box, anchor).tolist() == [[0.5, 0.5, 1, 2]]
    assert LTRBCoder(normalise=False).encode(box, anchor).tolist() == [[4, 8, 8, 32]]
    assert (
        LTRBCoder(activation="relu").decode(torch.tensor([[0.5, 0.5, 1, 2]]), anchor).tolist() == box.tolist()
    )
    assert LTRBCoder(activation="exp").decode(torch.zeros(1, 4), anchor).tolist() == [
        [-4, -8, 12, 24]
    ]  # exp(0) = 1 anchor side each way
    torch.testing.assert_close(
        LTRBCoder(activation="softplus").deltas(torch.zeros(1, 4)), torch.full((1, 4), math.log(2))
    )
    assert LTRBCoder(activation="relu").decode(torch.tensor([[-3.0, 1, -3, 1]]), anchor).tolist() == [
        [4, -8, 4, 24]
    ]


@pytest.mark.parametrize("normalise", [True, False])
def test_is_torchvisions_to_the_bit_inside_the_box(normalise):
    anchors, boxes = around_centers(500, 0)
    ours, theirs = LTRBCoder(activation="relu", normalise=normalise), BoxLinearCoder(normalise)
    assert torch.equal(ours.encode(boxes, anchors), theirs.encode(anchors, boxes))
    raw = torch.randn(500, 4, generator=torch.Generator().manual_seed(2))
    assert torch.equal(ours.decode(raw, anchors), theirs.decode(raw.relu(), anchors))


def test_a_centre_outside_the_box_encodes_to_zero_on_the_sides_it_lies_beyond():
    # centre (4, 4), box (10, 0, 20, 8): l = 4 - 10 = -6 -> 0, t = 4, r = 16, b = 4; over 8.
    anchor, box = torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([[10.0, 0, 20, 8]])
    encoded = LTRBCoder().encode(box, anchor)
    assert encoded.tolist() == [[0, 0.5, 2, 0.5]]
    assert LTRBCoder(activation="relu").decode(encoded, anchor).tolist() == [[4, 0, 20, 8]]


def test_zero_size_boxes_and_anchors_and_wild_outputs_stay_finite():
    flat, ordinary = torch.tensor([[5.0, 5, 5, 5]]), torch.tensor([[0.0, 0, 10, 10]])
    for anchor, box in ((flat, ordinary), (ordinary, flat), (flat, flat)):
        assert LTRBCoder().encode(box, anchor).isfinite().all()
    assert LTRBCoder(activation="exp").decode(torch.full((1, 4), 1e6), ordinary).isfinite().all()


def test_shapes_broadcast_and_may_be_empty():
    anchors, boxes = around_centers(5, 0)
    raw = torch.randn(2, 5, 4)
    assert torch.equal(LTRBCoder().decode(raw, anchors)[1], LTRBCoder().decode(raw[1], anchors))
    assert LTRBCoder().encode(boxes.expand(2, 5, 4), anchors).shape == (2, 5, 4)
    assert LTRBCoder().encode(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
    assert LTRBCoder().decode(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
