import torch

from densedet.plugins.losses.diou import DIoULoss


def test_by_hand():
    # 2x2 at (0,0) and 2x2 at (1,1): IoU 1/7; centres (1,1), (2,2): 2; hull 3x3, diagonal^2 18: 1 - 1/7 + 2/18
    # = 0.9682540.
    result = DIoULoss()(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 1.0, 3.0, 3.0]]))
    torch.testing.assert_close(result, torch.tensor([0.9682540]))
