"""Box losses that keep their contract in a way of their own, and some that break it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from densedet.core.boxes import centers, iou
from densedet.core.conformance import ConformanceError, check_box_loss
from densedet.plugins.losses.dfl import DistributionFocalLoss

BROKEN: list[Any] = []
LEGAL: list[Any] = []


def broken(sentence: str) -> Any:
    def add(factory: Any) -> Any:
        BROKEN.append(pytest.param(factory, sentence, id=factory.__name__))
        return factory

    return add


def legal(factory: Any) -> Any:
    LEGAL.append(pytest.param(factory, id=factory.__name__))
    return factory


class Boxes(nn.Module):
    space = "boxes"

    def __init__(self) -> None:
        super().__init__()


class Deltas(Boxes):
    space = "deltas"


@legal
class SquareIoU(Boxes):
    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return 1 - iou(p, t).square()


@legal
class LogIoU(Boxes):
    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return -iou(p, t).clamp(min=1e-6).log()


@legal
class CentreOnly(Boxes):
    """One of a weighted list."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return (centers(p) - centers(t)).abs().sum(-1) / 10


@legal
class RelativeL1(Boxes):
    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return (p - t).abs().sum(-1) / (t[:, 2:] - t[:, :2]).sum(-1).clamp(min=1)


@legal
class Huber(Deltas):
    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return nn.functional.huber_loss(p, t, reduction="none").sum(-1)


@legal
class LogCosh(Deltas):
    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return (nn.functional.softplus(2 * (p - t)) - (p - t) - 0.6931472).clamp(min=0).sum(-1)


@legal
class SumOfBins(DistributionFocalLoss):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().forward(prediction, target) * 4


@broken("neither cxcywh")
class CentreFormat(Boxes):
    """Takes xyxy for cx, cy, w, h."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        p, t = (torch.cat([b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2], 1) for b in (p, t))
        return 1 - iou(p, t)


@broken("neither cxcywh")
class CornerAndSize(Boxes):
    """Takes xyxy for x, y, w, h."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        p, t = (torch.cat([b[:, :2], b[:, :2] + b[:, 2:]], 1) for b in (p, t))
        return 1 - iou(p, t)


@broken("smaller where prediction and target agree")
class Shares(Boxes):
    """Takes pixels for shares of the image."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return 1 - iou(p.clamp(0, 80), t.clamp(0, 80))


@broken("smaller where prediction and target agree|falling|negative")
class Gain(Boxes):
    """The IoU itself: to be raised, not lowered."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return iou(p, t)


@broken("0 where prediction and target agree")
class Offset(Boxes):
    """2 - IoU is 1 at the target."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return 2 - iou(p, t)


@broken("negative or not finite")
class Negative(Deltas):
    """The logarithm of the distance falls below 0."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return (p - t).sum(-1).abs() * 2 - (p - t).abs().sum(-1) * 0.5


@broken("cut off")
class Cut(Boxes):
    """Detached."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return 1 - iou(p.detach(), t)


@broken("costs nothing or is not drawn back|gets no gradient")
class HalfCut(Deltas):
    """The sizes get no gradient."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return (p[:, :2] - t[:, :2]).abs().sum(-1) + (p[:, 2:].detach() - t[:, 2:]).abs().sum(-1)


@broken("costs nothing|smaller where|gets no gradient")
class ThreeOfFour(Deltas):
    """Off by one in a slice: the last number does not count."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return (p - t)[:, :-1].abs().sum(-1)


@broken(r"gives \(P,\)")
class Coordinates(Deltas):
    """Not summed over the coordinates."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return (p - t).abs()


@broken(r"gives \(P,\)")
class Scalar(Deltas):
    """Summed over the boxes too."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return (p - t).abs().sum()


@broken(r"gives \(P,\)")
class KeptAxis(Deltas):
    """(P,1) broadcasts against weights (P,)."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return (p - t).abs().sum(-1, keepdim=True)


@broken("depends on the other boxes|P = 0")
class Normalised(Deltas):
    """Divides by the number of boxes, which the detector does."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return (p - t).abs().sum(-1) / max(len(p), 1)


@broken("depends on the other boxes")
class BatchMean(Deltas):
    """A scale from the whole batch."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        each = (p - t).abs().sum(-1)
        return each * each.detach().mean() if len(p) else each


@broken("raised")
class NoPositives(Boxes):
    """The largest of no box."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return (1 - iou(p, t)) * (p.amax() > -1)


@broken("without area|not finite")
class NoArea(Boxes):
    """0/0 without an eps."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        low, high = torch.maximum(p[:, :2], t[:, :2]), torch.minimum(p[:, 2:], t[:, 2:])
        shared = (high - low).clamp(min=0).prod(-1)
        area = [(b[:, 2:] - b[:, :2]).prod(-1) for b in (p, t)]
        return 1 - shared / (area[0] + area[1] - shared)


@broken("gradient is not finite|without area")
class RootAtZero(Boxes):
    """The square root's slope at 0."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return (centers(p) - centers(t)).square().sum(-1).sqrt() / 10 + (p - t).abs().sum(-1) / 40


@broken("not finite where prediction and target agree")
class Euclidean(Deltas):
    """The length of the difference has no slope at 0."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return (p - t).square().sum(-1).sqrt()


@broken("in place")
class InPlace(Deltas):
    """Changes the target, which other losses share."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return t.sub_(p.detach()).abs().sum(-1) + 0 * p.sum(-1)


@broken("global random generator")
class Noisy(Deltas):
    """Dropout in a loss."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return (p - t).abs().sum(-1) * torch.rand(1)


@broken("two different outputs|depends on|negative gradient")
class Counting(Deltas):
    """Grows with every call."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        self.calls = getattr(self, "calls", 0) + 1
        return (p - t).abs().sum(-1) * self.calls


@broken("float32")
class Double(Deltas):
    """float64 takes twice the memory and breaks on mps."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return (p.double() - t.double()).abs().sum(-1)


@broken("CPU")
class OnCPU(Deltas):
    """A constant on the CPU."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return ((p - t).abs() * torch.ones(4)).sum(-1)


@broken("space is")
class OtherSpace(Deltas):
    """A space that nobody has."""

    space = "xywh"


class Bins(Boxes):
    space = "bins"
    shift = 0

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        logits = p.unflatten(-1, (4, -1)).log_softmax(-1)
        low = (t.floor().long() + self.shift).clamp(0, logits.shape[-1] - 2)
        share = t - t.floor()
        near = [logits.gather(-1, (low + i).unsqueeze(-1)).squeeze(-1) for i in (0, 1)]
        return self.joined(-(near[0] * (1 - share) + near[1] * share))

    def joined(self, sides: Tensor) -> Tensor:
        return sides.sum(-1)


@broken("smaller where|0 where")
class NextBin(Bins):
    """Bins counted from 1."""

    shift = 1


@broken("smaller where|0 where|bin off at no cost")
class OneSideOnly(Bins):
    """Three of the four sides do not count."""

    def joined(self, sides: Tensor) -> Tensor:
        return sides[:, 0]


@broken("smaller where|0 where|bins off")
class SwappedShares(Bins):
    """The farther bin gets the larger weight."""

    def forward(self, p: Tensor, t: Tensor) -> Tensor:
        return super().forward(p, t.floor() + 1 - (t - t.floor()))


@pytest.mark.parametrize(("factory", "sentence"), BROKEN)
def test_broken(factory: Any, sentence: str) -> None:
    with pytest.raises(ConformanceError, match=sentence):
        check_box_loss(factory)


@pytest.mark.parametrize("factory", LEGAL)
def test_legal(factory: Any) -> None:
    check_box_loss(factory)
