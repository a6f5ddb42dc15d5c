from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models.detection.retinanet import RetinaNetHead as Reference

from densedet.core.errors import PartError
from densedet.plugins.heads.retinanet import RetinaNetHead

WIRED = {
    "in_channels": (32, 32),
    "num_anchors": (3, 3),
    "class_channels": 5,
    "box_channels": 4,
    "class_bias": -4.6,
}


@pytest.mark.parametrize("norm", ["none", "group"])
def test_equals_torchvision(norm):
    head = RetinaNetHead(**WIRED, norm=norm)
    reference = Reference(32, 3, 5, norm_layer=partial(nn.GroupNorm, 32) if norm == "group" else None)
    for tower, predictors, conv, last in (
        (
            head.class_tower,
            head.logits,
            reference.classification_head.conv,
            reference.classification_head.cls_logits,
        ),
        (head.box_tower, head.box, reference.regression_head.conv, reference.regression_head.bbox_reg),
    ):
        for i, block in enumerate(conv):
            tower.convs[0][i].load_state_dict(block[0].state_dict())
            if norm == "group":
                tower.norms[0][i].load_state_dict(block[1].state_dict())
        predictors.convs[0].load_state_dict(last.state_dict())
    features = [torch.randn(2, 32, 4, 6), torch.randn(2, 32, 2, 3)]

    ours, theirs = head(features), reference(features)

    assert sum(p.numel() for p in head.parameters()) == sum(p.numel() for p in reference.parameters())
    torch.testing.assert_close(torch.cat(ours.logits, 1), theirs["cls_logits"])
    torch.testing.assert_close(torch.cat(ours.box, 1), theirs["bbox_regression"])


def test_refuses_unequal_anchors():
    with pytest.raises(
        PartError,
        match=r"the retinanet head is shared by all levels but they have \(4, 6\) anchors: .*share: false",
    ):
        RetinaNetHead(**{**WIRED, "num_anchors": (4, 6)})


def test_refuses_unequal_channels():
    with pytest.raises(PartError, match=r"shared by all levels but they have \(16, 32\) channels"):
        RetinaNetHead(**{**WIRED, "in_channels": (16, 32)})


def test_batch_norm_keeps_statistics_per_level():
    head = RetinaNetHead(**WIRED, depth=1, norm="batch")
    with torch.no_grad():
        head.class_tower.convs[0][0].weight.fill_(1 / 32)
    # Constant maps of 1 and 3 under a 3x3 window of weights 1/32 over 32 channels: 9 and 27 in the middle,
    # less at the border; the means keep the factor 3, and momentum 0.1 from 0 gives a tenth of them.
    head([torch.full((1, 32, 4, 4), 1.0), torch.full((1, 32, 4, 4), 3.0)])
    # Window sums on 4x4: corners 4, edges 6, middle 9: (4*4 + 8*6 + 4*9) / 16 = 6.25
    first, second = (norms[0].running_mean for norms in head.class_tower.norms)
    torch.testing.assert_close(first, torch.full((32,), 0.625))
    torch.testing.assert_close(second, torch.full((32,), 1.875))


def test_group_norm_is_shared():
    assert len(RetinaNetHead(**WIRED, norm="group").class_tower.norms) == 1


def test_channels_sets_the_width_of_the_towers():
    head = RetinaNetHead(**WIRED, depth=2, channels=16)
    assert [conv.weight.shape[:2] for conv in head.box_tower.convs[0]] == [(16, 32), (16, 16)]
    assert head([torch.randn(1, 32, 1, 1), torch.randn(1, 32, 1, 1)]).logits[1].shape == (1, 3, 5)


def test_depth_0_ignores_channels():
    head = RetinaNetHead(**WIRED, depth=0, channels=16)
    assert head.box.convs[0].in_channels == 32
