"""A depthwise convolution's own gradients against torch's."""

import pytest
import torch
from torch import nn

from densedet.core.depthwise import DepthwiseConv2d, input_gradient, weight_gradient


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("size", [(8, 11), (9, 6)])
def test_gradients_are_those_of_torch(kernel, stride, padding, size):
    torch.manual_seed(0)
    maps = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
    out = nn.functional.conv2d(maps, weight, None, stride, padding, groups=3)
    grad = torch.randn_like(out)
    of_maps, of_weight = torch.autograd.grad(out, (maps, weight), grad)
    arguments = (grad, weight.detach(), maps.detach(), stride, padding)
    torch.testing.assert_close(input_gradient(*arguments), of_maps)
    torch.testing.assert_close(weight_gradient(*arguments), of_weight)


def test_bf16_takes_the_same_way_as_float32():
    torch.manual_seed(0)
    layer = DepthwiseConv2d(4, 4, 5, 2, 2, groups=4)
    maps = torch.randn(2, 4, 16, 12, requires_grad=True)
    plain = nn.functional.conv2d(maps, layer.weight, layer.bias, 2, 2, groups=4)
    expected = torch.autograd.grad(plain.square().sum(), (maps, layer.weight, layer.bias))
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(maps)
    assert out.dtype == torch.bfloat16
    assert type(out.grad_fn.next_functions[0][0]).__name__ == "_DepthwiseBackward"
    given = torch.autograd.grad(out.float().square().sum(), (maps, layer.weight, layer.bias))
    for mine, theirs in zip(given, expected):
        # bf16 keeps 8 bits
        assert (mine - theirs).abs().max() <= 0.03 * theirs.abs().max()


@pytest.mark.parametrize("changed", [{"kernel_size": 7, "padding": 3}, {"dilation": 2}, {"groups": 2}])
def test_other_convolutions_are_torchs(changed):
    layer = DepthwiseConv2d(4, 4, **{"kernel_size": 3, "groups": 4, **changed})
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(torch.randn(1, 4, 16, 16, requires_grad=True))
    assert "Depthwise" not in type(out.grad_fn).__name__
    layer.float()(torch.randn(1, 4, 16, 16)).sum().backward()
