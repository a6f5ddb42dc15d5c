import sys

import pytest
import torch

from densedet.core.errors import PartError
from densedet.plugins.backbones.timm_features import TimmBackbone, _layouts

WITHOUT = "timm is an extra: pip install 'densedet[timm]'"


@pytest.fixture(scope="module")
def timm():
    return pytest.importorskip("timm", reason=WITHOUT)


FAMILIES = [
    ("mobilenetv3_small_050", (16, 24, 288), (8, 16, 32)),
    ("mobilenetv4_conv_small", (64, 96, 960), (8, 16, 32)),
    ("tf_efficientnet_lite0", (40, 112, 320), (8, 16, 32)),
    ("resnet10t", (128, 256, 512), (8, 16, 32)),
    ("convnext_atto", (80, 160, 320), (8, 16, 32)),
    ("efficientvit_b0", (32, 64, 128), (8, 16, 32)),
    ("test_vit", (64,), (16,)),  # a ViT that takes images of any size
]


@pytest.mark.parametrize(("model", "channels", "strides"), FAMILIES)
def test_families(timm, model, channels, strides):
    backbone = TimmBackbone(in_channels=1, model=model)
    assert (backbone.channels, backbone.strides) == (channels, strides)
    maps = backbone(torch.rand(2, 1, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(2, c, 64 // s, 96 // s) for c, s in zip(channels, strides)]


@pytest.mark.parametrize("model", ["test_resnet", "test_convnext"])  # the latter's names are joined by timm
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_the_whole_network_are_taken_over(timm, tmp_path, model, suffix):
    network = timm.create_model(model).eval()
    path = tmp_path / f"w.{suffix}"
    if suffix == "pth":
        torch.save(network.state_dict(), path)
    else:
        from safetensors.torch import save_file

        save_file(network.state_dict(), path)
    images = torch.rand(1, 1, 64, 64)
    copies = images.expand(-1, 3, -1, -1)
    with torch.no_grad():
        expected = network.forward_intermediates(copies, intermediates_only=True)[-2:]
        for in_channels, given in ((3, copies), (1, images)):
            count = len(network.feature_info)
            backbone = TimmBackbone(
                in_channels=in_channels, model=model, weights=str(path), out_indices=(count - 2, count - 1)
            ).eval()
            for mine, theirs in zip(backbone(given), expected):
                torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_layers_past_the_last_map_are_gone(timm):
    whole, cut = (TimmBackbone(in_channels=1, model="test_resnet", out_indices=i) for i in ((1, 4), (1, 2)))
    assert cut.channels == (32, 48)
    assert len(cut.state_dict()) < len(whole.state_dict())


def test_layers_that_timm_keeps_past_the_last_map_do_not_train(timm):
    backbone = TimmBackbone(in_channels=1, model="mobilenetv3_small_050", out_indices=(1, 2))
    maps = backbone(torch.rand(2, 1, 64, 64))
    sum(level.sum() for level in maps).backward()
    trained = {name.split(".")[2] for name, p in backbone.named_parameters() if p.grad is not None}
    assert {name for name, p in backbone.named_parameters() if p.grad is not None} == {
        name for name, p in backbone.named_parameters() if p.requires_grad
    }
    assert "5" not in trained  # the blocks of stride 32


def test_frozen_norms_keep_their_statistics(timm):
    backbone = TimmBackbone(in_channels=1, model="test_resnet", norm="frozen").train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    assert before
    backbone(torch.rand(2, 1, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())


def test_statistics_are_those_that_timm_states(timm):
    backbone = TimmBackbone(in_channels=3, model="test_resnet")
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)


def test_without_timm_a_sentence_tells_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(PartError, match=r"pip install 'densedet\[timm\]'"):
        TimmBackbone(in_channels=1, model="resnet18")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "resnet19"}, r"has no model 'resnet19'\. Did you mean"),
        ({"model": "vit_tiny_patch16_224"}, "does not take images of any size .*choose a network that does"),
        ({"model": "swin_tiny_patch4_window7_224"}, "does not take images of any size"),
        ({"model": "test_resnet", "out_indices": (2, 7)}, "out_indices has 7, .* choose from 0, 1, 2, 3, 4"),
        ({"model": "test_resnet", "weights": "gone.pth"}, "'gone.pth' are no file"),
        ({"model": "test_resnet", "weights": "x", "pretrained": True}, "delete one of the two"),
    ],
)
def test_faulty_arguments_are_refused(timm, arguments, message):
    with pytest.raises(PartError, match=message):
        TimmBackbone(in_channels=1, **arguments)


def test_outputs_that_are_no_maps_are_refused():
    # Channels first at stride 8, then channels last at stride 16, then a token sequence.
    small, large = (
        [torch.empty(1, 5, side // 8, side // 8), torch.empty(1, side // 16, side // 16, 7)]
        for side in (256, 512)
    )
    assert _layouts([small, large], (2, 3), "x") == {2: (5, 8, False), 3: (7, 16, True)}
    with pytest.raises(
        PartError, match=r"output 4 of timm's x is no feature map \(\(1, 256, 7\) for a 256x256"
    ):
        _layouts([[torch.empty(1, 256, 7)], [torch.empty(1, 1024, 7)]], (4,), "x")


def test_weights_of_another_network_are_refused(timm, tmp_path):
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pth")
    with pytest.raises(PartError, match="do not fit this timm's test_convnext: they lack"):
        TimmBackbone(in_channels=1, model="test_convnext", weights=str(tmp_path / "w.pth"))


def test_a_failed_download_is_a_sentence(timm, monkeypatch):
    def offline(*arguments, **settings):
        raise OSError("no route to host")

    monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    with pytest.raises(PartError, match=r"could not load the weights of test_resnet \(no route to host\)"):
        TimmBackbone(in_channels=1, model="test_resnet", pretrained=True)
    with torch.device("meta"):  # the dry run downloads nothing
        assert TimmBackbone(in_channels=1, model="test_resnet", pretrained=True).strides == (8, 16, 32)
