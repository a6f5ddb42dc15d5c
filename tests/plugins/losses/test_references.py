"""Values and gradients of the losses against torch, torchvision, or the paper's formula written out, on
random and extreme inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.ops import (
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou_loss,
    sigmoid_focal_loss,
)

from densedet.plugins.losses.ciou import CIoULoss
from densedet.plugins.losses.dfl import DistributionFocalLoss
from densedet.plugins.losses.diou import DIoULoss
from densedet.plugins.losses.focal import FocalLoss
from densedet.plugins.losses.giou import GIoULoss
from densedet.plugins.losses.hard_negative import HardNegativeLoss
from densedet.plugins.losses.l1 import L1Loss
from densedet.plugins.losses.quality_focal import QualityFocalLoss
from densedet.plugins.losses.smooth_l1 import SmoothL1Loss
from densedet.plugins.losses.varifocal import VarifocalLoss

C = 5
SCALES = [0.01, 1.0, 10.0, 30.0]
"""Of the logits; a sigmoid of 60 is 1 to the last bit of a float64, and its references lose what they compute
as 1 - p."""


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def labelled(scale: float, count: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (2,N,C), labels (2,N) of -1..C, and a quality on the positives."""
    logits = (normal(2, count, C) * scale).requires_grad_()
    labels = torch.randint(-1, C + 1, (2, count), generator=generator(1))
    quality = torch.rand(2, count, dtype=torch.float64, generator=generator(2)) * (labels >= 0) * (labels < C)
    return logits, labels, quality


def true_class(labels: Tensor) -> Tensor:
    """(B,N) -> float64 (B,N,C): 1 on the label's channel."""
    return functional.one_hot(labels.clamp(min=0), C + 1)[..., :C].double()


def assert_same(
    ours: Tensor, theirs: Tensor, inputs: Tensor, *, rtol: float = 1e-9, atol: float = 1e-10
) -> None:
    """Each value, and the gradient under random weights, so that no two terms can cancel or trade places."""
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)
    weights = torch.rand(ours.shape, dtype=torch.float64, generator=generator(9))
    (one,), (other,) = (
        torch.autograd.grad((loss * weights).sum(), inputs, retain_graph=True) for loss in (ours, theirs)
    )
    assert one.abs().sum() > 0
    torch.testing.assert_close(one, other, rtol=rtol, atol=atol)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    ("alpha", "gamma"), [(0.25, 2.0), (0.5, 1.5), (0.0, 2.0), (1.0, 3.0), (None, 2.0), (0.25, 0.0)]
)
def test_focal(alpha: float | None, gamma: float, scale: float) -> None:
    logits, labels, _ = labelled(scale)
    theirs = sigmoid_focal_loss(
        logits, true_class(labels), alpha=-1 if alpha is None else alpha, gamma=gamma
    ).sum(-1) * (labels >= 0)
    assert_same(FocalLoss(num_classes=C, alpha=alpha, gamma=gamma)(logits, labels), theirs, logits)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("beta", [1.0, 1.5, 2.0])
def test_quality_focal(beta: float, scale: float) -> None:
    # GFL, equation 3: -|y - p|^beta ((1 - y) log(1 - p) + y log p), y the quality on the true class, 0
    # elsewhere.
    logits, labels, quality = labelled(scale)
    y = true_class(labels) * quality.unsqueeze(-1)
    entropy = -((1 - y) * functional.logsigmoid(-logits) + y * functional.logsigmoid(logits))
    theirs = ((y - logits.sigmoid()).abs() ** beta * entropy).sum(-1) * (labels >= 0)
    assert_same(QualityFocalLoss(num_classes=C, beta=beta)(logits, labels, quality), theirs, logits)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("alpha", "gamma"), [(0.75, 2.0), (1.0, 1.5), (0.5, 0.0)])
def test_varifocal(alpha: float, gamma: float, scale: float) -> None:
    # VarifocalNet, equation 2: -q (q log p + (1 - q) log(1 - p)) where q > 0, -alpha p^gamma log(1 - p) where
    # q = 0.
    logits, labels, quality = labelled(scale)
    quality[0, ::3] = 0  # positives among them
    q, p = true_class(labels) * quality.unsqueeze(-1), logits.sigmoid()
    yes = -q * (q * functional.logsigmoid(logits) + (1 - q) * functional.logsigmoid(-logits))
    no = -alpha * p**gamma * functional.logsigmoid(-logits)
    assert_same(
        VarifocalLoss(num_classes=C, alpha=alpha, gamma=gamma)(logits, labels, quality),
        torch.where(q > 0, yes, no).sum(-1) * (labels >= 0),
        logits,
    )


def pairs() -> tuple[Tensor, Tensor]:
    """400 pairs: anywhere, nested, apart, of a thousandth of a pixel and of 10,000 pixels, 1 : 1000 in shape,
    nearly equal."""
    unit = torch.rand(2, 400, 4, dtype=torch.float64, generator=generator(3))
    corner, side = unit[..., :2] * 20, 1 + unit[..., 2:] * 20
    side[0, 50:100] *= 1e-3
    side[1, 100:150] *= 1e-3
    corner[0, 150:200] += 500
    side[:, 200:250] *= 1e3
    side[0, 250:300, 0] *= 1e3
    side[1, 275:325, 1] *= 1e3
    corner[0, 325:350], side[0, 325:350] = corner[1, 325:350] + 0.1, side[1, 325:350] * 0.5
    corner[0, 350:], side[0, 350:] = corner[1, 350:] + 1e-6, side[1, 350:] * (1 + 1e-6)
    prediction, target = torch.cat([corner, corner + side], dim=-1)
    return prediction.requires_grad_(), target


@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        (GIoULoss(), generalized_box_iou_loss),
        (GIoULoss(eps=1e-3), partial(generalized_box_iou_loss, eps=1e-3)),
        (DIoULoss(), distance_box_iou_loss),
        (DIoULoss(eps=1e-3), partial(distance_box_iou_loss, eps=1e-3)),
        (
            CIoULoss(),
            complete_box_iou_loss,
        ),  # no other eps: torchvision gives it to alpha alone, and 1e-7 to the rest
    ],
    ids=["giou", "giou-eps", "diou", "diou-eps", "ciou"],
)
def test_overlaps(loss: nn.Module, reference: Callable[[Tensor, Tensor], Tensor]) -> None:
    prediction, target = pairs()
    assert_same(loss(prediction, target), reference(prediction, target), prediction)


def deltas(scale: float) -> tuple[Tensor, Tensor]:
    """A quarter of the numbers agree exactly, where the gradient is 0."""
    prediction, target = normal(100, 4) * scale, normal(100, 4, seed=1) * scale
    prediction[::4] = target[::4]
    return prediction.requires_grad_(), target


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_l1(scale: float) -> None:
    prediction, target = deltas(scale)
    assert_same(
        L1Loss()(prediction, target),
        functional.l1_loss(prediction, target, reduction="none").sum(-1),
        prediction,
    )


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("beta", [0.11, 1.0, 3.0])
def test_smooth_l1(beta: float, scale: float) -> None:
    # torch's Huber loss is beta * smooth L1; the loss itself stands on torch's smooth_l1_loss
    prediction, target = deltas(scale)
    theirs = functional.huber_loss(prediction, target, delta=beta, reduction="none").sum(-1) / beta
    assert_same(SmoothL1Loss(beta=beta)(prediction, target), theirs, prediction, atol=1e-16)
    written = functional.smooth_l1_loss(prediction, target, beta=beta, reduction="none").sum(-1)
    assert_same(SmoothL1Loss(beta=beta)(prediction, target), written, prediction)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("bins", [1, 4, 16])
def test_dfl(bins: int, scale: float) -> None:
    # GFL, equation 6: -((y_right - y) log S_left + (y - y_left) log S_right), side by side; whole numbers and
    # the ends among the targets.
    prediction = (normal(40, 4 * (bins + 1)) * scale).requires_grad_()
    target = torch.rand(40, 4, dtype=torch.float64, generator=generator(1)) * (bins + 0.5) - 0.25
    target[:10] = target[:10].round()
    rows = []
    for logits, sides in zip(prediction, target):
        total = torch.zeros((), dtype=torch.float64)
        for side in range(4):
            log_s = logits[side * (bins + 1) : (side + 1) * (bins + 1)].log_softmax(0)
            y = min(max(float(sides[side]), 0.0), float(bins))
            left = min(int(y), bins - 1)
            total = total - ((left + 1 - y) * log_s[left] + (y - left) * log_s[left + 1])
        rows.append(total / 4)
    assert_same(DistributionFocalLoss()(prediction, target), torch.stack(rows), prediction)


@pytest.mark.parametrize("seed", range(20))
def test_hard_negatives_equal_torchvisions_ssd(seed: int) -> None:
    """Where an image has three negatives for each positive; beyond, torchvision counts positives twice."""
    count, draw = 80, generator(seed)
    reference = SSD(nn.Identity(), DefaultBoxGenerator([[2]]), (64, 64), C + 1, head=nn.Identity())
    anchors = torch.rand(count, 2, generator=draw) * 40
    anchors = torch.cat([anchors, anchors + 8], dim=1)
    matched, truth, labels = [], [], torch.full((3, count), C)
    for image, positives in enumerate(
        (int(torch.randint(1, count // 4 + 1, (1,), generator=draw)), seed % 2, count // 4)
    ):
        objects = torch.randint(0, C, (4,), generator=draw)
        index = torch.full((count,), -1)
        at = torch.randperm(count, generator=draw)[:positives]
        index[at] = torch.randint(0, 4, (positives,), generator=draw)
        labels[image, at] = objects[index[at]]
        matched.append(index)
        truth.append({"boxes": anchors[:4], "labels": objects + 1})
    logits = (normal(3, count, C + 1, seed=seed) * (1 + seed % 5)).requires_grad_()
    outputs = {"cls_logits": logits, "bbox_regression": torch.zeros(3, count, 4)}
    theirs = reference.compute_loss(truth, outputs, [anchors] * 3, matched)["classification"]
    ours = HardNegativeLoss(num_classes=C, min_negatives=0)(logits, labels).sum() / int((labels < C).sum())
    assert_same(ours, theirs, logits)
