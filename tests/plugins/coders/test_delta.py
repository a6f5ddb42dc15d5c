import math

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder

from densedet.plugins.coders.delta import DeltaCoder

SSD = (10.0, 10.0, 5.0, 5.0)


def random_boxes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 200 - 50
    return torch.cat((corner, corner + torch.rand(count, 2, generator=generator) * 150 + 0.5), dim=1)


def test_by_hand():
    # anchor 10x20 around (5, 10), box 20x20 around (15, 10): dx = 10/10 = 1, dy = 0, dw = log 2, dh = 0;
    # times 10, 10, 5, 5.
    anchor, box = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 0, 25, 20]])
    torch.testing.assert_close(DeltaCoder().encode(box, anchor), torch.tensor([[1, 0, math.log(2), 0]]))
    torch.testing.assert_close(
        DeltaCoder(weights=SSD).encode(box, anchor), torch.tensor([[10, 0, 5 * math.log(2), 0]])
    )
    torch.testing.assert_close(
        DeltaCoder(weights=SSD).decode(torch.tensor([[10, 0, 5 * math.log(2), 0]]), anchor), box
    )


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), SSD, (0.3, 7.0, 1.7, 0.1)])
def test_is_torchvisions_to_the_bit(weights):
    boxes, anchors = random_boxes(500, 0), random_boxes(500, 1)
    ours, theirs = DeltaCoder(weights=weights), BoxCoder(weights)
    assert torch.equal(ours.encode(boxes, anchors), theirs.encode_single(boxes, anchors))
    raw = (
        torch.randn(500, 4, generator=torch.Generator().manual_seed(2)) * 4 * torch.tensor(weights)
    )  # some beyond the clamp
    assert torch.equal(ours.decode(raw, anchors), theirs.decode_single(raw, anchors))


def test_zero_size_boxes_and_anchors_stay_finite():
    ordinary, flat = torch.tensor([0.0, 0, 10, 10]), torch.tensor([5.0, 5, 5, 5])
    boxes, anchors = torch.stack((ordinary, flat, flat)), torch.stack((flat, ordinary, flat))
    coder = DeltaCoder()
    encoded = coder.encode(boxes, anchors)
    assert encoded.isfinite().all()
    assert encoded[2].tolist() == [0, 0, 0, 0]
    assert coder.decode(encoded, anchors).isfinite().all()


def test_growth_is_clamped_and_shrinking_is_not():
    anchor = torch.tensor([[0.0, 0, 16, 16]])
    grown = DeltaCoder().decode(torch.tensor([[0.0, 0, 100, 100]]), anchor)
    torch.testing.assert_close(
        grown, torch.tensor([[-492.0, -492, 508, 508]])
    )  # 16 * 1000/16 = 1000 px around (8, 8)
    assert DeltaCoder().decode(torch.tensor([[0.0, 0, -200, -200]]), anchor).tolist() == [[8, 8, 8, 8]]


def test_shapes_broadcast_and_may_be_empty():
    coder, anchors = DeltaCoder(), random_boxes(5, 0)
    raw = torch.randn(2, 5, 4)
    assert torch.equal(coder.decode(raw, anchors)[1], coder.decode(raw[1], anchors))
    assert coder.encode(random_boxes(10, 1).view(2, 5, 4), anchors).shape == (2, 5, 4)
    assert coder.encode(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
    assert coder.decode(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
    assert coder.deltas(raw) is raw
