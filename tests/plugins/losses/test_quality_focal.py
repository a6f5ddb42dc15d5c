import math

import torch

from densedet.plugins.losses.quality_focal import QualityFocalLoss


def test_by_hand():
    loss = QualityFocalLoss(num_classes=2)
    # p = 0.5 everywhere. Quality 0.8 on class 1: |.8 - .5|^2 * log 2 = 0.0623832 (cross entropy with any
    # target is log 2 at p = .5); another class .5^2 * log 2 = 0.1732868; quality 0 counts like another class.
    result = loss(torch.zeros(1, 4, 2), torch.tensor([[1, 0, 2, -1]]), torch.tensor([[0.8, 0.0, 0.0, 0.0]]))
    torch.testing.assert_close(result, torch.tensor([[0.0623832 + 0.1732868, 0.3465736, 0.3465736, 0.0]]))


def test_is_0_with_zero_gradient_where_the_score_is_the_quality():
    logits = torch.full((1, 1, 1), math.log(3.0), requires_grad=True)  # sigmoid 0.75
    result = QualityFocalLoss(num_classes=1)(logits, torch.tensor([[0]]), torch.tensor([[0.75]]))
    result.sum().backward()
    torch.testing.assert_close(result, torch.zeros(1, 1), atol=1e-6, rtol=0)
    torch.testing.assert_close(logits.grad, torch.zeros(1, 1, 1), atol=1e-6, rtol=0)


def test_needs_a_quality():
    assert QualityFocalLoss(num_classes=1).quality == "required"
