import pytest
import torch
import torchvision

from densedet.core.errors import PartError
from densedet.plugins.backbones.resnet import ResNet18
from densedet.plugins.backbones.vgg import VGG16SSDBackbone


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return torchvision.models.resnet18().state_dict()


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No network and an empty hub folder, which is returned."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def load(path, **more):
    return ResNet18(in_channels=3, out_indices=(2, 3), weights=str(path), **more)


def test_unknown_name_is_neither_file_nor_torchvisions():
    with pytest.raises(
        PartError,
        match=r"'IMAGENET1K_V9' are neither a file .* Did you mean 'IMAGENET1K_V1'.*torchvision has: "
        r".*DEFAULT",
    ):
        load("IMAGENET1K_V9")


def test_failed_download_is_a_sentence(offline):
    with pytest.raises(
        PartError, match=r"'DEFAULT' of resnet18 could not be downloaded from https://.*weights: PATH"
    ):
        load("DEFAULT")


def test_named_weights_come_from_the_hub_folder(offline, state):
    torch.save(state, offline / "resnet18-f37072fd.pth")
    backbone = load("IMAGENET1K_V1")
    assert torch.equal(backbone.conv1.weight, state["conv1.weight"])


def test_meta_device_downloads_nothing(offline):
    with torch.device("meta"):
        assert load("DEFAULT").conv1.weight.is_meta


def test_meta_device_checks_a_file(tmp_path, state):
    torch.save({k: v for k, v in state.items() if k != "bn1.bias"}, tmp_path / "w.pth")
    with torch.device("meta"), pytest.raises(PartError, match=r"they lack bn1\.bias"):
        load(tmp_path / "w.pth")
    torch.save(state, tmp_path / "w.pth")
    with torch.device("meta"):
        assert load(tmp_path / "w.pth").conv1.weight.is_meta


def test_named_weights_bring_their_statistics():
    with torch.device("meta"):
        backbone = VGG16SSDBackbone(in_channels=3, weights="IMAGENET1K_FEATURES")
    assert backbone.mean == pytest.approx((0.48235, 0.45882, 0.40784))
    assert backbone.std == pytest.approx((1 / 255, 1 / 255, 1 / 255))


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 broken"])
def test_file_that_is_none(tmp_path, content):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(PartError, match="cannot be read as a state dict"):
        load(path)


def test_pickled_code_is_not_run(tmp_path):
    import pickle

    class Hostile:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    (tmp_path / "w.pth").write_bytes(pickle.dumps(Hostile(), protocol=2))
    with pytest.raises(PartError, match="cannot be read as a state dict"):
        load(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [[1, 2], {"conv1.weight": 3}, torch.zeros(2)])
def test_other_objects_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(PartError, match="not a state dict"):
        load(tmp_path / "w.pth")


def test_missing_strange_and_misshapen_entries(tmp_path, state):
    path = tmp_path / "w.pth"
    torch.save({k: v for k, v in state.items() if not k.startswith("layer1.0.bn")}, path)
    # Two norms of weight, bias, mean and variance: 8 entries.
    with pytest.raises(
        PartError, match=r"do not fit this resnet18: they lack layer1\.0\.bn1\.weight and 7 more"
    ):
        load(path)
    torch.save({**state, "neck.weight": torch.zeros(1)}, path)
    with pytest.raises(PartError, match=r"unknown to this backbone: neck\.weight;"):
        load(path)
    torch.save({**state, "bn1.weight": torch.zeros(63)}, path)
    with pytest.raises(PartError, match=r"differ in shape at bn1\.weight \(\(63,\) there, \(64,\) here\)"):
        load(path)


def test_one_channel_weights_do_not_serve_colour_images(tmp_path, state):
    torch.save({**state, "conv1.weight": state["conv1.weight"].sum(1, keepdim=True)}, tmp_path / "w.pth")
    with pytest.raises(PartError, match=r"differ in shape at conv1\.weight"):
        load(tmp_path / "w.pth")
    grey = ResNet18(in_channels=1, out_indices=(2,), weights=str(tmp_path / "w.pth"))
    assert torch.equal(grey.conv1.weight, state["conv1.weight"].sum(1, keepdim=True))


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_checkpoints_are_unwrapped_and_counts_of_batches_optional(tmp_path, state, key):
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save({key: old, "epoch": 3}, tmp_path / "w.pth")
    assert torch.equal(load(tmp_path / "w.pth").conv1.weight, state["conv1.weight"])
