"""Matchers that keep their contract in a way of their own, and some that break it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from densedet.core import boxes as box_ops
from densedet.core.conformance import ConformanceError, check_matcher
from densedet.core.errors import PartError
from densedet.core.types import Assignment, Reasons
from densedet.plugins.matchers.fcos import FCOSMatcher

BROKEN: list[Any] = []
LEGAL: list[Any] = []


def broken(sentence: str, **arguments: Any) -> Any:
    def add(factory: Any) -> Any:
        BROKEN.append(pytest.param(factory, sentence, arguments, id=factory.__name__))
        return factory

    return add


def legal(factory: Any) -> Any:
    LEGAL.append(pytest.param(factory, id=factory.__name__))
    return factory


class Threshold:
    """IoU above 0.5, in pieces that the classes below break."""

    uses_predictions: Any = False
    positive = 0.5

    def __init__(self) -> None:
        pass

    def overlaps(self, boxes: Tensor, valid: Tensor, anchors: Tensor) -> Tensor:
        return box_ops.pairwise_iou(boxes, anchors).masked_fill(~valid.unsqueeze(-1), -1.0)

    def chosen(self, overlaps: Tensor) -> tuple[Tensor, Tensor]:
        """(best IoU (B,N), slot (B,N)) or -1 below the threshold."""
        best, slot = overlaps.max(1)
        return best, torch.where(best >= self.positive, slot, -1)

    def quality(self, best: Tensor, index: Tensor) -> Tensor | None:
        return best * (index >= 0)

    def __call__(
        self,
        boxes: Tensor,
        labels: Tensor,
        valid: Tensor,
        anchors: Tensor,
        levels: Any,
        predictions: Any = None,
    ) -> Assignment:
        if boxes.shape[1] == 0:
            none = torch.full((len(boxes), len(anchors)), -1)
            return self.last(none, none * 0.0)
        best, index = self.chosen(self.overlaps(boxes, valid, anchors))
        return self.last(index, best)

    def last(self, index: Tensor, best: Tensor) -> Assignment:
        return Assignment(index, self.quality(best, index))


@legal
class Plain(Threshold):
    pass


@legal
class WithoutBackground(Threshold):
    """Positive and unlabelled: what matches nothing is ignored."""

    def last(self, index: Tensor, best: Tensor) -> Assignment:
        return Assignment(index.masked_fill(index == -1, -2), self.quality(best, index))


@legal
class IgnoresNearMisses(Threshold):
    def chosen(self, overlaps: Tensor) -> tuple[Tensor, Tensor]:
        best, index = super().chosen(overlaps)
        return best, torch.where((index == -1) & (best > 0.3), -2, index)


@legal
class NoQuality(Threshold):
    def quality(self, best: Tensor, index: Tensor) -> None:
        return None


@legal
class WarmsUp(Threshold):
    """The threshold rises with the training's progress."""

    def __call__(  # type: ignore[override]
        self,
        boxes: Tensor,
        labels: Tensor,
        valid: Tensor,
        anchors: Tensor,
        levels: Any,
        predictions: Any = None,
        *,
        progress: float = 1.0,
    ) -> Assignment:
        self.positive = 0.4 + 0.3 * progress
        return super().__call__(boxes, labels, valid, anchors, levels, predictions)


@legal
class Adjusted(Threshold):
    uses_predictions = "adjusted"

    def __call__(
        self,
        boxes: Tensor,
        labels: Tensor,
        valid: Tensor,
        anchors: Tensor,
        levels: Any,
        predictions: Any = None,
    ) -> Assignment:
        scores, decoded = predictions
        assert scores.shape[:2] == decoded.shape[:2] == (len(boxes), len(anchors))
        return super().__call__(boxes, labels, valid, anchors, levels)


@legal
class OneToOne(Threshold):
    """Each object its best anchor alone, as DETR."""

    def chosen(self, overlaps: Tensor) -> tuple[Tensor, Tensor]:
        value, anchor = overlaps.max(2)
        index = torch.full((overlaps.shape[0], overlaps.shape[2]), -1)
        image, slot = (value > 0).nonzero(as_tuple=True)
        index[image, anchor[image, slot]] = slot
        return overlaps.amax(1).clamp(min=0), index


@legal
class CentrePrior(Threshold):
    """Anchors within 2.5 strides of an object's centre, as SimOTA's."""

    def __call__(
        self,
        boxes: Tensor,
        labels: Tensor,
        valid: Tensor,
        anchors: Tensor,
        levels: Any,
        predictions: Any = None,
    ) -> Assignment:
        if boxes.shape[1] == 0:
            return Assignment(torch.full((len(boxes), len(anchors)), -1))
        stride = torch.cat([torch.full((level.count,), float(level.stride)) for level in levels])
        away = box_ops.centers(boxes).unsqueeze(2) - box_ops.centers(anchors)
        distance = away.abs().amax(-1).masked_fill(~valid.unsqueeze(-1), 1e9)
        nearest, slot = distance.min(1)
        return Assignment(torch.where(nearest < 2.4 * stride, slot, -1))


LEGAL.append(pytest.param(partial(FCOSMatcher, ranges=(30.0, 60.0)), id="ranges_for_three_levels"))


class SaysWhy(Threshold):
    """Gives a sentence for each anchor, in pieces that the classes below break."""

    rules: tuple[str, ...] = (
        "its IoU {iou} with {object} is too low",
        "its IoU {iou} with {object} is enough",
    )

    def reasons(self, assignment: Assignment, *given: Any) -> Reasons:
        index, best = assignment
        values = {"iou": index * 0.0 if best is None else best}
        return Reasons(self.rules, self.rule(index), values, {"object": self.named(index)})

    def rule(self, index: Tensor) -> Tensor:
        return (index >= 0).long()

    def named(self, index: Tensor) -> Tensor:
        return index.clamp(min=-1)


legal(SaysWhy)


@broken("reasons: rule is a position in rules, 0 to 1")
class RulesFromOneOn(SaysWhy):
    def rule(self, index: Tensor) -> Tensor:
        return super().rule(index) + 1


@broken("reasons: rule has the shape")
class RulesOfOneImage(SaysWhy):
    def rule(self, index: Tensor) -> Tensor:
        return super().rule(index)[0]


@broken("its rules name threshold, of which it has no values")
class ANumberIsMissing(SaysWhy):
    rules = ("its IoU {iou} is below {threshold}", "its IoU {iou} is enough")


@broken("reasons: object names a slot with valid=False")
class NamesPadding(SaysWhy):
    def named(self, index: Tensor) -> Tensor:
        return torch.ones_like(index)


@broken("valid=False got an anchor")
class MatchesPadding(Threshold):
    """Empty slots claim anchors."""

    def chosen(self, overlaps: Tensor) -> tuple[Tensor, Tensor]:
        best, index = super().chosen(overlaps)
        index[:, 0] = torch.where((overlaps[:, :, 0] < 0).any(1), (overlaps[:, :, 0] < 0).int().argmax(1), -1)
        return best.clamp(min=0), index


@broken("touches no anchor got one")
class ForcesAnything(Threshold):
    """Every object takes its best anchor, of IoU 0 too."""

    def chosen(self, overlaps: Tensor) -> tuple[Tensor, Tensor]:
        best, index = super().chosen(overlaps)
        value, anchor = overlaps.max(2)
        image, slot = (value >= 0).nonzero(as_tuple=True)
        index[image, anchor[image, slot]] = slot
        return best, index


@broken("got no anchor|lie elsewhere|got an anchor")
class SlotOffByOne(Threshold):
    """Slots counted from 1."""

    def chosen(self, overlaps: Tensor) -> tuple[Tensor, Tensor]:
        best, index = super().chosen(overlaps)
        return best, torch.where(index > 0, index - 1, index)


@broken("got no anchor|lie elsewhere|got an anchor|holds slots")
class LabelsForSlots(Threshold):
    """The label in the place of the slot."""

    def __call__(
        self,
        boxes: Tensor,
        labels: Tensor,
        valid: Tensor,
        anchors: Tensor,
        levels: Any,
        predictions: Any = None,
    ) -> Assignment:
        index, quality = super().__call__(boxes, labels, valid, anchors, levels)
        if boxes.shape[1] == 0:
            return Assignment(index, quality)
        return Assignment(torch.where(index >= 0, labels.gather(1, index.clamp(min=0)), index), quality)


@broken("got no anchor|lie elsewhere")
class AnchorsReversed(Threshold):
    """Anchors in the wrong order."""

    def overlaps(self, boxes: Tensor, valid: Tensor, anchors: Tensor) -> Tensor:
        return super().overlaps(boxes, valid, anchors.flip(0))


@broken("beside its middle|lie elsewhere")
class OneAnchorOff(Threshold):
    """Every match at the next anchor."""

    def last(self, index: Tensor, best: Tensor) -> Assignment:
        return Assignment(index.roll(1, 1))


@broken("got no anchor")
class CentreFormat(Threshold):
    """Takes boxes for cx, cy, w, h."""

    def overlaps(self, boxes: Tensor, valid: Tensor, anchors: Tensor) -> Tensor:
        half = boxes[..., 2:] / 2
        return super().overlaps(torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], -1), valid, anchors)


@broken("got no anchor")
class Shares(Threshold):
    """Takes boxes for shares of the image."""

    def overlaps(self, boxes: Tensor, valid: Tensor, anchors: Tensor) -> Tensor:
        return super().overlaps(boxes * 96, valid, anchors)


@broken("got no anchor|far from all objects")
class TheWorst(Threshold):
    """argmin for argmax: anchors far away match."""

    def chosen(self, overlaps: Tensor) -> tuple[Tensor, Tensor]:
        best = overlaps.amax(1)
        return best.clamp(min=0), torch.where(best <= 0.1, overlaps.amax(2).argmax(1, keepdim=True), -1)


@broken("touches no anchor got one|far from all objects|got an anchor|lie elsewhere")
class EverythingPositive(Threshold):
    """No threshold: each anchor takes its best object, however far."""

    positive = -2.0


@broken("background is -1")
class AlphabetSwapped(Threshold):
    """-1 and -2 mixed up."""

    def last(self, index: Tensor, best: Tensor) -> Assignment:
        near = (index == -1) & (best > 0.2)
        return Assignment(
            torch.where(near, -1, index.masked_fill(index == -1, -2)), self.quality(best, index)
        )


@broken("holds slots")
class MinusThree(Threshold):
    """A code that nobody knows."""

    def last(self, index: Tensor, best: Tensor) -> Assignment:
        return Assignment(index.masked_fill(index == -1, -3))


@broken("int64")
class FloatIndex(Threshold):
    """Indices as floats."""

    def last(self, index: Tensor, best: Tensor) -> Assignment:
        return Assignment(index.float())


@broken("Assignment")
class IndexAlone(Threshold):
    """A bare tensor."""

    def last(self, index: Tensor, best: Tensor) -> Any:
        return index


@broken("quality lies in 0..1")
class QualityInPercent(Threshold):
    """0..100."""

    def quality(self, best: Tensor, index: Tensor) -> Tensor:
        return best * 100 * (index >= 0)


@broken("quality is 0 off the positives")
class QualityEverywhere(Threshold):
    """Background has a quality."""

    def quality(self, best: Tensor, index: Tensor) -> Tensor:
        return best.clamp(0, 1)


@broken("1 is best|best anchor is 0")
class QualityReversed(Threshold):
    """1 - IoU."""

    def quality(self, best: Tensor, index: Tensor) -> Tensor:
        return (1 - best).clamp(0, 1) * (index >= 0)


@broken("best anchor is 0")
class NoQualityAtAll(Threshold):
    """Always 0: a quality focal loss then learns nothing."""

    def quality(self, best: Tensor, index: Tensor) -> Tensor:
        return best * 0


@broken("alone and in a batch")
class AcrossImages(Threshold):
    """A threshold from the whole batch."""

    def chosen(self, overlaps: Tensor) -> tuple[Tensor, Tensor]:
        best, slot = overlaps.max(1)
        limit = 0.2 + 0.1 * overlaps.shape[0]
        return best, torch.where(best >= limit, slot, -1)


@broken("other slots|got no anchor")
class FirstSlotsOnly(Threshold):
    """Only the first two slots count."""

    def chosen(self, overlaps: Tensor) -> tuple[Tensor, Tensor]:
        return super().chosen(overlaps[:, :2])


@broken("empty slots must not")
class CountsSlots(Threshold):
    """The threshold depends on the number of slots, empty ones too."""

    def chosen(self, overlaps: Tensor) -> tuple[Tensor, Tensor]:
        best, slot = overlaps.max(1)
        return best, torch.where(best >= 0.1 + overlaps.shape[1] / 12, slot, -1)


@broken("raised")
class NoObjects(Threshold):
    """The largest of no object."""

    def __call__(
        self,
        boxes: Tensor,
        labels: Tensor,
        valid: Tensor,
        anchors: Tensor,
        levels: Any,
        predictions: Any = None,
    ) -> Assignment:
        return Assignment(self.chosen(self.overlaps(boxes, valid, anchors))[1])


@broken("valid=False are no objects|valid=False got an anchor")
class IgnoresValid(Threshold):
    """Padding counts as objects."""

    def overlaps(self, boxes: Tensor, valid: Tensor, anchors: Tensor) -> Tensor:
        return box_ops.pairwise_iou(boxes, anchors)

    def chosen(self, overlaps: Tensor) -> tuple[Tensor, Tensor]:
        return super().chosen(overlaps)


@broken("in place")
class InPlace(Threshold):
    """Clips the batch's boxes for good."""

    def overlaps(self, boxes: Tensor, valid: Tensor, anchors: Tensor) -> Tensor:
        return super().overlaps(boxes.clamp_(max=500), valid, anchors)


@broken("global random generator")
class Sampling(Threshold):
    """Ignores some negatives at random."""

    def last(self, index: Tensor, best: Tensor) -> Assignment:
        return Assignment(torch.where((index == -1) & (torch.rand(index.shape) > 0.5), -2, index))


@broken("two different outputs|got no anchor|same assignment")
class Rising(Threshold):
    """A threshold that rises with each call."""

    def __call__(
        self,
        boxes: Tensor,
        labels: Tensor,
        valid: Tensor,
        anchors: Tensor,
        levels: Any,
        predictions: Any = None,
    ) -> Assignment:
        self.positive += 0.1
        return super().__call__(boxes, labels, valid, anchors, levels)


@broken("uses_predictions")
class Undecided(Threshold):
    """Does not say whether it wants predictions."""

    uses_predictions = None


@broken("refuses everything")
class RefusesAll(Threshold):
    """No layout suits it."""

    def __init__(self) -> None:
        raise PartError("these anchors do not suit me")


@pytest.mark.parametrize(("factory", "sentence", "arguments"), BROKEN)
def test_broken(factory: Any, sentence: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConformanceError, match=sentence):
        check_matcher(factory, **arguments)


@pytest.mark.parametrize("factory", LEGAL)
def test_legal(factory: Any) -> None:
    check_matcher(factory)
