import pytest
import torch

from densedet.plugins.heads import _canvas as canvas
from densedet.plugins.heads._canvas import Canvas, arrange
from densedet.plugins.heads.retinanet import RetinaNetHead

SIZES = [(8, 16), (4, 8), (2, 4), (1, 2), (1, 1)]


def maps(batch=2, channels=6):
    torch.manual_seed(0)
    made = [torch.randn(batch, channels, *size, dtype=torch.float64) for size in SIZES]
    return [x.contiguous(memory_format=torch.channels_last).requires_grad_() for x in made]


@pytest.fixture
def head():
    torch.manual_seed(1)
    head = RetinaNetHead(
        in_channels=(6,) * 5, num_anchors=(3,) * 5, class_channels=4, box_channels=4, class_bias=-2.0, depth=3
    ).double()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # with biases: they would fill the gaps
    return head


def numbers(head, features):
    said = head(features)
    total = sum(x.sin().sum() for x in said.logits + said.box)
    return said.logits + said.box, torch.autograd.grad(total, [*head.parameters(), *features])


def test_by_hand():
    # 4x8 in the corner; 2x4 beside it makes the area 4 * 13 = 52, below it 7 * 8 = 56; the others fit under
    # the 2x4
    assert arrange(SIZES[1:]) == (((0, 0), (0, 9), (3, 9), (3, 12)), (4, 13))
    assert arrange([(4, 2), (4, 2)]) == (((0, 0), (5, 0)), (9, 2))  # 18 below, 20 beside


def test_maps_are_apart():
    for sizes in (SIZES, [(7, 3), (4, 2), (2, 1), (1, 1)], [(5, 5)] * 6, [(1, 9), (9, 1), (3, 3)]):
        corners, (height, width) = arrange(sizes)
        seen = torch.zeros(height, width, dtype=torch.int64)
        for (y, x), (h, w) in zip(corners, sizes):
            assert not seen[max(0, y - 1) : y + h + 1, max(0, x - 1) : x + w + 1].any()
            assert y + h <= height and x + w <= width
            seen[y : y + h, x : x + w] = 1


def test_changes_no_number(head, monkeypatch):
    features = maps()
    assert Canvas.for_training(features) is not None
    packed = numbers(head, features)
    monkeypatch.setattr(canvas, "MOST_CELLS", 0)
    assert Canvas.for_training(features) is None
    alone = numbers(head, features)
    for some, others in zip(packed, alone):
        for a, b in zip(some, others):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_convolutions_run_twice_instead_of_once_a_level(head):
    calls = []
    head.class_tower.convs[0][0].register_forward_hook(lambda *_: calls.append(1))
    head.logits.convs[0].register_forward_hook(lambda *_: calls.append(1))
    head.train()(maps())
    assert len(calls) == 4
    head.eval()(maps())
    assert len(calls) == 4 + 10


@pytest.mark.parametrize(
    "features",
    [
        [x.detach().contiguous() for x in maps()],  # not channels-last
        maps()[:2],  # one coarse level
        [torch.zeros(1, 1, 128, 128).contiguous(memory_format=torch.channels_last)] * 3,  # too large
    ],
)
def test_not_where_it_does_not_pay(features):
    assert Canvas.for_training(features) is None


@pytest.mark.parametrize("norm", ["group", "batch", "frozen"])
def test_not_under_a_norm_that_tells_levels_apart(norm):
    head = RetinaNetHead(
        in_channels=(6,) * 5,
        num_anchors=(3,) * 5,
        class_channels=4,
        box_channels=4,
        class_bias=-2.0,
        depth=1,
        norm=norm,
    )
    calls = []
    head.logits.convs[0].register_forward_hook(lambda *_: calls.append(1))
    head.train()([x.detach().float() for x in maps()])
    assert len(calls) == 5
