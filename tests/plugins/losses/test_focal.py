import math

import pytest
import torch

from densedet.plugins.losses import _sigmoid as sigmoid
from densedet.plugins.losses.focal import FocalLoss


def test_by_hand():
    # All logits 0: p = 0.5, log 2 = 0.693147. True class .25 * .5^2 * log 2 = 0.0433217, another class .75 *
    # .5^2 * log 2 = 0.1299651.
    loss = FocalLoss(num_classes=2)
    labels = torch.tensor([[0, 2, -1]])
    torch.testing.assert_close(
        loss(torch.zeros(1, 3, 2), labels), torch.tensor([[0.0433217 + 0.1299651, 2 * 0.1299651, 0.0]])
    )


def test_the_example_of_the_docstring():
    # p = (0.5, 0.75): .25 * .5^2 * log 2 + .75 * .75^2 * log 4 = 0.0433217 + 0.5848386
    loss = FocalLoss(num_classes=2, alpha=0.25, gamma=2.0)(
        torch.tensor([[[0.0, math.log(3)]]]), torch.tensor([[0]])
    )
    torch.testing.assert_close(loss, torch.tensor([[0.6281603]]))


def test_chunks_do_not_change_the_numbers(monkeypatch):
    logits, labels = torch.randn(2, 40, 5, requires_grad=True), torch.randint(-1, 6, (2, 40))
    loss = FocalLoss(num_classes=5)
    whole = loss(logits, labels)
    (gradient,) = torch.autograd.grad(whole.sum(), logits)
    monkeypatch.setattr(sigmoid, "CHUNK", 35)
    parts = loss(logits, labels)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts.sum(), logits)[0], gradient)


def test_gradient_can_be_taken_twice_from_one_graph():
    logits, labels = torch.randn(1, 4, 3, requires_grad=True), torch.tensor([[0, 3, -1, 2]])
    total = FocalLoss(num_classes=3)(logits, labels).sum()
    first = torch.autograd.grad(total, logits, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(total, logits)[0], first)


def test_initial_bias_is_the_prior():
    assert math.isclose(FocalLoss(num_classes=2).initial_bias, -math.log(99), rel_tol=1e-12)
    assert math.isclose(1 / (1 + math.exp(-FocalLoss(num_classes=2, prior=0.2).initial_bias)), 0.2)


@pytest.mark.parametrize("largest", [79.0, 81.0, 1e4])
def test_large_logits_do_not_overflow(largest):
    """-log(1 - p) of a logit x is x where x is large, whichever way it is calculated; its slope is 1."""
    logits = torch.tensor([[[largest, 0.0]]], requires_grad=True)
    cost = FocalLoss(num_classes=2, alpha=None, gamma=0.0)(logits, torch.tensor([[2]]))
    cost.sum().backward()
    assert cost.item() == pytest.approx(largest + math.log(2))
    assert logits.grad.tolist() == [[pytest.approx([1.0, 0.5])]]
