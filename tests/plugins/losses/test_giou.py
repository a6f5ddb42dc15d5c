import torch

from densedet.plugins.losses.giou import GIoULoss


def test_by_hand():
    # 2x2 at (0,0) and 2x2 at (1,1): shared 1, union 7, hull 9: 1 - 1/7 + 2/9 = 1.0793651.
    # Apart, 1x1 at (0,0) and 1x1 at (2,0): shared 0, union 2, hull 3: 1 + 1/3.
    prediction = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    target = torch.tensor([[1.0, 1.0, 3.0, 3.0], [2.0, 0.0, 3.0, 1.0]])
    torch.testing.assert_close(GIoULoss()(prediction, target), torch.tensor([1.0793651, 1.3333333]))
