"""What every neck promises, on every one that is registered, in several settings."""

import copy

import pytest
import torch

from densedet import registry
from densedet.plugins.necks import COMPONENTS
from densedet.plugins.necks.ssd_extras import Stage

SETTINGS = [
    ("identity", {}),
    ("ssd_extras", {}),
    (
        "ssd_extras",
        {
            "l2_norm": 20.0,
            "norm": "none",
            "stages": (Stage(out_channels=12), Stage(out_channels=8, stride=1, padding=0, kernel=2)),
        },
    ),
    (
        "ssd_extras",
        {
            "depthwise": True,
            "activation": "relu6",
            "stages": (Stage(out_channels=8, depthwise=False), Stage(out_channels=8)),
        },
    ),
    ("ssd_extras", {"stages": ()}),
    ("fpn", {"channels": 16}),
    ("fpn", {"channels": 16, "extra_levels": 2, "norm": "batch"}),
    ("fpn", {"channels": 16, "extra_levels": 1, "extra": "c5", "norm": "group"}),
    ("fpn", {"channels": 16, "extra_levels": 2, "extra": "maxpool", "min_level": 1}),
    ("pan", {"channels": 16}),
    ("pan", {"channels": 16, "top_down": False, "norm": "none", "extra_levels": 2, "activation": "silu"}),
    ("pan", {"channels": 16, "norm": "group"}),
]
CHANNELS, STRIDES = (6, 10, 14), (4, 8, 16)
every_setting = pytest.mark.parametrize(
    ("name", "arguments"), SETTINGS, ids=lambda v: v if isinstance(v, str) else "-".join(v) or "plain"
)


def build(name, arguments, channels=CHANNELS, strides=STRIDES):
    component = registry.Component(*next(row[:3] for row in COMPONENTS if row[1] == name))
    return component.load()(in_channels=channels, in_strides=strides, **arguments)


def maps_of(height, width, channels=CHANNELS, strides=STRIDES, **more):
    """What a backbone that rounds up gives for (height, width) images."""
    return [torch.rand(2, c, -(-height // s), -(-width // s), **more) for c, s in zip(channels, strides)]


def test_every_neck_is_tried():
    assert {name for name, _ in SETTINGS} == {row[1] for row in COMPONENTS}


@every_setting
def test_attributes_are_what_a_forward_gives(name, arguments):
    neck = build(name, arguments).eval()
    for height, width in ((64, 128), (97, 71), (66, 50)):
        features = maps_of(height, width)
        kept = [f.clone() for f in features]
        out = neck(features)
        assert isinstance(out, list)
        assert [m.shape[1] for m in out] == list(neck.channels)
        valid = [stage for stage in arguments.get("stages", ()) if stage.padding == 0]
        for level, stride in list(zip(out, neck.strides))[: len(out) - len(valid)]:
            assert tuple(level.shape[2:]) == (-(-height // stride), -(-width // stride))
        assert len(neck.strides) == len(out)
        assert all(torch.equal(a, b) for a, b in zip(features, kept)), "the neck changed its input"
        assert len(features) == len(kept), "the neck changed the list that it was given"


@every_setting
def test_one_level_is_enough(name, arguments):
    arguments = {k: v for k, v in arguments.items() if k != "min_level"}
    neck = build(name, arguments, (6,), (8,)).eval()
    assert [m.shape[1] for m in neck(maps_of(64, 96, (6,), (8,)))] == list(neck.channels)


@every_setting
def test_meta_device_gives_the_same_shapes(name, arguments):
    real = build(name, arguments).eval()
    expected = [m.shape for m in real(maps_of(65, 97))]
    with torch.device("meta"):
        built_there = build(name, arguments).eval()
    for neck in (built_there, copy.deepcopy(real).to("meta")):
        assert [m.shape for m in neck(maps_of(65, 97, device="meta"))] == expected


@every_setting
def test_every_parameter_gets_a_gradient_in_bf16_channels_last(name, arguments):
    torch.manual_seed(0)
    neck = build(name, arguments).to(memory_format=torch.channels_last).train()
    features = [f.to(memory_format=torch.channels_last).requires_grad_() for f in maps_of(97, 131)]
    with torch.autocast("cpu", torch.bfloat16):
        out = neck(features)
    sum((m.float() * torch.randn(m.shape)).sum() for m in out).backward()
    for parameter_name, parameter in neck.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name
    for feature in features[arguments.get("min_level", 0) :]:
        assert feature.grad.abs().sum() > 0


@every_setting
def test_levels_that_do_not_halve_exactly(name, arguments):
    # A backbone that rounds down: 75 -> 37 -> 18 cells.
    features = [torch.rand(2, c, side, side + 1) for c, side in zip(CHANNELS, (75, 37, 18))]
    out = build(name, arguments).eval()(features)
    first = arguments.get("min_level", 0)
    assert [m.shape[2:] for m in out[: 3 - first]] == [f.shape[2:] for f in features[first:]]
