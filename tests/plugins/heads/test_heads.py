"""What every head must do: order, shapes, start, gradients, meta device, bf16 autocast."""

import pytest
import torch
from torch import nn

from densedet.plugins.heads.fcos import FCOSHead
from densedet.plugins.heads.retinanet import RetinaNetHead
from densedet.plugins.heads.ssd import SSDHead
from densedet.plugins.heads.ssdlite import SSDLiteHead

EACH = [SSDHead, SSDLiteHead, RetinaNetHead, FCOSHead]
WIRED = {
    "in_channels": (8, 8),
    "num_anchors": (3, 3),
    "class_channels": 5,
    "box_channels": 4,
    "class_bias": -2.0,
}
UNEQUAL = {**WIRED, "in_channels": (8, 12), "num_anchors": (4, 6)}


def features(device="cpu"):
    return [torch.randn(2, 8, 4, 6, device=device), torch.randn(2, 8, 2, 3, device=device)]


@pytest.mark.parametrize(
    ("head_class", "plain"),
    [(SSDHead, {}), (SSDLiteHead, {"norm": "none"}), (RetinaNetHead, {"depth": 0}), (FCOSHead, {"depth": 0})],
)
def test_outputs_come_in_the_order_level_y_x_anchor(head_class, plain):
    sizes, anchors, classes = [(2, 3), (1, 2)], 2, 3
    head = head_class(
        in_channels=(1, 1),
        num_anchors=(2, 2),
        class_channels=classes,
        box_channels=4,
        class_bias=0.0,
        **plain,
    )
    # Every convolution hands on the middle of its window; the predictors add 0.0001 * their channel number.
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.weight)
            layer.weight.data[:, :, layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = 1
    for predictors in (head.logits, head.box):
        for conv in predictors.convs:
            conv.bias.data = torch.arange(conv.out_channels) * 1e-4
    maps = [(level + torch.arange(h * w).view(1, 1, h, w) * 0.01) for level, (h, w) in enumerate(sizes)]

    prediction = head([m.float() for m in maps])

    for level, (h, w) in enumerate(sizes):
        for channels, out in ((classes, prediction.logits[level]), (4, prediction.box[level])):
            expected = [
                [level + (y * w + x) * 0.01 + (a * channels + c) * 1e-4 for c in range(channels)]
                for y in range(h)
                for x in range(w)
                for a in range(anchors)
            ]
            torch.testing.assert_close(out, torch.tensor([expected]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("head_class", EACH)
def test_shapes_and_class_bias(head_class):
    head = head_class(**WIRED)
    prediction = head(features())
    assert [tuple(x.shape) for x in prediction.logits] == [(2, 4 * 6 * 3, 5), (2, 2 * 3 * 3, 5)]
    assert [tuple(x.shape) for x in prediction.box] == [(2, 4 * 6 * 3, 4), (2, 2 * 3 * 3, 4)]
    assert set(prediction.extra) == set(head.branches)
    for conv in head.logits.convs:
        assert torch.equal(conv.bias, torch.full_like(conv.bias, -2.0))
    for conv in head.box.convs:
        assert torch.equal(conv.bias, torch.zeros_like(conv.bias))


@pytest.mark.parametrize("head_class", EACH)
def test_every_parameter_gets_a_gradient(head_class):
    head = head_class(**WIRED)
    prediction = head(features())
    sum(
        x.square().sum()
        for maps in (prediction.logits, prediction.box, *prediction.extra.values())
        for x in maps
    ).backward()
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("head_class", EACH)
def test_meta_device(head_class):
    with torch.device("meta"):
        prediction = head_class(**WIRED)(features("meta"))
    assert prediction.logits[0].shape == (2, 72, 5)


@pytest.mark.parametrize("head_class", EACH)
def test_bf16_autocast(head_class):
    head = head_class(**WIRED)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prediction = head(features())
    assert prediction.logits[0].dtype == torch.bfloat16
    assert all(x.isfinite().all() for x in (*prediction.logits, *prediction.box))


@pytest.mark.parametrize("head_class", EACH)
def test_memory_format_does_not_change_the_numbers(head_class):
    head, maps = head_class(**WIRED).eval(), features()
    first = head(maps)
    second = head.to(memory_format=torch.channels_last)(
        [x.to(memory_format=torch.channels_last) for x in maps]
    )
    for a, b in zip((*first.logits, *first.box), (*second.logits, *second.box)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("head_class", "more"),
    [(SSDHead, {}), (SSDLiteHead, {}), (RetinaNetHead, {"share": False}), (FCOSHead, {"share": False})],
)
def test_levels_may_differ_where_nothing_is_shared(head_class, more):
    prediction = head_class(**UNEQUAL, **more)([torch.randn(2, 8, 2, 2), torch.randn(2, 12, 1, 1)])
    assert [x.shape[1] for x in prediction.logits] == [2 * 2 * 4, 6]
    assert [x.shape[1] for x in prediction.box] == [2 * 2 * 4, 6]
