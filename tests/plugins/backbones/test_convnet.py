import pytest
import torch
from torch import nn

from densedet.core.errors import PartError
from densedet.plugins.backbones.convnet import ConvNetBackbone, ResidualBlock


def test_defaults_suit_a_laptop():
    backbone = ConvNetBackbone(in_channels=1)
    assert backbone.channels == (24, 48, 96)
    assert backbone.strides == (4, 8, 16)
    convolutions = 9 * (1 * 16 + 16 * 24 + 2 * 24**2 + 24 * 48 + 2 * 48**2 + 48 * 96 + 2 * 96**2)
    assert (
        sum(p.numel() for p in backbone.parameters())
        == convolutions + 2 * (16 + 3 * (24 + 48 + 96))
        == 274208
    )


def test_four_stages_have_strides_8_16_32():
    backbone = ConvNetBackbone(in_channels=1, widths=(8, 16, 24, 32))
    assert backbone.channels == (16, 24, 32)
    assert backbone.strides == (8, 16, 32)
    assert [tuple(m.shape[2:]) for m in backbone(torch.rand(2, 1, 64, 128))] == [(8, 16), (4, 8), (2, 4)]


def test_strides_follow_stem_and_stages():
    backbone = ConvNetBackbone(
        in_channels=3, widths=(8, 8, 16), strides=(1, 2, 2), stem_stride=1, out_indices=(1, 3)
    )
    assert backbone.strides == (1, 4)
    assert [tuple(m.shape[1:]) for m in backbone(torch.rand(2, 3, 9, 16))] == [(8, 9, 16), (16, 3, 4)]


def test_stages_past_the_last_tap_are_not_built():
    backbone = ConvNetBackbone(in_channels=1, widths=(8, 8, 16), out_indices=(1, 2))
    assert len(backbone.stages) == 2


def test_depth_zero_is_one_convolution():
    backbone = ConvNetBackbone(in_channels=1, widths=(8, 8), depths=(0, 2))
    assert [len(stage) for stage in backbone.stages] == [1, 3]


def test_block_adds_its_input_before_the_activation():
    block = ResidualBlock(1, norm="none", eps=1e-5, momentum=0.1, activation="relu")
    for convolution in (block.first[0], block.second[0]):
        nn.init.zeros_(convolution.weight)
        nn.init.zeros_(convolution.bias)
        convolution.weight.data[0, 0, 1, 1] = 2.0
    # 3 + 2 * relu(2 * 3) = 15; -1 + 2 * relu(2 * -1) = -1 -> 0
    maps = torch.tensor([3.0, -1.0]).view(1, 1, 1, 2)
    assert block(maps).flatten().tolist() == [15.0, 0.0]


@pytest.mark.parametrize("norm", ["none", "batch", "frozen", "group"])
@pytest.mark.parametrize("activation", ["relu", "relu6", "silu"])
def test_norms_and_activations(norm, activation):
    backbone = ConvNetBackbone(in_channels=1, widths=(8, 12), norm=norm, activation=activation)
    maps = backbone(torch.rand(2, 1, 32, 48))
    assert all(torch.isfinite(m).all() and m.std() > 0 for m in maps)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depths": (1, 1)}, "depths has 2 entries, but widths has 3 stages"),
        ({"strides": (2,)}, "strides has 1 entry, but widths has 3 stages"),
        ({"out_indices": (4,)}, "out_indices has 4, which does not exist: choose from 1, 2, 3"),
        ({"out_indices": (2, 1)}, "fine to coarse"),
        ({"widths": ()}, "widths is empty"),
    ],
)
def test_faulty_arguments_are_refused(arguments, message):
    with pytest.raises(PartError, match=message):
        ConvNetBackbone(in_channels=1, **arguments)
