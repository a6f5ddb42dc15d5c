import pytest
import torch
from torchvision.models.detection.ssd import SSDFeatureExtractorVGG
from torchvision.models.vgg import cfgs, make_layers

from densedet.core.errors import PartError
from densedet.plugins.backbones.vgg import VGG16SSDBackbone


def test_maps_are_38_and_19_at_300():
    backbone = VGG16SSDBackbone(in_channels=1, width=0.0625).eval()
    with torch.no_grad():
        # 300 -> 150 -> 75 -> 38 (rounded up) -> 19
        assert [tuple(m.shape[2:]) for m in backbone(torch.rand(1, 1, 300, 300))] == [(38, 38), (19, 19)]


def test_same_maps_as_torchvisions_ssd(tmp_path):
    torch.manual_seed(0)
    layers = make_layers(cfgs["D"], batch_norm=False)
    classifier = {"classifier.0.weight": torch.zeros(1)}
    torch.save(
        {**{f"features.{k}": v for k, v in layers.state_dict().items()}, **classifier}, tmp_path / "vgg16.pth"
    )
    theirs = SSDFeatureExtractorVGG(layers, highres=False).eval()
    ours = VGG16SSDBackbone(in_channels=3, weights=str(tmp_path / "vgg16.pth")).eval()
    ours.fc.load_state_dict(theirs.extra[0][-1].state_dict())
    images = torch.randn(1, 3, 38, 54)
    with torch.no_grad():
        conv4_3, fc7 = ours(images)
        expected = theirs.features(images)
        torch.testing.assert_close(conv4_3, expected)
        torch.testing.assert_close(fc7, theirs.extra[0](expected))
    assert conv4_3.min() == 0
    assert conv4_3.max() > 0


def test_width_and_batch_norm():
    backbone = VGG16SSDBackbone(in_channels=1, width=0.125, norm="batch")
    assert backbone.channels == (64, 128)
    # In vgg16_bn conv4_3 is features.30, its norm 31, its ReLU 32.
    assert backbone.conv4_3 == 32
    assert [m.shape[1] for m in backbone(torch.rand(2, 1, 64, 64))] == [64, 128]


def test_weights_of_another_width_are_refused(tmp_path):
    layers = make_layers(cfgs["D"], batch_norm=False)
    torch.save({f"features.{k}": v for k, v in layers.state_dict().items()}, tmp_path / "vgg16.pth")
    with pytest.raises(
        PartError,
        match=r"differ in shape at features\.0\.weight \(\(64, 1, 3, 3\) there, \(32, 1, 3, 3\) here\)",
    ):
        VGG16SSDBackbone(in_channels=1, width=0.5, weights=str(tmp_path / "vgg16.pth"))
