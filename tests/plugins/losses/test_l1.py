import torch

from densedet.plugins.losses.l1 import L1


def test_by_hand():
    # 1 + 0.5 + 0 + 2 = 3.5, summed and not averaged
    result = L1()(torch.tensor([[1.0, -0.5, 2.0, 0.0]]), torch.tensor([[0.0, 0.0, 2.0, 2.0]]))
    torch.testing.assert_close(result, torch.tensor([3.5]))
