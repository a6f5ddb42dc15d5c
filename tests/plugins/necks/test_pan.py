import torch
from torch import nn

from densedet.plugins.necks.fpn import FPNNeck
from densedet.plugins.necks.pan import PANNeck


def centred(layers):
    """Every convolution reads the centre of its kernel alone, with weight 1 and bias 0."""
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d):
            side = layer.kernel_size[0] // 2
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
            layer.weight.data[:, :, side, side] = 1.0


def test_bottom_up_by_hand():
    neck = PANNeck(
        in_channels=(1, 1, 1), in_strides=(8, 16, 32), channels=1, top_down=False, norm="none", extra_levels=1
    )
    centred(neck)
    fine = torch.arange(16.0).view(1, 1, 4, 4)
    middle = torch.tensor([[1.0, -20.0], [3.0, 4.0]]).view(1, 1, 2, 2)
    coarse = torch.tensor([[100.0]]).view(1, 1, 1, 1)
    levels = neck([fine, middle, coarse])
    assert torch.equal(levels[0], fine)
    # Every second cell of the fine map, [[0, 2], [8, 10]], plus relu(middle) = [[1, 0], [3, 4]].
    assert levels[1][0, 0].tolist() == [[1, 2], [11, 14]]
    # Its cell (0, 0) plus 100; the extra level reads that cell.
    assert levels[2].item() == levels[3].item() == 101
    assert neck.strides == (8, 16, 32, 64)


def test_finest_level_is_the_pyramids():
    arguments = {"in_channels": (6, 10), "in_strides": (8, 16), "channels": 8, "norm": "none"}
    pyramid, neck = FPNNeck(**arguments), PANNeck(**arguments)
    neck.top_down.load_state_dict(pyramid.top_down.state_dict())
    features = [torch.rand(1, 6, 9, 11), torch.rand(1, 10, 5, 6)]
    ours, theirs = neck(features), pyramid(features)
    assert torch.equal(ours[0], theirs[0])
    assert ours[1].min() >= 0
    assert theirs[1].min() < 0


def test_levels_further_apart_than_two():
    neck = PANNeck(in_channels=(6, 10), in_strides=(8, 32), channels=8)
    assert neck.down[0][0].stride == (4, 4)
    assert [tuple(m.shape[2:]) for m in neck([torch.rand(2, 6, 16, 8), torch.rand(2, 10, 4, 2)])] == [
        (16, 8),
        (4, 2),
    ]
