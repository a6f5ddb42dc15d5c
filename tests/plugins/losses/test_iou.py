import torch

from densedet.plugins.losses.iou import IoULoss


def test_by_hand():
    # 2x2 at (0,0) and 2x2 at (1,1): shared 1, union 4 + 4 - 1 = 7: 1 - 1/7 = 0.8571429.
    # Apart, 1x1 at (0,0) and 1x1 at (2,0): shared 0: 1.
    prediction = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    target = torch.tensor([[1.0, 1.0, 3.0, 3.0], [2.0, 0.0, 3.0, 1.0]])
    torch.testing.assert_close(IoULoss()(prediction, target), torch.tensor([0.8571429, 1.0]))
