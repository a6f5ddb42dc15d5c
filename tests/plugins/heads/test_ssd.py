import torch
from torchvision.models.detection.ssd import SSDHead as Reference

from densedet.plugins.heads.ssd import SSDHead


def test_equals_torchvision():
    head = SSDHead(in_channels=(4, 6), num_anchors=(4, 6), class_channels=3, box_channels=4, class_bias=0.0)
    reference = Reference([4, 6], [4, 6], 3)
    head.logits.convs.load_state_dict(reference.classification_head.module_list.state_dict())
    head.box.convs.load_state_dict(reference.regression_head.module_list.state_dict())
    features = [torch.randn(2, 4, 3, 5), torch.randn(2, 6, 1, 2)]

    ours, theirs = head(features), reference(features)

    assert torch.equal(torch.cat(ours.logits, 1), theirs["cls_logits"])
    assert torch.equal(torch.cat(ours.box, 1), theirs["bbox_regression"])


def test_xavier_bound():
    # Xavier uniform: |w| <= sqrt(6 / (fan_in + fan_out)); 3x3, 4 -> 4 boxes * 4: sqrt(6 / (36 + 144)) =
    # 0.1826
    head = SSDHead(in_channels=(4,), num_anchors=(4,), class_channels=3, box_channels=4, class_bias=0.0)
    assert 0.17 < head.box.convs[0].weight.abs().max() <= 0.18258


def test_one_by_one_kernel_keeps_the_map_size():
    head = SSDHead(
        in_channels=(4,), num_anchors=(2,), class_channels=3, box_channels=4, class_bias=0.0, kernel=1
    )
    assert head([torch.randn(1, 4, 3, 5)]).logits[0].shape == (1, 3 * 5 * 2, 3)
