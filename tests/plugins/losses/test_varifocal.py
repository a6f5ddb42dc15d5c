import torch

from densedet.plugins.losses.varifocal import VarifocalLoss


def test_by_hand():
    loss = VarifocalLoss(num_classes=2)
    # p = 0.5 everywhere. Quality 0.8 on class 1: .8 * log 2 = 0.5545177; another class .75 * .5^2 * log 2 =
    # 0.1299651. A positive of quality 0 is a negative of both classes.
    result = loss(torch.zeros(1, 4, 2), torch.tensor([[1, 0, 2, -1]]), torch.tensor([[0.8, 0.0, 0.0, 0.0]]))
    torch.testing.assert_close(result, torch.tensor([[0.5545177 + 0.1299651, 0.2599302, 0.2599302, 0.0]]))


def test_better_matches_count_more():
    loss, logits = VarifocalLoss(num_classes=1), torch.zeros(1, 2, 1)
    poor, good = loss(logits, torch.tensor([[0, 0]]), torch.tensor([[0.2, 0.9]]))[0]
    torch.testing.assert_close(good / poor, torch.tensor(4.5))


def test_needs_a_quality():
    assert VarifocalLoss(num_classes=1).quality == "required"
