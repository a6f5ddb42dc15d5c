import math

import pytest
import torch

from densedet.plugins.losses.softmax import SoftmaxLoss


@pytest.mark.parametrize(("background", "order"), [("first", [0, 1, 2]), ("last", [1, 2, 0])])
def test_by_hand(background, order):
    # Odds background : class 0 : class 1 = 1 : 2 : 5, so probabilities 1/8, 2/8, 5/8.
    logits = torch.tensor([1.0, 2.0, 5.0]).log()[order].expand(1, 4, 3)
    loss = SoftmaxLoss(num_classes=2, background=background)
    expected = torch.tensor([[math.log(8 / 2), math.log(8 / 5), math.log(8), 0.0]])
    torch.testing.assert_close(loss(logits, torch.tensor([[0, 1, 2, -1]])), expected)
    torch.testing.assert_close(loss.scores(logits)[0, 0], torch.tensor([2 / 8, 5 / 8]))
    assert loss.background_channel == background


@pytest.mark.parametrize("classes", [1, 14, 15, 40])
@pytest.mark.parametrize("background", ["first", "last"])
def test_few_and_many_classes(classes, background):
    """Up to 15 channels the softmax goes over another axis."""
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(3, 7, classes + 1, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(-1, classes + 1, (3, 7), generator=generator)
    loss = SoftmaxLoss(num_classes=classes, background=background)
    channel = (labels + 1) % (classes + 1) if background == "first" else labels
    probabilities = logits.exp() / logits.exp().sum(-1, keepdim=True)
    true = probabilities.gather(-1, channel.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    wanted = torch.where(labels < 0, 0, -true.log())
    result = loss(logits, labels)
    torch.testing.assert_close(result, wanted)
    torch.testing.assert_close(
        torch.autograd.grad(result.sum(), logits),
        torch.autograd.grad(wanted.sum(), logits, retain_graph=True),
    )
    torch.testing.assert_close(
        loss.scores(logits), probabilities[..., 1:] if background == "first" else probabilities[..., :-1]
    )
