import pytest
import torch

from densedet.plugins.coders.distribution import DistributionCoder


def test_by_hand():
    # bins 0, 1, 2 with equal logits: expectation 1. Anchor 8x8 around (4, 4): 1 * 8 px each way.
    coder = DistributionCoder(bins=2)
    anchor = torch.tensor([[0.0, 0, 8, 8]])
    assert coder.box_channels == 12
    torch.testing.assert_close(coder.deltas(torch.zeros(1, 12)), torch.ones(1, 4))
    torch.testing.assert_close(coder.decode(torch.zeros(1, 12), anchor), torch.tensor([[-4.0, -4, 12, 12]]))
    # box (0, -4, 8, 10): l = 4/8, t = 8/8, r = 4/8, b = 6/8; a bin of a quarter of the anchor: 2, 4, 2, 3,
    # cut to 2 - 0.01.
    box = torch.tensor([[0.0, -4, 8, 10]])
    torch.testing.assert_close(coder.encode(box, anchor), torch.tensor([[0.5, 1, 0.5, 0.75]]))
    torch.testing.assert_close(
        DistributionCoder(bins=2, bin_size=0.25).encode(box, anchor), torch.full((1, 4), 1.99)
    )


def test_channels_are_side_by_side():
    raw = torch.zeros(1, 4, 3)
    raw[0, 2, 2] = 100.0  # right: certainly 2 bins
    anchor = torch.tensor([[0.0, 0, 8, 8]])
    torch.testing.assert_close(
        DistributionCoder(bins=2).decode(raw.flatten(1), anchor), torch.tensor([[-4.0, -4, 20, 12]])
    )


def test_targets_stay_between_the_bins():
    anchor = torch.tensor([[0.0, 0, 8, 8]])
    far, outside, flat = (
        torch.tensor([[-1e6, 0, 1e6, 8]]),
        torch.tensor([[10.0, 10, 20, 20]]),
        torch.tensor([[4.0, 4, 4, 4]]),
    )
    coder = DistributionCoder(bins=4)
    torch.testing.assert_close(coder.encode(far, anchor), torch.tensor([[3.99, 0.5, 3.99, 0.5]]))
    assert coder.encode(outside, anchor).tolist() == [[0, 0, 2, 2]]
    assert coder.encode(flat, anchor).tolist() == [[0, 0, 0, 0]]
    assert coder.encode(far, flat).isfinite().all()


@pytest.mark.parametrize("leading", [(0,), (2, 3)])
def test_shapes(leading):
    coder = DistributionCoder(bins=3)
    anchors = torch.tensor([0.0, 0, 8, 8]).expand(*leading[-1:], 4)
    assert coder.decode(torch.zeros(*leading, 16), anchors).shape == (*leading, 4)
    assert coder.deltas(torch.zeros(*leading, 16)).shape == (*leading, 4)
    assert coder.encode(torch.zeros(*leading, 4), anchors).shape == (*leading, 4)
