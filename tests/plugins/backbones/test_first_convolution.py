import torch
from torch import nn

from densedet.plugins.backbones._first_convolution import adapt_first_convolution


def network() -> nn.Module:
    return nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 5, 2, 1, bias=False)), nn.Conv2d(4, 2, 3))


def test_the_first_convolution_takes_other_channels_and_keeps_its_geometry():
    adapted = network()
    second = adapted[1].weight.detach().clone()
    assert adapt_first_convolution(adapted, 1) == "0.0.weight"
    first = adapted[0][0]
    assert (first.weight.shape, first.stride, first.padding) == ((4, 1, 5, 5), (2, 2), (1, 1))
    assert first.bias is None
    assert torch.equal(adapted[1].weight, second)


def test_three_channels_change_nothing():
    adapted = network()
    first = adapted[0][0]
    assert adapt_first_convolution(adapted, 3) == "0.0.weight"
    assert adapted[0][0] is first
