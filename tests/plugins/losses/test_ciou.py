import math

import torch

from densedet.plugins.losses.ciou import CIoULoss


def test_by_hand():
    # 4x2 and 2x4 around the same centre (2,2): shared 4, union 12, IoU 1/3, centres equal.
    # v = 4 / pi^2 * (atan(1/2) - atan 2)^2 = 0.405285 * 0.643501^2 = 0.167826; alpha = v / (1 - 1/3 + v) =
    # 0.201121.
    v = 4 / math.pi**2 * (math.atan(0.5) - math.atan(2)) ** 2
    result = CIoULoss()(torch.tensor([[0.0, 1.0, 4.0, 3.0]]), torch.tensor([[1.0, 0.0, 3.0, 4.0]]))
    torch.testing.assert_close(result, torch.tensor([2 / 3 + v * v / (2 / 3 + v)]))
    torch.testing.assert_close(result, torch.tensor([2 / 3 + 0.167826 * 0.201121]), rtol=1e-4, atol=0)
