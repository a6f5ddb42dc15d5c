"""What every backbone promises, on every one that is registered."""

import copy

import pytest
import torch

from densedet import registry
from densedet.plugins.backbones import COMPONENTS

ARGUMENTS = {
    "resnet34": {"out_indices": (2, 3)},
    "resnet50": {"out_indices": (2, 3), "norm": "frozen"},
    "mobilenet_v3_large": {"width": 0.5, "reduced_tail": True},
    "vgg16_ssd": {"width": 0.125},
    "timm": {"model": "mobilenetv3_small_050"},
    "torchvision": {"model": "mnasnet0_5", "nodes": ("layers.8", "layers.9", "layers.10")},
}
NAMES = [name for _, name, _, _ in COMPONENTS]


def build(name, in_channels, **more):
    if name == "timm":
        pytest.importorskip("timm")
    component = registry.Component(*next(row[:3] for row in COMPONENTS if row[1] == name))
    return component.load()(in_channels=in_channels, **{**ARGUMENTS.get(name, {}), **more})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("in_channels", [1, 3])
def test_attributes_are_what_a_forward_gives(name, in_channels):
    backbone = build(name, in_channels).eval()
    assert len(backbone.mean) == len(backbone.std) == in_channels
    assert list(backbone.strides) == sorted(backbone.strides)
    for height, width in ((64, 32), (33, 50)):
        with torch.no_grad():
            maps = backbone(torch.rand(1, in_channels, height, width))
        assert isinstance(maps, list)
        assert [m.shape[1] for m in maps] == list(backbone.channels)
        for level, stride in zip(maps, backbone.strides):
            # Whether sides are rounded up or down on the way, a map spans its image to within one cell.
            assert abs(level.shape[2] * stride - height) < stride
            assert abs(level.shape[3] * stride - width) < stride


@pytest.mark.parametrize("name", NAMES)
def test_meta_device_gives_the_same_shapes(name):
    images = torch.rand(1, 1, 35, 60)
    real = build(name, 1).eval()
    expected = [m.shape for m in real(images)]
    with torch.device("meta"):
        built_there = build(name, 1).eval()
    for backbone in (built_there, copy.deepcopy(real).to("meta")):
        assert all(p.is_meta for p in backbone.parameters())
        assert [m.shape for m in backbone(images.to("meta"))] == expected


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient_in_bf16_channels_last(name):
    torch.manual_seed(0)
    backbone = build(name, 1).to(memory_format=torch.channels_last).train()
    with torch.autocast("cpu", torch.bfloat16):
        maps = backbone(torch.rand(2, 1, 64, 64).to(memory_format=torch.channels_last))
    # Random weights on the cells: the plain sum of a normalised map does not depend on what made it.
    sum((m.float() * torch.randn(m.shape)).sum() for m in maps).backward()
    for parameter_name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", NAMES)
def test_statistics_can_be_given(name):
    backbone = build(name, 3, mean=(0.5,), std=(0.1, 0.2, 0.3))
    assert backbone.mean == (0.5, 0.5, 0.5)
    assert backbone.std == (0.1, 0.2, 0.3)
