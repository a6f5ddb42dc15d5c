"""Layers that several parts share."""

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from densedet.core.layers import (
    ConvNormAct,
    Scale,
    activation_layer,
    flatten_cells,
    init_convolutions,
    norm_layer,
)


def test_norms():
    assert isinstance(norm_layer("none", 8), nn.Identity)
    batch = norm_layer("batch", 8, eps=1e-3, momentum=0.03)
    assert (type(batch), batch.eps, batch.momentum) == (nn.BatchNorm2d, 1e-3, 0.03)
    frozen = norm_layer("frozen", 8, eps=0.0)
    assert isinstance(frozen, FrozenBatchNorm2d)
    assert frozen.eps == 0
    # The largest divisor of 48 up to 32 is 24, of 34 it is 17, of 8 it is 8.
    assert [norm_layer("group", channels).num_groups for channels in (48, 34, 8)] == [24, 17, 8]
    assert norm_layer("group", 8, groups=4).num_groups == 4


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frozen_norm_gives_torchvision_s_values(grad, dtype):
    ours, theirs = norm_layer("frozen", 2, eps=0.5), FrozenBatchNorm2d(2, eps=0.5)
    statistics = {"running_mean": torch.tensor([1.0, -2.0]), "running_var": torch.tensor([3.5, 15.5])}
    for norm in (ours, theirs):
        norm.load_state_dict(
            {**statistics, "weight": torch.tensor([4.0, 2.0]), "bias": torch.tensor([0.5, 7])}
        )
    maps = torch.tensor([5.0, 6.0], dtype=dtype).view(1, 2, 1, 1).requires_grad_(grad)
    # (5 - 1) / sqrt(3.5 + 0.5) * 4 + 0.5 = 8.5 and (6 + 2) / sqrt(15.5 + 0.5) * 2 + 7 = 11
    assert ours(maps).flatten().tolist() == [8.5, 11]
    assert ours(maps).dtype == theirs(maps).dtype == torch.float32
    assert torch.equal(ours(maps), theirs(maps))


def test_a_convolution_has_a_bias_only_where_no_norm_follows():
    assert [type(layer) for layer in ConvNormAct(2, 3)] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert [type(layer) for layer in ConvNormAct(2, 3, norm="none", activation="none")] == [nn.Conv2d]
    assert ConvNormAct(2, 3)[0].bias is None
    assert ConvNormAct(2, 3, norm="none")[0].bias is not None
    assert ConvNormAct(2, 3, bias=True)[0].bias is not None


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (3, 6), (5, 2)])
def test_odd_kernels_keep_the_map_s_size(kernel, dilation):
    layer = ConvNormAct(1, 2, kernel=kernel, dilation=dilation)
    assert layer(torch.rand(2, 1, 9, 7)).shape == (2, 2, 9, 7)


def test_activations_work_in_place():
    for name, at_ten in (("relu", 10), ("relu6", 6), ("silu", 9.9995)):  # 10 * sigmoid(10) = 9.9995
        values = torch.tensor([10.0])
        assert activation_layer(name)(values) is values
        assert float(values) == pytest.approx(at_ten, abs=1e-4)


def test_only_convolutions_are_initialised():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Linear(2, 2), nn.Sequential(nn.Conv2d(2, 2, 1, bias=False))
    )
    linear = network[1].weight.detach().clone()
    init_convolutions(network, lambda weight: nn.init.constant_(weight, 7.0))
    assert bool((network[0].weight == 7).all()) and bool((network[2][0].weight == 7).all())
    assert bool((network[0].bias == 0).all())
    assert torch.equal(network[1].weight, linear)


def test_the_default_keeps_the_variance_of_gradients():
    torch.manual_seed(0)
    convolution = nn.Conv2d(64, 128, 3)
    init_convolutions(convolution)
    # sqrt(2 / fan out), fan out = 128 * 3 * 3 = 1152: 0.04167.
    assert float(convolution.weight.detach().std()) == pytest.approx((2 / 1152) ** 0.5, rel=0.01)


def test_cells_are_flattened_in_the_order_of_the_anchors():
    # Channel = anchor * 2 + c; one image, 2 anchors, 2 numbers each, a map of 1 x 2 cells.
    maps = torch.tensor([[[[0, 1]], [[10, 11]], [[20, 21]], [[30, 31]]]])
    # Cell 0: anchor 0 has channels 0 and 1, anchor 1 channels 2 and 3; then cell 1.
    assert flatten_cells(maps, 2).tolist() == [[[0, 10], [20, 30], [1, 11], [21, 31]]]


def test_a_scale_is_learnable():
    scale = Scale(3)
    scale(torch.tensor([1.0, 2.0])).sum().backward()
    assert (float(scale.value), float(scale.value.grad)) == (3, 3)


@pytest.mark.parametrize("bias", [False, True])
def test_a_frozen_norm_is_folded_into_its_convolution(bias):
    layer = ConvNormAct(1, 1, kernel=1, norm="frozen", eps=0.0, bias=bias)
    convolution, norm, _ = layer
    convolution.weight.data.fill_(3.0)
    if bias:
        convolution.bias.data.fill_(2.0)
    norm.running_mean.fill_(1.0)
    norm.running_var.fill_(4.0)
    norm.weight.fill_(10.0)
    norm.bias.fill_(-7.0)
    # (3 * 5 + bias - 1) / sqrt(4) * 10 - 7 = 63 without a bias of 2, 73 with it
    assert layer(torch.full((1, 1, 1, 1), 5.0)).item() == (73.0 if bias else 63.0)
    assert set(layer.state_dict()) == set(nn.Sequential(*layer).state_dict())
