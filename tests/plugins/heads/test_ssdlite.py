from functools import partial

import torch
from torch import nn
from torchvision.models.detection.ssdlite import SSDLiteHead as Reference

from densedet.plugins.heads.ssdlite import SSDLiteHead


def test_equals_torchvision():
    head = SSDLiteHead(
        in_channels=(4, 6), num_anchors=(3, 6), class_channels=3, box_channels=4, class_bias=0.0
    )
    reference = Reference([4, 6], [3, 6], 3, partial(nn.BatchNorm2d, eps=0.001, momentum=0.03))
    for blocks, predictors, theirs in (
        (head.class_blocks, head.logits, reference.classification_head.module_list),
        (head.box_blocks, head.box, reference.regression_head.module_list),
    ):
        for level in range(2):
            blocks[level].load_state_dict(theirs[level][0].state_dict())
            predictors.convs[level].load_state_dict(theirs[level][1].state_dict())
    features = [torch.randn(2, 4, 3, 5), torch.randn(2, 6, 2, 2)]

    # In training mode batch statistics count, in evaluation mode the running ones, which the first pass has
    # moved.
    for mode in (True, False):
        ours, expected = head.train(mode)(features), reference.train(mode)(features)
        torch.testing.assert_close(torch.cat(ours.logits, 1), expected["cls_logits"])
        torch.testing.assert_close(torch.cat(ours.box, 1), expected["bbox_regression"])
