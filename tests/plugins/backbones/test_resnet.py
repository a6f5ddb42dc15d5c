import pytest
import torch
import torchvision
from torch import nn

from densedet.core.errors import PartError
from densedet.plugins.backbones.resnet import ResNet18, ResNet34, ResNet50


def drawn(network):
    """``network`` with batch-norm statistics that differ from the neutral ones."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
    return network.eval()


def levels(network, images):
    maps = network.maxpool(network.relu(network.bn1(network.conv1(images))))
    found = {}
    for level in (2, 3, 4, 5):
        maps = found[level] = getattr(network, f"layer{level - 1}")(maps)
    return found


@pytest.fixture
def reference(tmp_path):
    network = drawn(torchvision.models.resnet18())
    path = tmp_path / "resnet18.pth"
    torch.save(network.state_dict(), path)
    return network, str(path)


@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_same_maps_as_torchvision_for_the_same_weights(reference, norm):
    network, path = reference
    backbone = ResNet18(in_channels=3, out_indices=(2, 3, 4, 5), norm=norm, weights=path).eval()
    images = torch.rand(1, 3, 75, 50)
    with torch.no_grad():
        for ours, theirs in zip(backbone(images), levels(network, images).values()):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_grey_images_give_what_their_rgb_copies_give(reference):
    network, path = reference
    backbone = ResNet18(in_channels=1, weights=path).eval()
    images = torch.rand(1, 1, 64, 48)
    with torch.no_grad():
        expected = levels(network, images.expand(-1, 3, -1, -1))
        for ours, level in zip(backbone(images), (3, 4, 5)):
            torch.testing.assert_close(ours, expected[level], rtol=1e-4, atol=1e-4)


def test_stages_past_the_last_tap_are_not_built(reference):
    _, path = reference
    backbone = ResNet18(in_channels=3, out_indices=(2, 3), weights=path)
    assert backbone.channels == (64, 128)
    assert not hasattr(backbone, "layer3")
    assert {name.split(".")[0] for name, _ in backbone.named_parameters()} == {
        "conv1",
        "bn1",
        "layer1",
        "layer2",
    }


def test_channels_of_the_others():
    assert ResNet34(in_channels=1, out_indices=(2, 3)).channels == (64, 128)
    assert ResNet50(in_channels=1, out_indices=(2, 3)).channels == (256, 512)


def test_frozen_stages_keep_weights_and_statistics():
    backbone = ResNet18(in_channels=1, out_indices=(2, 3), frozen_stages=2).train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    backbone(torch.rand(2, 1, 32, 32))
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad == (name.split(".")[0] == "layer2"), name
    for name, value in backbone.named_buffers():
        kept = name.split(".")[0] in ("bn1", "layer1")
        assert torch.equal(value, before[name]) == kept, name


def test_frozen_norm_has_neither_parameters_nor_changing_statistics():
    backbone = ResNet18(in_channels=1, out_indices=(2,), norm="frozen", eps=0.0).train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    backbone(torch.rand(2, 1, 32, 32))
    assert not any("bn" in name for name, _ in backbone.named_parameters())
    assert all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())
    assert backbone.bn1.eps == 0.0


def test_norm_arguments_arrive():
    backbone = ResNet18(in_channels=1, out_indices=(2,), eps=1e-3, momentum=0.03)
    assert {(m.eps, m.momentum) for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {
        (1e-3, 0.03)
    }
    assert any(
        isinstance(m, nn.GroupNorm) for m in ResNet18(in_channels=1, out_indices=(2,), norm="group").modules()
    )


def test_group_norm_refuses_weights_of_batch_norm(reference):
    _, path = reference
    with pytest.raises(PartError, match=r"entries unknown to this backbone: bn1\.running_mean .*same norm"):
        ResNet18(in_channels=3, norm="group", weights=path)
