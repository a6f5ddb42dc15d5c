import math

import pytest
import torch

from densedet.plugins.losses.softmax import Softmax


@pytest.mark.parametrize(("background", "order"), [("first", [0, 1, 2]), ("last", [1, 2, 0])])
def test_by_hand(background, order):
    # Odds background : class 0 : class 1 = 1 : 2 : 5, so probabilities 1/8, 2/8, 5/8.
    logits = torch.tensor([1.0, 2.0, 5.0]).log()[order].expand(1, 4, 3)
    loss = Softmax(num_classes=2, background=background)
    expected = torch.tensor([[math.log(8 / 2), math.log(8 / 5), math.log(8), 0.0]])
    torch.testing.assert_close(loss(logits, torch.tensor([[0, 1, 2, -1]])), expected)
    torch.testing.assert_close(loss.scores(logits)[0, 0], torch.tensor([2 / 8, 5 / 8]))
    assert loss.background_channel == background
