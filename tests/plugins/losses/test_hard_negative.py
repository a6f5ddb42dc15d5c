import math

import pytest
import torch

from densedet.plugins.losses.hard_negative import HardNegativeLoss


def one_class(scores):
    """(B,N) -> logits (B,N,2) with the background at 0: a negative's loss is log(1 + e^z), which grows with
    z."""
    z = torch.tensor(scores)
    return torch.stack([torch.zeros_like(z), z], -1)


def test_three_hardest_per_positive():
    loss = HardNegativeLoss(num_classes=1, min_negatives=0)
    # One positive (z 0: log 2) and five negatives: those of z 5, 4, 3 count, 2 and 1 do not. The ignored z 9
    # is never sampled.
    result = loss(one_class([[0.0, 1.0, 4.0, 2.0, 5.0, 3.0, 9.0]]), torch.tensor([[0, 1, 1, 1, 1, 1, -1]]))
    at = [math.log1p(math.exp(z)) for z in (4, 5, 3)]
    torch.testing.assert_close(result, torch.tensor([[math.log(2), 0, at[0], 0, at[1], at[2], 0]]))


def test_the_example_of_the_docstring():
    losses = [0.1, 0.9, 0.3, 0.5, 0.2]
    z = [math.log(math.expm1(loss)) for loss in losses]  # log(1 + e^z) is the loss
    logits, labels = one_class([[0.0, *z]]), torch.tensor([[0, 1, 1, 1, 1, 1]])
    for floor, expected in ((0, [0, 0.9, 0.3, 0.5, 0]), (4, [0, 0.9, 0.3, 0.5, 0.2])):
        found = HardNegativeLoss(num_classes=1, ratio=3.0, min_negatives=floor)(logits, labels)
        torch.testing.assert_close(found[0, 1:], torch.tensor(expected))


def test_images_are_ranked_apart():
    # The second image has no positive; with a floor of 1 its hardest negative counts, however easy beside the
    # first image's.
    loss = HardNegativeLoss(num_classes=1, ratio=1.0, min_negatives=1)
    result = loss(one_class([[0.0, 5.0, 6.0], [-3.0, -2.0, -4.0]]), torch.tensor([[0, 1, 1], [1, 1, 1]]))
    assert (result > 0).tolist() == [[True, False, True], [False, True, False]]


def test_image_without_objects_teaches_only_with_a_floor():
    logits, labels = one_class([[1.0, 2.0, 3.0]]).requires_grad_(), torch.tensor([[1, 1, 1]])
    nothing = HardNegativeLoss(num_classes=1, min_negatives=0)(logits, labels).sum()
    nothing.backward()
    assert nothing.item() == 0
    assert not logits.grad.any()
    # 3 * 0 = 0 negatives, lifted to 2: log(1 + e^3) + log(1 + e^2) = 3.048587 + 2.126928
    some = HardNegativeLoss(num_classes=1, min_negatives=2)(logits, labels).sum()
    torch.testing.assert_close(some, torch.tensor(5.175515))
    assert HardNegativeLoss(num_classes=1)(logits, labels).sum() > 0


def test_floor_is_no_ceiling():
    # Two positives ask for 6 negatives, more than the floor of 1.
    result = HardNegativeLoss(num_classes=1, min_negatives=1)(
        torch.randn(1, 12, 2), torch.tensor([[0, 0] + [1] * 10])
    )
    assert (result > 0).sum() == 2 + 6


def test_ties_do_not_let_more_in():
    # Ten equal negatives, as at the start of training: exactly 3 count.
    result = HardNegativeLoss(num_classes=1, min_negatives=0)(
        torch.zeros(1, 11, 2), torch.tensor([[0] + [1] * 10])
    )
    assert (result > 0).sum() == 1 + 3


def test_nothing_counts_twice_when_negatives_run_out():
    # Three positives ask for 9 negatives, there are 2; torchvision would add positives a second time.
    loss = HardNegativeLoss(num_classes=1, min_negatives=0)(
        torch.zeros(1, 5, 2), torch.tensor([[0, 0, 0, 1, 1]])
    )
    torch.testing.assert_close(loss.sum(), torch.tensor(5 * math.log(2)))


@pytest.mark.parametrize("background", ["first", "last"])
@pytest.mark.parametrize(
    "spread", [3.0, 60.0, 1000.0]
)  # of the logits; from about 80 on e^logit leaves float32
def test_the_hardest_are_those_with_the_largest_loss(background, spread):
    logits = torch.randn(4, 50, 6, generator=torch.Generator().manual_seed(0)) * spread
    labels = torch.full((4, 50), 5)
    result = HardNegativeLoss(num_classes=5, min_negatives=7, background=background)(logits, labels)
    cost = -logits.double().log_softmax(-1)[..., 0 if background == "first" else 5]
    wanted = torch.zeros(4, 50, dtype=torch.bool).scatter_(1, cost.topk(7, dim=1).indices, True)
    torch.testing.assert_close(result, torch.where(wanted, cost, 0).float())
