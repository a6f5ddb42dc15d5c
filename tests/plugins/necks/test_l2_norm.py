import torch

from densedet.plugins.necks._l2_norm import L2Norm


def test_each_cell_gets_length_scale():
    norm = L2Norm(2, scale=20.0)
    norm.weight.data[1] = 10.0
    # Cell (3, 4), length 5: 20 * 0.6 = 12, 10 * 0.8 = 8. Cell (0, 2), length 2: 0 and 10 * 1 = 10.
    maps = torch.tensor([[[[3.0, 0.0]], [[4.0, 2.0]]]])
    torch.testing.assert_close(norm(maps), torch.tensor([[[[12.0, 0.0]], [[8.0, 10.0]]]]))


def test_zero_vectors_stay_zero_with_finite_gradients():
    norm = L2Norm(3)
    maps = torch.zeros(1, 3, 1, 2, requires_grad=True)
    # As after a ReLU that is off in all channels of a cell.
    out = norm(maps.relu())
    out.sum().backward()
    assert torch.equal(out, torch.zeros(1, 3, 1, 2))
    assert torch.isfinite(maps.grad).all()


def test_half_precision_maps_are_normalised_in_float32():
    out = L2Norm(512)(torch.full((1, 512, 1, 1), 100.0, dtype=torch.bfloat16))
    # 512 equal channels: each 20 / sqrt(512) = 0.8839
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, torch.full((1, 512, 1, 1), 0.8838835))
