from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool, LastLevelP6P7

from densedet.core.errors import PartError
from densedet.plugins.necks.fpn import FPNNeck


def centred(convolution, weight, bias):
    """A convolution that reads the centre of its kernel alone: ``weight`` * x + ``bias``."""
    side = convolution.kernel_size[0] // 2
    nn.init.zeros_(convolution.weight)
    convolution.weight.data[:, :, side, side] = weight
    nn.init.constant_(convolution.bias, bias)


def hand_made(**arguments):
    """One channel throughout, laterals 2x + 1, outputs x."""
    neck = FPNNeck(in_channels=(1, 1), in_strides=(8, 16), channels=1, **arguments)
    for lateral, output in zip(neck.top_down.lateral, neck.top_down.output):
        centred(lateral[0], 2.0, 1.0)
        centred(output[0], 1.0, 0.0)
    return neck


COARSE = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 2)


def test_sums_by_hand():
    fine, coarse = hand_made()([torch.ones(1, 1, 3, 3), COARSE])
    # Coarse: 2x + 1 = [[3, 5], [7, 9]]. Enlarged to 3x3, cells floor(i * 2 / 3) = 0, 0, 1. Fine: 2 * 1 + 1 =
    # 3 plus that.
    assert coarse[0, 0].tolist() == [[3, 5], [7, 9]]
    assert fine[0, 0].tolist() == [[6, 6, 8], [6, 6, 8], [10, 10, 12]]


@pytest.mark.parametrize(("extra", "p6"), [("p5", 3 - 10), ("c5", 1 - 10)])
def test_p6_and_p7_by_hand(extra, p6):
    neck = hand_made(extra_levels=2, extra=extra)
    centred(neck.extra_convolutions.convolutions[0], 1.0, -10.0)
    centred(neck.extra_convolutions.convolutions[1], 1.0, 0.5)
    levels = neck([torch.ones(1, 1, 3, 3), COARSE])
    # With stride 2 the centre reads cell (0, 0): P5 has 3 there, C5 has 1. P6 = that - 10, negative, so P7 =
    # relu(P6) + 0.5 = 0.5.
    assert [m.flatten().tolist() for m in levels[2:]] == [[p6], [0.5]]
    assert neck.strides == (8, 16, 32, 64)


def test_maxpool_takes_every_second_cell():
    neck = hand_made(extra_levels=1, extra="maxpool")
    coarse = torch.arange(12.0).view(1, 1, 3, 4)
    # 2x + 1 of the cells 0, 2, 8, 10
    assert neck([torch.ones(1, 1, 6, 8), coarse])[2][0, 0].tolist() == [[1, 5], [17, 21]]


@pytest.mark.parametrize(
    ("arguments", "blocks"),
    [
        ({"extra_levels": 2}, LastLevelP6P7(8, 8)),
        ({"extra_levels": 2, "extra": "c5"}, LastLevelP6P7(14, 8)),
        ({}, None),
    ]
    + [({"extra_levels": 1, "extra": "maxpool"}, LastLevelMaxPool())],
)
def test_same_levels_as_torchvision(arguments, blocks):
    theirs = FeaturePyramidNetwork([6, 10, 14], 8, blocks)
    neck = FPNNeck(in_channels=(6, 10, 14), in_strides=(8, 16, 32), channels=8, **arguments)
    names = {"inner_blocks": "top_down.lateral", "layer_blocks": "top_down.output"}
    names |= {
        "extra_blocks.p6": "extra_convolutions.convolutions.0",
        "extra_blocks.p7": "extra_convolutions.convolutions.1",
    }
    state = {}
    for key, value in theirs.state_dict().items():
        old = next(name for name in names if key.startswith(name))
        state[names[old] + key.removeprefix(old)] = value
    neck.load_state_dict(state)
    features = [torch.rand(2, c, h, w) for c, h, w in ((6, 25, 33), (10, 13, 17), (14, 7, 9))]
    expected = theirs(OrderedDict((str(i), f) for i, f in enumerate(features)))
    for ours, their in zip(neck(features), expected.values(), strict=True):
        torch.testing.assert_close(ours, their)


def test_min_level_builds_nothing_for_what_it_leaves_out():
    neck = FPNNeck(in_channels=(6, 10, 14), in_strides=(4, 8, 16), channels=8, min_level=1)
    assert neck.strides == (8, 16)
    assert len(neck.top_down.lateral) == len(neck.top_down.output) == 2


def test_min_level_must_leave_a_map():
    with pytest.raises(PartError, match="at most 1 can be left out"):
        FPNNeck(in_channels=(6, 10), in_strides=(4, 8), min_level=2)


def test_norm_replaces_biases():
    neck = FPNNeck(in_channels=(6,), in_strides=(8,), channels=8, norm="group")
    assert neck.top_down.lateral[0][0].bias is None
    assert isinstance(neck.top_down.output[0][1], nn.GroupNorm)
