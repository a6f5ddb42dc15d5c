"""Detectors that keep their contract in a way of their own, and some that break it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from densedet.core import boxes as box_ops
from densedet.core.conformance import ConformanceError, check_detector
from densedet.core.types import Batch, Detections
from densedet.plugins.anchors.points import PointAnchors
from densedet.plugins.coders.ltrb import LTRBCoder
from densedet.plugins.detectors.dense import DenseDetector
from densedet.plugins.heads.fcos import FCOSHead
from densedet.plugins.losses.focal import FocalLoss
from densedet.plugins.losses.giou import GIoULoss
from densedet.plugins.matchers.fcos import FCOSMatcher
from densedet.plugins.postprocess.nms import NMSPostprocess

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


class Net(nn.Module):
    channels, strides, mean, std = (16,), (8,), (0.5,), (0.25,)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 16, 9, stride=8, padding=4)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [torch.relu(self.layer(images))]


def build(detector: Any, num_classes: int) -> Any:
    """A small FCOS on one level."""
    head = FCOSHead(
        in_channels=(16,),
        num_anchors=(1,),
        class_channels=num_classes,
        box_channels=4,
        class_bias=-2.0,
        depth=1,
    )
    return detector(
        backbone=Net(),
        anchors=PointAnchors(strides=(8,)),
        head=head,
        matcher=FCOSMatcher(),
        coder=LTRBCoder(),
        class_loss=FocalLoss(num_classes=num_classes),
        box_loss=[GIoULoss()],
        postprocess=NMSPostprocess(score=0.01),
        num_classes=num_classes,
    )


def check(detector: Any) -> None:
    def factory(*, num_classes: int) -> Any:
        return build(detector, num_classes)

    check_detector(factory)


@legal
class Plain(DenseDetector):
    pass


@legal
class OneSum(DenseDetector):
    """One loss for all."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": torch.stack(list(super().losses(batch).values())).sum()}

    def evaluate(self, batch: Batch) -> Any:
        return self.losses(batch), self.predict(batch)


@legal
class NoExplain(nn.Module):
    """Whole-image scores and one box a class: no anchors, no postprocess."""

    def __init__(self, *, num_classes: int, backbone: nn.Module, **_: Any) -> None:
        super().__init__()
        self.backbone, self.classes = backbone, num_classes
        self.score, self.box = nn.Linear(16, num_classes), nn.Linear(16, 4 * num_classes)

    def run_network(self, batch: Batch) -> tuple[Tensor, Tensor]:
        rows = torch.arange(batch.images.shape[2]) < batch.valid_hw[:, :1]
        columns = torch.arange(batch.images.shape[3]) < batch.valid_hw[:, 1:]
        images = (batch.images / 255 - 0.5) * (rows[:, None, :, None] & columns[:, None, None, :])
        pooled = self.backbone(images)[0].mean((2, 3))  # type: ignore[operator]
        return self.score(pooled), self.box(pooled).sigmoid().view(-1, self.classes, 4)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        scores, boxes = self.run_network(batch)
        counted = batch.valid & ~batch.ignore
        hot = nn.functional.one_hot(batch.labels.clamp(min=0), self.classes) * counted.unsqueeze(-1)
        there = hot.sum(1).clamp(max=1).float()
        size = batch.valid_hw.flip(1).repeat(1, 2)[:, None]
        aims = batch.boxes / size
        off = (boxes.unsqueeze(1) - aims.unsqueeze(2)).abs().sum(-1) * hot
        return {
            "class": nn.functional.binary_cross_entropy_with_logits(scores, there),
            "box": off.sum() / counted.sum().clamp(min=1),
        }

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.losses(batch)

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[Detections]:
        found = []
        for scores, boxes, size in zip(*self.run_network(batch), batch.valid_hw):
            best, labels = scores.sigmoid().sort(descending=True)
            b = boxes[labels]
            low, high = torch.minimum(b[:, :2], b[:, 2:]), torch.maximum(b[:, :2], b[:, 2:])
            pixels = torch.cat([low, high], 1) * size.flip(0).repeat(2)
            found.append(Detections(pixels, best, labels, torch.full_like(labels, -1)))
        return found


def changed(found: list[Detections], **fields: Any) -> list[Detections]:
    """Detections with fields made by functions of each."""
    return [replace(one, **{name: make(one) for name, make in fields.items()}) for one in found]


@broken("best first")
class WorstFirst(DenseDetector):
    def predict(self, batch: Batch, trace: Any = None) -> Any:
        return [one.where(torch.arange(len(one)).flip(0)) for one in super().predict(batch, trace)]


@broken("clipped to the image's valid size")
class NotClipped(DenseDetector):
    def predict(self, batch: Batch, trace: Any = None) -> Any:
        whole = replace(batch, valid_hw=torch.tensor([batch.images.shape[-2:]] * len(batch)))
        found = super().predict(batch, trace)
        return super().predict(whole, trace) if len(found[0]) else found


@broken("in 0..2")
class LabelsFromOne(DenseDetector):
    def predict(self, batch: Batch, trace: Any = None) -> Any:
        return changed(super().predict(batch, trace), labels=lambda one: one.labels + 1)


@broken("inverted|clipped")
class CornerAndSize(DenseDetector):
    def predict(self, batch: Batch, trace: Any = None) -> Any:
        return changed(super().predict(batch, trace), boxes=lambda one: box_ops.to_xywh(one.boxes))


@broken("0..1")
class RawScores(DenseDetector):
    def predict(self, batch: Batch, trace: Any = None) -> Any:
        return changed(super().predict(batch, trace), scores=lambda one: one.scores * 20)


@broken("a list of one Detections an image")
class OneForAll(DenseDetector):
    def predict(self, batch: Batch, trace: Any = None) -> Any:
        return super().predict(batch, trace)[:1]


@broken("the shape")
class TraceOfOneImage(DenseDetector):
    def predict(self, batch: Batch, trace: Any = None) -> Any:
        found = super().predict(batch, trace)
        if trace is not None:
            trace["boxes"] = trace["boxes"][0]
        return found


@broken("gives something else where a trace is asked for")
class TraceChanges(DenseDetector):
    def predict(self, batch: Batch, trace: Any = None) -> Any:
        found = super().predict(batch, trace)
        return found if trace is None else [one.where(one.scores > 2) for one in found]


@broken("changes detections of higher scores")
class LowestTakesTheBest(DenseDetector):
    def predict(self, batch: Batch, trace: Any = None, *, lowest: float | None = None) -> Any:
        found = super().predict(batch, trace)
        return found if lowest is None else [one.where(one.scores < one.scores.max()) for one in found]


@broken("needs? no gradient|raised")
class KeepsGraph(DenseDetector):
    def predict(self, batch: Batch, trace: Any = None) -> Any:
        weight = self.image_mean.sum() * 0 + next(self.parameters()).sum() * 0 + 1
        return changed(super().predict(batch, trace), scores=lambda one: one.scores * weight)


@broken("other images of the batch")
class AcrossImages(DenseDetector):
    def predict(self, batch: Batch, trace: Any = None) -> Any:
        found = super().predict(batch, trace)
        return changed(found, scores=lambda one: one.scores / len(batch))


@broken("looks at the truth")
class Cheats(DenseDetector):
    def predict(self, batch: Batch, trace: Any = None) -> Any:
        found = super().predict(batch, trace)
        return found if bool(batch.valid.any()) else [one.where(one.scores > 2) for one in found]


@broken("changes the detector's state")
class Counts(DenseDetector):
    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.register_buffer("calls", torch.zeros(1))

    def predict(self, batch: Batch, trace: Any = None) -> Any:
        self.calls += 1  # type: ignore[operator]
        return super().predict(batch, trace)


@broken("global random generator|another|other")
class RandomPredictions(DenseDetector):
    def predict(self, batch: Batch, trace: Any = None) -> Any:
        keep = float(torch.rand(1))
        return [one.where(one.scores > 0.02 * keep) for one in super().predict(batch, trace)]


@broken("finite scalars")
class PerImage(DenseDetector):
    def losses(self, batch: Batch) -> Any:
        return {name: value.expand(2) for name, value in super().losses(batch).items()}


@broken("finite scalars")
class InfiniteWithoutObjects(DenseDetector):
    def losses(self, batch: Batch) -> Any:
        count = batch.valid.sum()
        return {name: value / count for name, value in super().losses(batch).items()}


@broken("finite scalars|raised")
class NoLosses(DenseDetector):
    def losses(self, batch: Batch) -> Any:
        return {}


@broken("cut off from the parameters")
class Detached(DenseDetector):
    def losses(self, batch: Batch) -> Any:
        return {name: value.detach() for name, value in super().losses(batch).items()}


@broken("never get a gradient")
class BoxUntrained(DenseDetector):
    def losses(self, batch: Batch) -> Any:
        return {"class": super().losses(batch)["class"]}


@broken("raise the losses' sum")
class Negated(DenseDetector):
    def losses(self, batch: Batch) -> Any:
        right = super().losses(batch)
        return {name: value + 2 * (value.detach() - value) for name, value in right.items()}


@broken("forward\\(batch\\) is losses")
class OtherForward(DenseDetector):
    def forward(self, batch: Batch) -> Any:
        return {"total": torch.stack(list(self.losses(batch).values())).sum()}


@broken("beyond an image's valid size")
class SeesPadding(DenseDetector):
    def normalise(self, images: Tensor, *_: Any) -> Tensor:
        return (images.float() - self.image_mean) / self.image_std


@broken("empty slots|without slots")
class CountsSlots(DenseDetector):
    def losses(self, batch: Batch) -> Any:
        return {n: v * (1 + batch.boxes.shape[1]) for n, v in super().losses(batch).items()}


@broken("empty slots")
class IgnoresValid(DenseDetector):
    def losses(self, batch: Batch) -> Any:
        boxes = batch.boxes.clone()
        boxes[~batch.valid] = torch.tensor([8.0, 8, 40, 40])
        return super().losses(
            replace(batch, boxes=boxes, valid=torch.ones_like(batch.valid), labels=batch.labels.clamp(min=0))
        )


@broken("objects' order|empty slots")
class FirstObjectOnly(DenseDetector):
    def losses(self, batch: Batch) -> Any:
        valid = batch.valid.clone()
        valid[:, 1:] = False
        return super().losses(replace(batch, valid=valid))


@broken("changes the batch in place")
class ShiftsLabels(DenseDetector):
    def losses(self, batch: Batch) -> Any:
        batch.labels.clamp_(max=0)
        return super().losses(batch)


@broken("the labels change no loss|evaluate\\(batch\\) gives other")
class OneClass(DenseDetector):
    def losses(self, batch: Batch) -> Any:
        return super().losses(replace(batch, labels=batch.labels.clamp(max=0)))


@broken("same with and without objects|other losses|raise")
class NoObjects(DenseDetector):
    def losses(self, batch: Batch) -> Any:
        return super().losses(replace(batch, valid=torch.zeros_like(batch.valid)))


@broken("evaluate\\(batch\\) gives other")
class OtherEvaluate(DenseDetector):
    def evaluate(self, batch: Batch) -> Any:
        losses, found = super().evaluate(batch)
        return {name: value * len(batch) for name, value in losses.items()}, found


@pytest.mark.parametrize(("detector", "sentence"), BROKEN)
def test_broken(detector: Any, sentence: str) -> None:
    with pytest.raises(ConformanceError, match=sentence):
        check(detector)


@pytest.mark.parametrize("detector", LEGAL)
def test_legal(detector: Any) -> None:
    check(detector)
