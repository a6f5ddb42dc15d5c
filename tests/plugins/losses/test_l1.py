import torch

from densedet.plugins.losses.l1 import L1Loss


def test_by_hand():
    # 1 + 0.5 + 0 + 2 = 3.5, summed and not averaged
    result = L1Loss()(torch.tensor([[1.0, -0.5, 2.0, 0.0]]), torch.tensor([[0.0, 0.0, 2.0, 2.0]]))
    torch.testing.assert_close(result, torch.tensor([3.5]))
