from functools import partial

import pydantic
import pytest
import torch
from torch import nn
from torchvision.models.detection.ssdlite import _extra_block

from densedet.core.errors import PartError
from densedet.plugins.necks.ssd_extras import SSDExtrasNeck, Stage

SSD300 = {
    "norm": "none",
    "l2_norm": 20.0,
    "stages": (
        Stage(out_channels=512),
        Stage(out_channels=256),
        Stage(out_channels=256, stride=1, padding=0),
        Stage(out_channels=256, stride=1, padding=0),
    ),
}
SSDLITE320 = {
    "depthwise": True,
    "activation": "relu6",
    "eps": 1e-3,
    "momentum": 0.03,
    "stages": (
        Stage(out_channels=512),
        Stage(out_channels=256),
        Stage(out_channels=256),
        Stage(out_channels=128),
    ),
}


def sides(neck, *inputs):
    return [m.shape[2] for m in neck.eval()([torch.empty(1, c, s, s, device="meta") for c, s in inputs])]


def test_ssd300():
    with torch.device("meta"):
        neck = SSDExtrasNeck(in_channels=(512, 1024), in_strides=(8, 16), **SSD300)
    assert sides(neck, (512, 38), (1024, 19)) == [38, 19, 10, 5, 3, 1]
    assert neck.channels == (512, 1024, 512, 256, 256, 256)
    # Cells stay 64 pixels apart where a stage without padding only cuts the border off.
    assert neck.strides == (8, 16, 32, 64, 64, 64)


def test_ssdlite320():
    with torch.device("meta"):
        neck = SSDExtrasNeck(in_channels=(672, 480), in_strides=(16, 32), **SSDLITE320)
    assert sides(neck, (672, 20), (480, 10)) == [20, 10, 5, 3, 2, 1]
    assert neck.channels == (672, 480, 512, 256, 256, 128)
    assert neck.strides == (16, 32, 64, 128, 256, 512)


def test_ssd_stage_is_torchvisions():
    theirs = nn.Sequential(
        nn.Conv2d(24, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1, stride=2), nn.ReLU()
    )
    neck = SSDExtrasNeck(in_channels=(24,), in_strides=(8,), norm="none", stages=(Stage(out_channels=16),))
    # Ours are extras.I.0.0 (1x1) and extras.I.1.0 (3x3), torchvision's extra.I.0 and extra.I.2.
    assert [k for k, _ in neck.named_parameters()] == [
        f"extras.0.{i}.0.{p}" for i in (0, 1) for p in ("weight", "bias")
    ]
    neck.extras[0].load_state_dict(
        {f"{i}.0.{p}": theirs.state_dict()[f"{2 * i}.{p}"] for i in (0, 1) for p in ("weight", "bias")}
    )
    maps = torch.rand(1, 24, 19, 12)
    torch.testing.assert_close(neck([maps])[1], theirs(maps))


def test_ssdlite_stage_is_torchvisions():
    theirs = _extra_block(24, 16, partial(nn.BatchNorm2d, eps=1e-3, momentum=0.03))
    neck = SSDExtrasNeck(
        in_channels=(24,), in_strides=(16,), **{**SSDLITE320, "stages": (Stage(out_channels=16),)}
    )
    neck.extras[0].load_state_dict(theirs.state_dict())
    maps = torch.rand(4, 24, 9, 12)
    for mode in (True, False):
        torch.testing.assert_close(neck.train(mode)([maps])[1], theirs.train(mode)(maps))


def test_first_map_feeds_the_stages_before_its_norm():
    neck = SSDExtrasNeck(
        in_channels=(2,),
        in_strides=(8,),
        norm="none",
        l2_norm=10.0,
        stages=(Stage(out_channels=1, hidden_channels=1, kernel=1, stride=1),),
    )
    for convolution in (neck.extras[0][0][0], neck.extras[0][1][0]):
        nn.init.ones_(convolution.weight)
    # The vector (3, 4) has length 5: 10 * (0.6, 0.8). The stage adds the raw channels: 3 + 4 = 7.
    normed, extra = neck([torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)])
    torch.testing.assert_close(normed.flatten(), torch.tensor([6.0, 8.0]))
    assert extra.item() == 7.0


def test_stage_overrides_the_necks_norm_and_kind():
    neck = SSDExtrasNeck(
        in_channels=(8,),
        in_strides=(8,),
        stages=(Stage(out_channels=8, norm="none"), Stage(out_channels=8, depthwise=True, hidden_channels=6)),
    )
    assert not any(isinstance(m, nn.BatchNorm2d) for m in neck.extras[0].modules())
    assert [m.groups for m in neck.extras[1].modules() if isinstance(m, nn.Conv2d)] == [1, 6, 1]


def test_map_smaller_than_the_kernel_is_refused():
    neck = SSDExtrasNeck(
        in_channels=(4,),
        in_strides=(8,),
        stages=(Stage(out_channels=4), Stage(out_channels=4, stride=1, padding=0)),
    ).eval()
    # 8 x 4 halves to 4 x 2, where 3x3 without padding does not fit.
    with pytest.raises(
        PartError,
        match=r"stage 2 of 2 convolves 3x3 with padding 0 .* at least 3x3, but gets one of 4x2 .*padding: 1",
    ):
        neck([torch.rand(1, 4, 4, 8)])


def test_stage_is_checked_like_a_recipe():
    with pytest.raises(pydantic.ValidationError, match="strid"):
        Stage.model_validate({"out_channels": 8, "strid": 2})
    with pytest.raises(pydantic.ValidationError, match="out_channels"):
        Stage.model_validate({"out_channels": 0})
    assert Stage.model_validate({"out_channels": 8}) == Stage(
        out_channels=8, hidden_channels=None, kernel=3, stride=2, padding=None, norm=None, depthwise=None
    )
