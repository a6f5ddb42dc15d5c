import copy

import pytest
import torch
import torchvision

from densedet.core.errors import PartError
from densedet.plugins.backbones.extractor import TorchvisionBackbone


def test_same_maps_as_torchvision_for_the_same_weights(tmp_path):
    network = torchvision.models.resnet18().eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    nodes = ("layer1", "layer3.1.relu_1")
    backbone = TorchvisionBackbone(
        in_channels=3, model="resnet18", nodes=nodes, weights=str(tmp_path / "w.pth")
    ).eval()
    assert backbone.channels == (64, 256)
    assert backbone.strides == (4, 16)
    images = torch.rand(1, 3, 64, 48)
    with torch.no_grad():
        fine = network.layer1(network.maxpool(network.relu(network.bn1(network.conv1(images)))))
        coarse = network.layer3(network.layer2(fine))
        for ours, theirs in zip(backbone(images), (fine, coarse)):
            torch.testing.assert_close(ours, theirs)


def test_layers_past_the_last_node_are_gone():
    backbone = TorchvisionBackbone(in_channels=3, model="resnet18", nodes=("layer1",))
    assert {name.split(".")[1] for name, _ in backbone.named_parameters()} == {"conv1", "bn1", "layer1"}


def test_default_taps_are_the_last_blocks_at_8_16_32():
    backbone = TorchvisionBackbone(in_channels=1, model="mobilenet_v3_small")
    # The expansions that begin the next stride (features.4.block.0, features.9.block.0) belong to blocks that
    # end coarser.
    assert backbone.nodes == ("features.3.add", "features.8.add", "features.12")
    assert backbone.channels == (24, 48, 576)
    assert backbone.strides == (8, 16, 32)


def test_grey_images_give_what_their_rgb_copies_give(tmp_path):
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "w.pth")
    arguments = {"model": "resnet18", "nodes": ("layer1",), "weights": str(tmp_path / "w.pth")}
    images = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        grey = TorchvisionBackbone(in_channels=1, **arguments).eval()(images)[0]
        colour = TorchvisionBackbone(in_channels=3, **arguments).eval()(images.expand(-1, 3, -1, -1))[0]
    torch.testing.assert_close(grey, colour, rtol=1e-4, atol=1e-4)


def test_networks_with_channels_last_and_floor_rounding():
    backbone = TorchvisionBackbone(in_channels=1, model="swin_t", nodes=("features.1", "features.3")).eval()
    assert backbone.channels == (96, 192)
    assert backbone.strides == (4, 8)
    with torch.no_grad():
        assert [tuple(m.shape[1:]) for m in backbone(torch.rand(1, 1, 64, 96))] == [
            (96, 16, 24),
            (192, 8, 12),
        ]


def test_network_whose_constructor_the_meta_device_refuses():
    with torch.device("meta"):
        backbone = TorchvisionBackbone(in_channels=1, model="regnet_y_400mf", nodes=("trunk_output.block1",))
    assert backbone.strides == (4,)
    assert all(p.is_meta for p in backbone.parameters())


def test_copies_and_modes_are_its_own():
    backbone = TorchvisionBackbone(in_channels=1, model="resnet18", nodes=("layer1",))
    assert backbone.training
    assert backbone.body.training
    other = copy.deepcopy(backbone).eval()
    before = other.body.bn1.running_mean.clone()
    other(torch.rand(2, 1, 32, 32))
    assert torch.equal(other.body.bn1.running_mean, before)
    backbone(torch.rand(2, 1, 32, 32))
    assert not torch.equal(backbone.body.bn1.running_mean, before)
    assert torch.equal(other.body.bn1.running_mean, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "resnet19"}, "no classification network 'resnet19'. Did you mean 'resnet18'"),
        (
            {"model": "resnet18", "nodes": ("layer1", "layr3")},
            "resnet18 has no node 'layr3'. Did you mean 'layer3'",
        ),
        ({"model": "resnet18", "nodes": ("layer2", "layer1")}, r"have strides \[8, 4\]: sort them"),
        ({"model": "resnet18", "nodes": ("layer1", "layer1")}, "each once"),
        ({"model": "resnet18", "nodes": ()}, "at least one"),
        (
            {"model": "resnet18", "nodes": ("layer1", "fc")},
            "'fc' of torchvision's resnet18 is no feature map",
        ),
        (
            {"model": "resnet18", "nodes": ("avgpool",)},
            "'avgpool' of torchvision's resnet18 is no feature map",
        ),
        ({"model": "vit_b_16"}, "vit_b_16 cannot be traced|vit_b_16 does not take images of any size"),
        ({"model": "resnet18", "nodes": ("layer1",), "weights": "IMAGENET"}, "neither a file"),
    ],
)
def test_faulty_arguments_are_refused(arguments, message):
    with pytest.raises(PartError, match=message):
        TorchvisionBackbone(in_channels=1, **arguments)
