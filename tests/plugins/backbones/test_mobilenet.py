from functools import partial

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.detection.ssdlite import SSDLiteFeatureExtractorMobileNet

from densedet.plugins.backbones.mobilenet import MobileNetV3Large, MobileNetV3Small


def saved(network, path):
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(network.state_dict(), path)
    return network.eval()


@pytest.mark.parametrize("reduced_tail", [False, True])
def test_ssdlite_taps_are_torchvisions(tmp_path, reduced_tail):
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    network = saved(
        torchvision.models.mobilenet_v3_large(norm_layer=norm, reduced_tail=reduced_tail),
        tmp_path / "weights.pth",
    )
    theirs = SSDLiteFeatureExtractorMobileNet(network.features, 13, norm).eval()
    ours = MobileNetV3Large(
        in_channels=3,
        out_indices="ssdlite",
        reduced_tail=reduced_tail,
        momentum=0.03,
        weights=str(tmp_path / "weights.pth"),
    ).eval()
    images = torch.rand(1, 3, 64, 48)
    with torch.no_grad():
        expected = list(theirs(images).values())[:2]
        for our_map, their_map in zip(ours(images), expected):
            torch.testing.assert_close(our_map, their_map)
    assert ours.channels == (672, 480 if reduced_tail else 960)
    assert ours.strides == (16, 32)


def test_maps_by_stride_are_the_last_blocks(tmp_path):
    network = saved(torchvision.models.mobilenet_v3_small(), tmp_path / "weights.pth")
    backbone = MobileNetV3Small(
        in_channels=3, out_indices=(2, 3, 4, 5), weights=str(tmp_path / "weights.pth")
    ).eval()
    maps = torch.rand(1, 3, 64, 48)
    features = backbone(maps)
    # Table 2 of the paper: 16 channels at stride 4 (block 1), 24 at 8 (block 3), 48 at 16 (block 8), 576 at
    # 32 (last convolution).
    assert backbone.channels == (16, 24, 48, 576)
    expected = {}
    with torch.no_grad():
        for index, block in enumerate(network.features):
            maps = expected[index] = block(maps)
        for feature, index in zip(features, (1, 3, 8, 12)):
            torch.testing.assert_close(feature, expected[index])


def test_blocks_past_the_last_index_are_not_built(tmp_path):
    saved(torchvision.models.mobilenet_v3_large(), tmp_path / "weights.pth")
    backbone = MobileNetV3Large(in_channels=1, out_indices=(3, 4), weights=str(tmp_path / "weights.pth"))
    assert backbone.channels == (40, 112)
    assert len(backbone.features) == 13


def test_width_and_norm_arguments_arrive():
    backbone = MobileNetV3Large(in_channels=1, out_indices=(3,), width=0.5, eps=1e-4, momentum=0.05)
    # 40 * 0.5 = 20 is rounded to a multiple of 8, and 16 would lose more than a tenth: 24.
    assert backbone.channels == (24,)
    assert {(m.eps, m.momentum) for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {
        (1e-4, 0.05)
    }
