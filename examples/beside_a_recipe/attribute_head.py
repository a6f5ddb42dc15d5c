"""An attribute of each object, from the source to the metrics: digits under coloured glass, and a head that
predicts the colour beside class and box."""

from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import densedet
from densedet.core.arguments import Part, PositiveInt, Probability
from densedet.core.boxes import pairwise_iou
from densedet.core.contracts import Evaluator, Source
from densedet.core.errors import PartError
from densedet.core.layers import ConvNormAct, flatten_cells
from densedet.core.seeding import seed_of
from densedet.core.types import Annotation, Branch, Detections, Extra, Prediction, Targets

COLORS = ("red", "green", "blue")


@densedet.register("source", "tinted")
class TintedSource:
    """Another source's images, in which each object lies under red, green or blue glass.

    Args:
        source: the source; its images are uint8 arrays, as those of digits.
        seed: draws the colours.
    """

    extras = {"tint": Extra()}  # one number for each object: 0 red, 1 green, 2 blue

    def __init__(self, *, source: Annotated[Source, Part("source")], seed: int = 0) -> None:
        self.source, self.seed = source, seed
        self.classes, self.category_ids = source.classes, source.category_ids

    def __len__(self) -> int:
        return len(self.source)

    def annotation(self, index: int) -> Annotation:
        truth = self.source.annotation(index)
        colors = [seed_of(self.seed, "tint", index, n) % len(COLORS) for n in range(len(truth.boxes))]
        return replace(truth, extra={"tint": torch.tensor(colors, dtype=torch.int64)})

    def image(self, index: int) -> np.ndarray:
        pixels = np.array(self.source.image(index))
        if pixels.ndim == 2:
            pixels = np.stack([pixels] * 3, axis=-1)
        truth = self.annotation(index)
        for box, color in zip(truth.boxes.long().tolist(), truth.extra["tint"].tolist()):
            x1, y1, x2, y2 = box
            others = [channel for channel in range(3) if channel != color]
            pixels[y1:y2, x1:x2, others] //= 2
        return pixels

    def fingerprint(self) -> str:
        return f"tinted {self.seed} {self.source.fingerprint()}"

    def invalid(self) -> list[str]:
        return self.source.invalid()


@densedet.register("head", "tint")
class TintHead(nn.Module):
    """One tower for class, box and the branch "tint", shared by all levels.

    Args:
        depth: number of 3x3 convolutions in the tower.
    """

    def __init__(
        self,
        *,
        in_channels: tuple[int, ...],
        num_anchors: tuple[int, ...],
        class_channels: int,
        box_channels: int,
        class_bias: float,
        depth: PositiveInt = 2,
    ) -> None:
        super().__init__()
        if len(set(zip(in_channels, num_anchors))) > 1:
            raise PartError("this head needs levels of equal channels and anchors: put neck fpn before it")
        width, anchors = in_channels[0], num_anchors[0]
        self.class_channels, self.box_channels = class_channels, box_channels
        self.branches = {"tint": Branch(loss=tint_loss, predict=tint_of, needs=TintedSource.extras)}
        self.tower = nn.Sequential(*(ConvNormAct(width, width, norm="group") for _ in range(depth)))
        self.logits = nn.Conv2d(width, anchors * class_channels, 3, padding=1)
        self.box = nn.Conv2d(width, anchors * box_channels, 3, padding=1)
        self.tint = nn.Conv2d(width, anchors * len(COLORS), 3, padding=1)
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.constant_(self.logits.bias, class_bias)

    def forward(self, features: list[Tensor]) -> Prediction:
        maps = [self.tower(level) for level in features]
        return Prediction(
            logits=[flatten_cells(self.logits(level), self.class_channels) for level in maps],
            box=[flatten_cells(self.box(level), self.box_channels) for level in maps],
            extra={"tint": [flatten_cells(self.tint(level), len(COLORS)) for level in maps]},
        )


def tint_loss(values: Tensor, targets: Targets) -> Tensor:
    """Cross entropy of the positive anchors' values (B,N,3) and their objects' colours -> (B,N)."""
    chosen, known = values[targets.places], targets.extra_known["tint"]  # (P,3), (P,)
    loss = cross_entropy(chosen, targets.extra["tint"].long(), reduction="none")
    return targets.at_positives(loss * known)


def tint_of(values: Tensor, anchors: Tensor) -> Tensor:
    """(D,3) values of D detections -> (D,), their colours."""
    return values.argmax(dim=1)


@densedet.register("evaluator", "with_tint")
class TintEvaluator:
    """Another evaluator's metrics, and "tint_accuracy": the share of the objects found whose colour is right.

    An object is found by the best detection of its class that overlaps it enough.

    Args:
        source: (wired) the truth.
        classes: (wired) names in label order.
        evaluator: the other evaluator, e.g. coco.
        iou: least overlap of a detection and its object.
    """

    def __init__(
        self,
        *,
        source: Source,
        classes: tuple[str, ...],
        evaluator: Annotated[Evaluator, Part("evaluator")],
        iou: Probability = 0.5,
    ) -> None:
        self.source, self.classes, self.evaluator, self.iou = source, classes, evaluator, iou
        self.found = self.right = 0

    def add(self, index: int, detections: Detections) -> None:
        self.evaluator.add(index, detections)
        truth = self.source.annotation(index)
        names = [self.classes[label] for label in detections.labels.tolist()]
        overlaps = pairwise_iou(truth.boxes, detections.boxes)  # (G,D), detections best first
        for number, label in enumerate(truth.labels.tolist()):
            same = torch.tensor([name == self.source.classes[label] for name in names], dtype=torch.bool)
            hits = (same & (overlaps[number] >= self.iou)).nonzero().flatten()
            if len(hits) and not truth.ignore[number]:
                self.found += 1
                self.right += int(detections.extra["tint"][hits[0]] == truth.extra["tint"][number])

    def result(self) -> dict[str, Any]:
        accuracy = self.right / self.found if self.found else -1.0
        return {**self.evaluator.result(), "tint_accuracy": accuracy}

    def state(self) -> Any:
        return self.found, self.right, self.evaluator.state()

    def merge(self, states: list[Any]) -> None:
        self.found, self.right = (sum(state[column] for state in states) for column in (0, 1))
        self.evaluator.merge([state[2] for state in states])
