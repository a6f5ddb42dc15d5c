"""What every box loss must do: none positive, equal boxes, boxes without extent."""

import pytest
import torch

from densedet.plugins.losses.ciou import CIoULoss
from densedet.plugins.losses.dfl import DistributionFocalLoss
from densedet.plugins.losses.diou import DIoULoss
from densedet.plugins.losses.giou import GIoULoss
from densedet.plugins.losses.iou import IoULoss
from densedet.plugins.losses.l1 import L1Loss
from densedet.plugins.losses.smooth_l1 import SmoothL1Loss

OVERLAPS = [IoULoss(), GIoULoss(), DIoULoss(), CIoULoss()]
EACH = [L1Loss(), SmoothL1Loss(), SmoothL1Loss(beta=0.0), *OVERLAPS, DistributionFocalLoss()]
every = pytest.mark.parametrize("loss", EACH, ids=lambda loss: type(loss).__name__)
overlaps = pytest.mark.parametrize("loss", OVERLAPS, ids=lambda loss: type(loss).__name__)


def boxes(count, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=dtype) * 20
    return torch.cat([corner, corner + 2 + torch.rand(count, 2, generator=generator, dtype=dtype) * 20], 1)


def example(loss, count=3, dtype=torch.float64):
    target = boxes(count, dtype, seed=1)
    if loss.space == "bins":
        return torch.randn(count, 4 * 9, dtype=dtype, requires_grad=True), target / 6
    return boxes(count, dtype).requires_grad_(), target


@every
def test_no_positives_is_exactly_0_and_connected(loss):
    # As the detector picks them from a batch in which every anchor is background.
    prediction, target = example(loss)
    none = torch.zeros(3, dtype=torch.bool)
    total = loss(prediction[none], target[none]).sum()
    total.backward()
    assert total.item() == 0
    assert not prediction.grad.any()


@overlaps
def test_equal_boxes_are_0(loss):
    torch.testing.assert_close(loss(boxes(5), boxes(5)), torch.zeros(5), atol=1e-6, rtol=0)


@overlaps
@pytest.mark.parametrize(
    ("prediction", "target"),
    [
        ([3.0, 3.0, 3.0, 3.0], [0.0, 0.0, 4.0, 4.0]),
        ([3.0, 3.0, 3.0, 3.0], [3.0, 3.0, 3.0, 3.0]),
        ([3.0, 3.0, 3.0, 9.0], [3.0, 3.0, 3.0, 9.0]),
        ([3.0, 3.0, 9.0, 3.0], [1.0, 3.0, 9.0, 3.0]),
        ([0.0, 0.0, 4.0, 4.0], [2.0, 2.0, 2.0, 2.0]),
        ([9.0, 9.0, 1.0, 1.0], [0.0, 0.0, 4.0, 4.0]),
        ([0.0, 0.0, 1e5, 1e5], [0.0, 0.0, 1e-3, 1e-3]),
    ],
)
def test_degenerate_boxes_stay_finite(loss, prediction, target):
    prediction = torch.tensor([prediction], requires_grad=True)
    result = loss(prediction, torch.tensor([target]))
    result.sum().backward()
    assert result.isfinite().all()
    assert prediction.grad.isfinite().all()


@pytest.mark.parametrize("loss", OVERLAPS[1:], ids=lambda loss: type(loss).__name__)
def test_disjoint_boxes_are_pulled_together(loss):
    prediction = torch.tensor([[10.0, 0.0, 12.0, 2.0]], requires_grad=True)
    loss(prediction, torch.tensor([[0.0, 0.0, 2.0, 2.0]])).sum().backward()
    assert prediction.grad[0, 0] > 0  # descent moves the near side to the left


def test_plain_iou_gives_disjoint_boxes_no_gradient():
    prediction = torch.tensor([[10.0, 0.0, 12.0, 2.0]], requires_grad=True)
    loss = IoULoss()(prediction, torch.tensor([[0.0, 0.0, 2.0, 2.0]]))
    loss.sum().backward()
    assert loss.tolist() == [1]
    assert not prediction.grad.any()
