import torch

from densedet.plugins.losses.l1 import L1Loss
from densedet.plugins.losses.smooth_l1 import SmoothL1Loss

PREDICTION, TARGET = torch.tensor([[1.0, -0.5, 2.0, 0.0]]), torch.tensor([[0.0, 0.0, 2.0, 2.0]])


def test_by_hand():
    # d = 1, 0.5, 0, 2. Beta 1: (1 - .5) + .5^2 / 2 + 0 + (2 - .5) = 2.125. Beta 0.5: .75 + .25 + 0 + 1.75 =
    # 2.75.
    torch.testing.assert_close(SmoothL1Loss()(PREDICTION, TARGET), torch.tensor([2.125]))
    torch.testing.assert_close(SmoothL1Loss(beta=0.5)(PREDICTION, TARGET), torch.tensor([2.75]))


def test_beta_0_is_l1():
    torch.testing.assert_close(SmoothL1Loss(beta=0.0)(PREDICTION, TARGET), L1Loss()(PREDICTION, TARGET))
