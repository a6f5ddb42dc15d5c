import pytest
import torch
from torchvision.models.detection.fcos import FCOSHead as Reference

from densedet.core.errors import PartError
from densedet.plugins.heads.fcos import FCOSHead

WIRED = {
    "in_channels": (32, 32),
    "num_anchors": (1, 1),
    "class_channels": 5,
    "box_channels": 4,
    "class_bias": -4.6,
}


def test_equals_torchvision():
    head = FCOSHead(**WIRED, scale=False)
    reference = Reference(32, 1, 5)
    for tower, conv in (
        (head.class_tower, reference.classification_head.conv),
        (head.box_tower, reference.regression_head.conv),
    ):
        for i in range(4):
            tower.convs[0][i].load_state_dict(conv[3 * i].state_dict())
            tower.norms[0][i].load_state_dict(conv[3 * i + 1].state_dict())
    head.logits.convs[0].load_state_dict(reference.classification_head.cls_logits.state_dict())
    head.box.convs[0].load_state_dict(reference.regression_head.bbox_reg.state_dict())
    head.centerness.convs[0].load_state_dict(reference.regression_head.bbox_ctrness.state_dict())
    features = [torch.randn(2, 32, 4, 6), torch.randn(2, 32, 2, 3)]

    ours, theirs = head(features), reference(features)

    assert sum(p.numel() for p in head.parameters()) == sum(p.numel() for p in reference.parameters())
    torch.testing.assert_close(torch.cat(ours.logits, 1), theirs["cls_logits"])
    torch.testing.assert_close(torch.cat(ours.box, 1).relu(), theirs["bbox_regression"])
    torch.testing.assert_close(torch.cat(ours.extra["centerness"], 1), theirs["bbox_ctrness"])


def test_scale_is_per_level_and_on_boxes_only():
    head = FCOSHead(**WIRED, depth=0)
    features = [torch.randn(1, 32, 2, 2)] * 2
    head.scales[1].value.data.fill_(3.0)
    prediction = head(features)
    torch.testing.assert_close(prediction.box[1], prediction.box[0] * 3)
    assert torch.equal(prediction.logits[0], prediction.logits[1])


@pytest.mark.parametrize(("where", "moved"), [("box", "box_tower"), ("class", "class_tower")])
def test_centerness_follows_its_tower(where, moved):
    head = FCOSHead(**WIRED, depth=1, centerness_on=where)
    features = [torch.randn(1, 32, 2, 2)] * 2
    before = head(features).extra["centerness"][0]
    for tower in ("box_tower", "class_tower"):
        other = FCOSHead(**WIRED, depth=1, centerness_on=where)
        other.load_state_dict(head.state_dict())
        getattr(other, tower).convs[0][0].weight.data.normal_()
        assert torch.equal(other(features).extra["centerness"][0], before) == (tower != moved)


def test_refuses_unequal_anchors():
    with pytest.raises(
        PartError, match=r"the fcos head is shared by all levels but they have \(4, 6\) anchors"
    ):
        FCOSHead(**{**WIRED, "num_anchors": (4, 6)})
