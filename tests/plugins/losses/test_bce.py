import torch
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from densedet.plugins.losses.bce import BCELoss


def test_equals_torch():
    logits, labels = torch.randn(2, 6, 3) * 3, torch.tensor([[0, 1, 2, 3, 3, -1], [3, 0, -1, 2, 1, 3]])
    target = one_hot(labels.clamp(min=0), 4)[..., :3].float()
    expected = binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1) * (labels >= 0)
    torch.testing.assert_close(BCELoss(num_classes=3)(logits, labels), expected)
