"""Parts as careless authors write them, and unusual ones that are right."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import tv_tensors

from densedet.core.conformance import ConformanceError, check_part
from densedet.core.hookspecs import hookimpl
from densedet.core.layers import flatten_cells
from densedet.core.placement import Placement
from densedet.core.types import Batch, Detections, Prediction
from densedet.plugins.anchors.octave import OctaveAnchors
from densedet.plugins.coders.delta import DeltaCoder
from densedet.plugins.evaluators.coco import CocoEvaluator
from densedet.plugins.matchers.iou import IoUMatcher
from densedet.plugins.postprocess._candidates import candidates

BROKEN: list[Any] = []
LEGAL: list[Any] = []


def broken(kind: str, sentence: str) -> Any:
    def add(factory: Any) -> Any:
        BROKEN.append(pytest.param(kind, factory, sentence, id=f"{kind}-{factory.__name__}"))
        return factory

    return add


def legal(kind: str) -> Any:
    def add(factory: Any) -> Any:
        LEGAL.append(pytest.param(kind, factory, id=f"{kind}-{factory.__name__}"))
        return factory

    return add


@broken("anchors", "pixels of the image")
class FourPixelsEverywhere(OctaveAnchors):
    def __call__(self, *given: Any) -> list[Tensor]:
        half = torch.tensor([-2.0, -2.0, 2.0, 2.0])
        return [(b[:, :2] + b[:, 2:]).repeat(1, 2) / 2 + half.to(b) for b in super().__call__(*given)]


@broken("anchors", "same order")
class TurnsEverySecondRow(OctaveAnchors):
    def __call__(self, sizes: Any, *given: Any) -> list[Tensor]:
        levels = super().__call__(sizes, *given)
        for boxes, (h, w), count in zip(levels, sizes, self.num_anchors):
            grid = boxes.view(h, w, count, 4)
            grid[1::2] = grid[1::2].flip(2)
        return levels


@legal("coder")
class Pixels(DeltaCoder):
    """Corners in units of 16 pixels; a corner beyond the other is swapped with it."""

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        return (boxes - anchors) / 16

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        one, other = (anchors + raw * 16).split(2, dim=-1)
        return torch.cat([torch.minimum(one, other), torch.maximum(one, other)], dim=-1)


class BCE(nn.Module):
    background_channel, initial_bias, quality = "none", -4.6, "unused"

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def truth(self, labels: Tensor) -> Tensor:
        return functional.one_hot(labels.clamp(min=0), self.num_classes + 1)[..., :-1].float()

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None) -> Tensor:
        each = functional.binary_cross_entropy_with_logits(logits, self.truth(labels), reduction="none")
        return each.sum(-1) * (labels >= 0)

    def scores(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


@broken("class_loss", "do not average")
class MeanOverClasses(BCE):
    def forward(self, *given: Any) -> Tensor:
        return super().forward(*given) / self.num_classes


@broken("class_loss", "must then score low")
class SoftmaxOfSigmoids(BCE):
    def scores(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)


@broken("class_loss", "other images")
class HardestOfTheBatch(BCE):
    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None) -> Tensor:
        loss = super().forward(logits, labels, quality)
        positive = (labels >= 0) & (labels < self.num_classes)
        rank = loss.detach().masked_fill(labels != self.num_classes, -1).flatten().argsort(descending=True)
        hard = torch.zeros(loss.numel(), dtype=torch.bool)
        hard[rank[: 3 * int(positive.sum())]] = True
        return loss * (positive | hard.view_as(loss))


@broken("class_loss", "raised TypeError")
class NeedsTheOptionalQuality(BCE):
    quality = "optional"

    def forward(self, logits: Tensor, labels: Tensor, quality: Any) -> Tensor:
        truth = self.truth(labels) * quality[..., None]
        each = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return each.sum(-1) * (labels >= 0)


class Softmax(BCE):
    background_channel, initial_bias = "last", 0.0

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None) -> Tensor:
        rows = functional.cross_entropy(logits.mT, labels, ignore_index=-1, reduction="none")
        return rows.view(labels.shape)

    def scores(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)[..., :-1]


@broken("class_loss", "must then score low")
class SaysFirstUsesLast(Softmax):
    background_channel = "first"


@broken("class_loss", "must then score low")
class BackgroundDroppedTooEarly(Softmax):
    def scores(self, logits: Tensor) -> Tensor:
        return logits[..., :-1].softmax(-1)


@legal("class_loss")
class Smoothed(BCE):
    def truth(self, labels: Tensor) -> Tensor:
        return super().truth(labels) * 0.9 + 0.02


@legal("class_loss")
class WeightsInABuffer(BCE):
    def __init__(self, *, num_classes: int) -> None:
        super().__init__(num_classes=num_classes)
        self.register_buffer("weights", torch.linspace(0.5, 2, num_classes))

    def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None) -> Tensor:
        each = functional.binary_cross_entropy_with_logits(logits, self.truth(labels), reduction="none")
        return (each * self.weights).sum(-1) * (labels >= 0)


class BoxLoss(nn.Module):
    space = "boxes"


@broken("box_loss", "moves away")
class OverlapOfDisjointBoxes(BoxLoss):
    """Two negative sides make a positive area."""

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        shared = (torch.minimum(one, two)[:, 2:] - torch.maximum(one, two)[:, :2]).prod(-1)
        union = sum((b[:, 2:] - b[:, :2]).prod(-1) for b in (one, two)) - shared
        return 1 - shared / (union + 1e-7)


@broken("box_loss", "moves away")
class SizesAlone(BoxLoss):
    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        return (one - two)[:, 2:].sub((one - two)[:, :2]).abs().sum(-1)


@broken("matcher", "in place")
class ClampsAnchors(IoUMatcher):
    def __call__(self, boxes: Tensor, labels: Tensor, valid: Tensor, anchors: Tensor, *more: Any) -> Any:
        return super().__call__(boxes, labels, valid, anchors.clamp_(min=0), *more)


class Best:
    """Every candidate, best first, at most 100; no word on a trace."""

    def cut(self, scores: Tensor) -> Tensor:
        return scores.argsort(descending=True)[:100]

    def __call__(self, scores: Tensor, boxes: Tensor, levels: Any, sizes: Tensor, trace: Any = None) -> Any:
        given = candidates(
            scores, boxes, levels, sizes, score=0.05, top_k=10**6, per="level", min_size=0.0, trace=None
        )
        kept = [(found, self.cut(found.scores)) for found in given]
        return [Detections(f.boxes[k], f.scores[k], f.labels[k], f.anchors[k]) for f, k in kept]


legal("postprocess")(type("WithoutATrace", (Best,), {}))


@broken("postprocess", "not among the detections")
class TheLowestOfAll(Best):
    def cut(self, scores: Tensor) -> Tensor:
        return scores.argsort(descending=True)[-20:]


@broken("postprocess", "max_detections=3")
class ForgetsItsLimit(Best):
    def __init__(self, *, max_detections: int = 100) -> None: ...


class Head(nn.Module):
    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        num_anchors: tuple[int, ...],
        class_channels: int,
        box_channels: int,
        class_bias: float,
    ) -> None:
        super().__init__()
        self.anchors, self.numbers, self.branches = num_anchors, (class_channels, box_channels), {}
        both = [
            nn.ModuleList(nn.Conv2d(c, a * n, 3, padding=1) for c, a in zip(in_channels, num_anchors))
            for n in self.numbers
        ]
        self.logits, self.box = both
        for layer in self.logits:
            nn.init.constant_(layer.bias, class_bias)  # type: ignore[arg-type]

    def flat(self, maps: Tensor, anchors: int, numbers: int) -> Tensor:
        return flatten_cells(maps, numbers)

    def forward(self, features: list[Tensor]) -> Prediction:
        logits, box = (
            [self.flat(conv(x), a, n) for conv, x, a in zip(convs, features, self.anchors)]
            for convs, n in zip((self.logits, self.box), self.numbers)
        )
        return Prediction(logits, box)


legal("head")(type("PerLevel", (Head,), {}))


@broken("head", "anchor \\* K")
class NumbersThenAnchors(Head):
    def flat(self, maps: Tensor, anchors: int, numbers: int) -> Tensor:
        return maps.unflatten(1, (numbers, anchors)).permute(0, 3, 4, 2, 1).flatten(1, 3)


@broken("sampler", "not with the seed")
class OneOrderForAllSeeds:
    def __init__(self, *, source: Any, seed: int) -> None:
        self.count = len(source)

    def __len__(self) -> int:
        return self.count

    def __call__(self, epoch: int) -> list[int]:
        return random.Random(epoch).sample(range(self.count), self.count)


@broken("schedule", "around 1")
class Percent:
    def __call__(self, progress: float, step: int) -> float:
        return 100 * (1 - progress)


@broken("schedule", "most of the training")
class StepThenProgress:
    def __call__(self, step: float, progress: float) -> float:
        return max(0.0, 1 - progress)


@broken("optimizer", "lr 0.001 and 0.002")
def deaf_to_lr(*, parameters: list[dict[str, Any]], lr: float = 0.01) -> Any:
    return torch.optim.SGD([{**g, "lr": 0.1} for g in parameters], lr=lr)


@broken("optimizer", "weight_decay of 0.03")
def deaf_to_groups(*, parameters: list[dict[str, Any]]) -> Any:
    return torch.optim.SGD([{**g, "weight_decay": 0.1 * g["decay"]} for g in parameters], lr=0.01)


@broken("optimizer", "lr_factor")
def params_alone(*, parameters: list[dict[str, Any]]) -> Any:
    return torch.optim.SGD(
        [{k: g[k] for k in ("params", "weight_decay") if k in g} for g in parameters], lr=0.01
    )


@broken("evaluator", "JSON")
class NumpyNumbers(CocoEvaluator):
    def result(self) -> dict[str, Any]:
        return {"AP": np.float32(super().result()["AP"])}


@broken("evaluator", "no detections")
class LeavesEmptyImagesOut(CocoEvaluator):
    def add(self, index: int, detections: Detections) -> None:
        if len(detections):
            super().add(index, detections)


@broken("evaluator", "ranked together")
class NoScores(CocoEvaluator):
    def add(self, index: int, detections: Detections) -> None:
        super().add(index, replace(detections, scores=torch.ones_like(detections.scores)))


@broken("hook", "eval mode")
class LeavesEvalMode:
    @hookimpl
    def densedet_run_evaluated(self, run: Any) -> None:
        run.detector.eval()


@broken("hook", "changes the summary")
class EmptiesTheSummary:
    @hookimpl
    def densedet_run_end(self, summary: dict[str, Any]) -> None:
        summary.clear()


class Transform:
    def __call__(self, image: Any, target: dict[str, Any]) -> Any:
        return self.image(image), {name: self.rows(value) for name, value in target.items()}

    def image(self, image: Any) -> Any:
        return image

    def rows(self, value: Any) -> Any:
        return value


@broken("transform", "0..255")
class Shares(Transform):
    def image(self, image: Any) -> Any:
        return tv_tensors.Image(image.float() / 255)


@broken("transform", "only its box")
class Black(Transform):
    def image(self, image: Any) -> Any:
        return tv_tensors.Image(image * 0)


@broken("transform", "is lost")
class NoObjects(Transform):
    def rows(self, value: Any) -> Any:
        return tv_tensors.wrap(value[:0], like=value)


@broken("batch_transform", "no area|labels are none")
class RollsValid:
    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        return replace(batch, valid=batch.valid.roll(1, 1))


@broken("resize", "size_wh")
class HeightFirst:
    def __init__(self, *, size_wh: tuple[int, int]) -> None:
        self.height, self.width = size_wh

    def __call__(self, width: int, height: int) -> Placement:
        scale = min(self.width / width, self.height / height)
        sides = (max(1, int(side * scale)) for side in (width, height))
        return Placement(*sides, (self.width, self.height), True)


@pytest.mark.parametrize(("kind", "factory", "sentence"), BROKEN)
def test_broken(kind: str, factory: Any, sentence: str) -> None:
    with pytest.raises(ConformanceError, match=sentence):
        check_part(kind, factory)


@pytest.mark.parametrize(("kind", "factory"), LEGAL)
def test_legal(kind: str, factory: Any) -> None:
    check_part(kind, factory)
