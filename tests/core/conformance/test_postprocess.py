"""Postprocesses that keep their contract in a way of their own, and some that break it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from densedet.core import boxes as box_ops
from densedet.core.conformance import ConformanceError, check_postprocess
from densedet.core.types import Detections, Fate
from densedet.plugins.postprocess.nms import NMSPostprocess
from densedet.plugins.postprocess.soft_nms import SoftNMSPostprocess

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


class Simple:
    """Every pair of anchor and class is a candidate; no rule for a score of 0. In pieces that are broken
    below."""

    def __init__(self, *, iou: float = 0.5) -> None:
        self.iou = iou

    def clipped(self, boxes: Tensor, size: Tensor) -> Tensor:
        return box_ops.clip(boxes, size)

    def survivors(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        return batched_nms(boxes, scores, labels, self.iou)[:100]

    def last(self, found: Detections) -> Detections:
        return found

    def __call__(
        self, scores: Tensor, boxes: Tensor, levels: Any, sizes: Tensor, trace: Any = None
    ) -> list[Detections]:
        results, classes = [], scores.shape[-1]
        for image_scores, image_boxes, size in zip(scores, boxes, sizes):
            cut, flat = self.clipped(image_boxes, size), image_scores.flatten()
            places = torch.arange(len(flat))
            anchors, labels = places // classes, places % classes
            keep = self.survivors(cut[anchors], flat, labels)
            results.append(self.last(Detections(cut[anchors[keep]], flat[keep], labels[keep], anchors[keep])))
            if trace is not None:
                fate = torch.full_like(image_scores, Fate.REMOVED_BY_NMS, dtype=torch.int8)
                fate[anchors[keep], labels[keep]] = Fate.KEPT
                trace.setdefault("fate", []).append(fate)
        return results


@legal
class NoRuleForZero(Simple):
    pass


@legal
class TopK(Simple):
    """Suppresses nothing, as one-to-one detectors want."""

    def __init__(self) -> None:
        pass

    def survivors(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        return scores.topk(min(50, len(scores))).indices


@legal
class Agnostic(Simple):
    """Class-agnostic: boxes of different classes suppress each other."""

    def survivors(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        return nms(boxes, scores, self.iou)[:100]


LEGAL.append(pytest.param(partial(NMSPostprocess, class_agnostic=True), id="nms_agnostic"))
LEGAL.append(pytest.param(partial(NMSPostprocess, score=0.9, top_k=5, per="class"), id="nms_strict"))
LEGAL.append(pytest.param(partial(SoftNMSPostprocess, method="linear"), id="soft_linear"))


@broken("best first")
class WorstFirst(Simple):
    """Ascending scores."""

    def last(self, found: Detections) -> Detections:
        return Detections(*(t.flip(0) for t in (found.boxes, found.scores, found.labels, found.anchors)))


@broken("best first|better score must stay|each is found once")
class KeepsTheWorst(Simple):
    """NMS by ascending score."""

    def survivors(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        return batched_nms(boxes, -scores, labels, self.iou)[:100]


@broken("clipped to the image's valid size")
class NotClipped(Simple):
    """Boxes leave the image."""

    def clipped(self, boxes: Tensor, size: Tensor) -> Tensor:
        return boxes


@broken("clipped to the image's valid size")
class WidthForHeight(Simple):
    """Takes (height, width) for (width, height)."""

    def clipped(self, boxes: Tensor, size: Tensor) -> Tensor:
        return box_ops.clip(boxes, size.flip(-1))


@broken("each is found once|in 0..2")
class LabelsFromOne(Simple):
    """Labels with a background at 0."""

    def last(self, found: Detections) -> Detections:
        return Detections(found.boxes, found.scores, found.labels + 1, found.anchors)


@broken("each is found once|trace says")
class LabelsRolled(Simple):
    """Labels off by one, round the corner."""

    def last(self, found: Detections) -> Detections:
        return Detections(found.boxes, found.scores, (found.labels + 1) % 3, found.anchors)


@broken("others|best first, gave")
class AnchorsOffByOne(Simple):
    """The index of the next anchor."""

    def last(self, found: Detections) -> Detections:
        return Detections(found.boxes, found.scores, found.labels, (found.anchors - 1).clamp(min=0))


@broken("others|below N")
class FlatIndex(Simple):
    """The place in (anchor, class) for the anchor."""

    def last(self, found: Detections) -> Detections:
        return Detections(found.boxes, found.scores, found.labels, found.anchors * 3 + found.labels)


@broken("not those of their anchors")
class OtherBoxes(Simple):
    """Boxes are sorted another way than scores."""

    def last(self, found: Detections) -> Detections:
        return Detections(found.boxes.roll(1, 0), found.scores, found.labels, found.anchors)


@broken("inverted|not those of their anchors|clipped")
class GivesCornerAndSize(Simple):
    """x, y, w, h."""

    def last(self, found: Detections) -> Detections:
        return Detections(box_ops.to_xywh(found.boxes), found.scores, found.labels, found.anchors)


@broken("not those of their anchors")
class GivesShares(Simple):
    """Shares of the image."""

    def last(self, found: Detections) -> Detections:
        return Detections(found.boxes / 100, found.scores, found.labels, found.anchors)


@broken("both kept with their full scores")
class SuppressesNothing(Simple):
    """Takes a threshold and does not use it."""

    def survivors(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        return scores.sort(descending=True).indices[:100]


@broken("two classes suppress each other")
class AcrossClasses(Simple):
    """A forgotten class."""

    def survivors(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        return nms(boxes, scores, self.iou)[:100]


@broken("two classes suppress each other|each is found once")
class BestClassOnly(Simple):
    """Sees the best class of each cell's neighbourhood only."""

    def survivors(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        keep = batched_nms(boxes, scores, torch.zeros_like(labels), 0.05)
        return keep[:100]


@broken("each is found once|252 anchors")
class OneDetection(Simple):
    """Only the best."""

    def survivors(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        return super().survivors(boxes, scores, labels)[:1]


@broken("each is found once")
class FirstLevelOnly(Simple):
    """Looks at the first 192 anchors."""

    def survivors(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        keep = super().survivors(boxes, scores, labels)
        return keep[keep < 192 * 3]


@broken("list of one Detections an image")
class Tuples(Simple):
    """Tuples."""

    def last(self, found: Detections) -> Any:
        return found.boxes, found.scores, found.labels


@broken("equal lengths")
class Lengths(Simple):
    """A field with other rows."""

    def last(self, found: Detections) -> Detections:
        return Detections(found.boxes, found.scores, found.labels, found.anchors[:-1])


@broken("0..1")
class Percent(Simple):
    """Scores in 0..100."""

    def last(self, found: Detections) -> Detections:
        return Detections(found.boxes, found.scores * 100, found.labels, found.anchors)


@broken("labels of detections are int64")
class FloatLabels(Simple):
    """Labels as floats."""

    def last(self, found: Detections) -> Detections:
        return Detections(found.boxes, found.scores, found.labels.float(), found.anchors)


@broken("float32")
class Half(Simple):
    """Half precision."""

    def last(self, found: Detections) -> Detections:
        return Detections(found.boxes.half(), found.scores, found.labels, found.anchors)


@broken("depend on the other images")
class AcrossImages(Simple):
    """Scores relative to the best of the batch."""

    def __call__(
        self, scores: Tensor, boxes: Tensor, levels: Any, sizes: Tensor, trace: Any = None
    ) -> list[Detections]:
        return super().__call__(scores * (1 - 0.3 * (len(scores) > 1)), boxes, levels, sizes, trace)


@broken("clipped to the image's valid size|depend on the other images")
class FirstSize(Simple):
    """Every image has the first one's size."""

    def __call__(
        self, scores: Tensor, boxes: Tensor, levels: Any, sizes: Tensor, trace: Any = None
    ) -> list[Detections]:
        return super().__call__(scores, boxes, levels, sizes[:1].expand_as(sizes), trace)


@broken("in place")
class InPlace(Simple):
    """Clips the detector's boxes for good."""

    def clipped(self, boxes: Tensor, size: Tensor) -> Tensor:
        return boxes.copy_(box_ops.clip(boxes, size))


@broken("global random generator|two different")
class RandomTies(Simple):
    """Shuffles."""

    def survivors(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        return super().survivors(boxes, scores + 0.01 * torch.rand(len(scores)), labels)


@broken("raised")
class NoTrace(Simple):
    """Does not take a trace."""

    def __call__(self, scores: Tensor, boxes: Tensor, levels: Any, sizes: Tensor) -> list[Detections]:  # type: ignore[override]
        return super().__call__(scores, boxes, levels, sizes)


@broken("trace says")
class TraceOff(Simple):
    """Marks as kept what was not."""

    def __call__(
        self, scores: Tensor, boxes: Tensor, levels: Any, sizes: Tensor, trace: Any = None
    ) -> list[Detections]:
        found = super().__call__(scores, boxes, levels, sizes, trace)
        if trace is not None:
            trace["fate"] = [torch.full_like(f, Fate.KEPT) for f in trace["fate"]]
        return found


def with_by(found: list[Detections], trace: Any, make: Any) -> list[Detections]:
    """Write trace["by"] as ``make`` has it from an image's fates."""
    if trace is not None:
        trace["by"] = [make(fate) for fate in trace["fate"]]
    return found


@broken("was not REMOVED_BY_NMS")
class RemovesAll(Simple):
    """Says that each candidate removed itself."""

    def __call__(
        self, scores: Tensor, boxes: Tensor, levels: Any, sizes: Tensor, trace: Any = None
    ) -> list[Detections]:
        found = super().__call__(scores, boxes, levels, sizes, trace)
        return with_by(found, trace, lambda fate: torch.arange(fate.numel()).int().view(fate.shape))


@broken("was itself removed")
class RemovedByTheRemoved(Simple):
    """Names a candidate that was removed, too."""

    def __call__(
        self, scores: Tensor, boxes: Tensor, levels: Any, sizes: Tensor, trace: Any = None
    ) -> list[Detections]:
        def make(fate: Tensor) -> Tensor:
            removed = fate == Fate.REMOVED_BY_NMS
            return torch.where(removed, removed.flatten().int().argmax(), -1).int()

        return with_by(super().__call__(scores, boxes, levels, sizes, trace), trace, make)


@broken("int32")
class RemovedByFloats(Simple):
    """Indices as floats."""

    def __call__(
        self, scores: Tensor, boxes: Tensor, levels: Any, sizes: Tensor, trace: Any = None
    ) -> list[Detections]:
        found = super().__call__(scores, boxes, levels, sizes, trace)
        return with_by(found, trace, lambda fate: torch.full(fate.shape, -1.0))


@broken("each is found once|252 anchors")
class TheFirstAlone(Simple):
    """An index into an index."""

    def survivors(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        return batched_nms(boxes, scores, labels, self.iou)[scores.topk(200).indices.sort()[1] * 0].unique()


@pytest.mark.parametrize(("factory", "sentence", "arguments"), BROKEN)
def test_broken(factory: Any, sentence: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConformanceError, match=sentence):
        check_postprocess(factory, **arguments)


@pytest.mark.parametrize("factory", LEGAL)
def test_legal(factory: Any) -> None:
    check_postprocess(factory)
