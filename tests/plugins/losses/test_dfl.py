import math

import pytest
import torch

from densedet.core.errors import PartError
from densedet.plugins.losses.dfl import DistributionFocalLoss


def test_by_hand():
    # Two bins' width per side (bins 0, 1, 2), odds 1 : 2 : 5 on every side. Targets 1.25 (bins 1 and 2,
    # weights .75, .25), 0 (bin 0), 2 (bin 2, the last) and 9, cut to 2.
    prediction = torch.tensor([1.0, 2.0, 5.0]).log().repeat(1, 4)
    sides = [0.75 * math.log(8 / 2) + 0.25 * math.log(8 / 5), math.log(8), math.log(8 / 5), math.log(8 / 5)]
    result = DistributionFocalLoss()(prediction, torch.tensor([[1.25, 0.0, 2.0, 9.0]]))
    torch.testing.assert_close(result, torch.tensor([sum(sides) / 4]))


def test_sides_lie_one_after_the_other():
    # Channels 0..2 are the left side's bins: a sure left side at bin 2 costs nothing there and much
    # elsewhere.
    prediction = torch.zeros(1, 12)
    prediction[0, 2] = 50.0
    # left 0, three undecided sides log 3 each, averaged over four
    torch.testing.assert_close(
        DistributionFocalLoss()(prediction, torch.tensor([[2.0, 0.0, 1.0, 1.5]])),
        torch.tensor([3 * math.log(3) / 4]),
    )


@pytest.mark.parametrize("channels", [4, 6])
def test_refuses_what_is_no_distribution(channels):
    with pytest.raises(PartError, match=rf"dfl needs .* the coder has {channels}: choose coder distribution"):
        DistributionFocalLoss()(torch.zeros(1, channels), torch.zeros(1, 4))
