"""Class losses that keep their contract in a way of their own, and some that break it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from densedet.core.conformance import ConformanceError, check_class_loss
from densedet.plugins.losses.focal import FocalLoss
from densedet.plugins.losses.hard_negative import HardNegativeLoss
from densedet.plugins.losses.softmax import SoftmaxLoss

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


class Sigmoid(nn.Module):
    """Binary cross entropy per class, in pieces that the classes below break."""

    background_channel, quality, initial_bias = "none", "unused", -2.0

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def target(self, labels: Tensor, quality: Tensor | None) -> Tensor:
        hot = functional.one_hot(labels.clamp(min=0), self.num_classes + 1)[..., :-1].float()
        return hot if quality is None else hot * quality.unsqueeze(-1)

    def each(self, logits: Tensor, labels: Tensor, quality: Tensor | None) -> Tensor:
        target = self.target(labels, quality)
        return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")

    def counted(self, labels: Tensor) -> Tensor:
        return labels >= 0

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        return self.each(logits, labels, quality).sum(-1) * self.counted(labels)

    def scores(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


@legal
class Plain(Sigmoid):
    pass


@legal
class PositivesOnly(Sigmoid):
    def counted(self, labels: Tensor) -> Tensor:
        return (labels >= 0) & (labels < self.num_classes)


@legal
class ClassWeighted(Sigmoid):
    def each(self, logits: Tensor, labels: Tensor, quality: Tensor | None) -> Tensor:
        return super().each(logits, labels, quality) * torch.tensor([1.0, 2.0, 0.5]).to(logits.device)


@legal
class SoftQuality(Sigmoid):
    quality = "optional"


LEGAL.append(pytest.param(partial(HardNegativeLoss, min_negatives=0), id="no_floor"))
LEGAL.append(pytest.param(partial(SoftmaxLoss, background="last"), id="background_last"))
LEGAL.append(pytest.param(partial(FocalLoss, gamma=0.5, alpha=None), id="soft_focus"))


@legal
class LabelSmoothing(SoftmaxLoss):
    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        channel = torch.where(labels >= 0, (labels + 1) % (self.num_classes + 1), labels)
        loss = functional.cross_entropy(
            logits.flatten(0, 1), channel.flatten(), ignore_index=-1, reduction="none", label_smoothing=0.1
        )
        return loss.view(labels.shape)


@legal
class Polynomial(Sigmoid):
    """PolyLoss: cross entropy and 1 - p of the true class."""

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        target = self.target(labels, quality)
        extra = ((1 - logits.sigmoid()) * target).sum(-1)
        return super().forward(logits, labels, quality) + extra * self.counted(labels)


@broken("label 0 does not grow by learning")
class OffByOne(Sigmoid):
    """Labels counted from 1: class 0 is taken for the background."""

    def target(self, labels: Tensor, quality: Tensor | None) -> Tensor:
        return functional.one_hot(labels.clamp(min=0), self.num_classes + 1)[..., 1:].float()


@broken("learn by this loss score class")
class ScoresRolled(Sigmoid):
    """Scores in another order than the labels."""

    def scores(self, logits: Tensor) -> Tensor:
        return logits.sigmoid().roll(1, -1)


@broken("learn by this loss score class|grow by learning|background")
class WrongSlice(SoftmaxLoss):
    """The background's channel is first, the scores leave out the last."""

    def scores(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)[..., :-1]


@broken("learn by this loss score class|does not grow|grow by learning")
class Upside(Sigmoid):
    """Negatives and positives swapped."""

    def target(self, labels: Tensor, quality: Tensor | None) -> Tensor:
        return 1 - super().target(labels, quality)


@broken("negative or not finite")
class Negated(Sigmoid):
    """A gain instead of a loss."""

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        return -super().forward(logits, labels, quality)


@broken("grow")
class BackgroundRises(Sigmoid):
    """Label C is taken for the last class."""

    def target(self, labels: Tensor, quality: Tensor | None) -> Tensor:
        hot = labels.clamp(min=0, max=self.num_classes - 1)
        return functional.one_hot(hot, self.num_classes).float()


@broken("exactly 0 where the label is -1")
class IgnoresNothing(Sigmoid):
    """-1 counts as background."""

    def counted(self, labels: Tensor) -> Tensor:
        return labels >= -1


@broken("exactly 0 where the label is -1|grows|score class")
class IgnoresBackground(Sigmoid):
    """-1 and C mixed up."""

    def counted(self, labels: Tensor) -> Tensor:
        return labels != self.num_classes


@broken("gets no gradient")
class IgnoredLearns(Sigmoid):
    """A value of 0 with a gradient."""

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        loss = super().forward(logits, labels, quality)
        return loss + (logits - logits.detach()).sum(-1) * (labels < 0)


@broken(r"keeps \(B,N\)")
class PerClass(Sigmoid):
    """Not summed over the channels."""

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        return self.each(logits, labels, quality) * self.counted(labels).unsqueeze(-1)


@broken(r"keeps \(B,N\)")
class Scalar(Sigmoid):
    """A mean over all anchors."""

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        return super().forward(logits, labels, quality).mean()


@broken(r"keeps \(B,N\)")
class Flat(Sigmoid):
    """The batch axis is lost."""

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        return super().forward(logits, labels, quality).flatten()


@broken("not finite")
class Logarithm(Sigmoid):
    """log(sigmoid) of a large negative logit is -inf."""

    def each(self, logits: Tensor, labels: Tensor, quality: Tensor | None) -> Tensor:
        p, t = logits.sigmoid(), self.target(labels, quality)
        return -(t * p.log() + (1 - t) * (1 - p).log())


@broken("not finite")
class Exponential(Sigmoid):
    """exp overflows at 100."""

    def each(self, logits: Tensor, labels: Tensor, quality: Tensor | None) -> Tensor:
        sign = 2 * self.target(labels, quality) - 1
        return (-sign * logits).exp()


@broken("cut off")
class Cut(Sigmoid):
    """Detached."""

    def each(self, logits: Tensor, labels: Tensor, quality: Tensor | None) -> Tensor:
        return super().each(logits.detach(), labels, quality)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


@broken("grows along its negative gradient")
class WrongGradient(Sigmoid):
    """An own backward of the wrong sign."""

    def each(self, logits: Tensor, labels: Tensor, quality: Tensor | None) -> Tensor:
        return super().each(_Reversed.apply(logits), labels, quality)


@broken("does not grow|score class")
class OneClassCut(Sigmoid):
    """Off by one in a slice: the last class learns nothing."""

    def each(self, logits: Tensor, labels: Tensor, quality: Tensor | None) -> Tensor:
        return super().each(torch.cat([logits[..., :-1], logits[..., -1:].detach()], -1), labels, quality)


@broken("other images of the batch")
class AcrossImages(Sigmoid):
    """Normalised by the positives of the batch, which the detector does."""

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        positives = ((labels >= 0) & (labels < self.num_classes)).sum().clamp(min=1)
        return super().forward(logits, labels, quality) / positives


@broken("anchors in another order")
class ByPlace(Sigmoid):
    """Weighs anchors by their index."""

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        weight = torch.linspace(1, 0.5, labels.shape[1], device=logits.device)
        return super().forward(logits, labels, quality) * weight


@broken("ignored anchor's logits change the loss")
class IgnoredRanks(HardNegativeLoss):
    """Ignored anchors are ranked among the negatives, so that the hardest sample is lost."""

    def __init__(self, *, num_classes: int) -> None:
        super().__init__(num_classes=num_classes, ratio=1.0, min_negatives=1)

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        loss = SoftmaxLoss.forward(self, logits, labels)
        cost = logits.detach().logsumexp(-1) - logits.detach()[..., 0]
        positive = (labels >= 0) & (labels < self.num_classes)
        hardest = torch.zeros_like(positive).scatter(
            1, cost.masked_fill(positive, -1e9).topk(min(2, labels.shape[1]), 1)[1], True
        )
        return loss * (positive | hardest)


@broken("does not grow by learning|a higher score than one of 0.95")
class QualityReversed(Sigmoid):
    """1 is taken for the worst quality."""

    quality = "required"

    def target(self, labels: Tensor, quality: Tensor | None) -> Tensor:
        return super().target(labels, None if quality is None else 1 - quality)


@broken("raised")
class NeedsQuality(Sigmoid):
    """Says "unused" and uses it."""

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        return super().forward(logits, labels, None) * quality.clamp(min=0.1)  # type: ignore[union-attr]


@broken("most anchors are background")
class BiasSign(Sigmoid):
    """The prior's sign is lost: every anchor starts as an object."""

    initial_bias = 4.6


@broken("initial_bias is a logit")
class NoBias(Sigmoid):
    """log(0)."""

    initial_bias = float("-inf")


@broken("scores lie in 0..1")
class LogitsAsScores(Sigmoid):
    """The sigmoid is forgotten."""

    def scores(self, logits: Tensor) -> Tensor:
        return logits


@broken("without background")
class BackgroundScored(SoftmaxLoss):
    """C + 1 scores."""

    def scores(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)


@broken("scores depend on others")
class ScoresOverAnchors(Sigmoid):
    """A softmax over the wrong axis."""

    def scores(self, logits: Tensor) -> Tensor:
        return logits.softmax(1)


@broken("in place")
class ChangesLabels(Sigmoid):
    """Shifts the labels for good."""

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        return super().forward(logits, labels.masked_fill_(labels == self.num_classes, 0), quality)


@broken("global random generator")
class Sampled(Sigmoid):
    """Draws negatives from the global generator, in eval mode too."""

    def counted(self, labels: Tensor) -> Tensor:
        return (labels >= 0) & (torch.rand(labels.shape) > 0.5)


@broken("two different outputs")
class Running(Sigmoid):
    """A running mean that evaluation moves."""

    mean = 1.0

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        loss = super().forward(logits, labels, quality)
        self.mean = 0.9 * self.mean + 0.1 * float(loss.detach().mean())
        return loss / self.mean


@broken("CPU")
class OnCPU(Sigmoid):
    """A constant on the CPU."""

    def each(self, logits: Tensor, labels: Tensor, quality: Tensor | None) -> Tensor:
        return super().each(logits, labels, quality) * torch.ones(3)


@broken("float32")
class Double(Sigmoid):
    """float64."""

    def each(self, logits: Tensor, labels: Tensor, quality: Tensor | None) -> Tensor:
        return super().each(logits, labels, quality).double()


@pytest.mark.parametrize(("factory", "sentence"), BROKEN)
def test_broken(factory: Any, sentence: str) -> None:
    with pytest.raises(ConformanceError, match=sentence):
        check_class_loss(factory)


@pytest.mark.parametrize("factory", LEGAL)
def test_legal(factory: Any) -> None:
    check_class_loss(factory)
