"""Keypoints of each object, from the source to the metrics: arrows with a tip and two wings, and a head that
predicts these points beside class and box."""

import hashlib
import math
from typing import Annotated, Any, Literal

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

import densedet
from densedet.core.arguments import Part, PositiveInt, Probability
from densedet.core.boxes import centers, pairwise_iou
from densedet.core.contracts import Evaluator, Source
from densedet.core.errors import PartError
from densedet.core.layers import ConvNormAct, flatten_cells
from densedet.core.seeding import seed_of
from densedet.core.types import Annotation, Branch, Detections, Extra, Prediction, Targets

POINTS = 3  # the tip, the left wing and the right wing, for one who looks along the arrow


@densedet.register("source", "arrows")
class ArrowsSource:
    """Grey scenes with up to three bright arrows that point anywhere.

    Args:
        split: "train" or "val", which have different scenes.
        count: number of scenes.
        size: (width, height) of a scene in pixels.
    """

    classes, category_ids = ("arrow",), (0,)
    extras = {"keypoints": Extra((POINTS, 3), "keypoints", pairs=((1, 2),))}  # a mirror swaps the wings

    def __init__(
        self,
        *,
        split: Literal["train", "val"] = "train",
        count: PositiveInt = 1000,
        size: tuple[PositiveInt, PositiveInt] = (128, 64),
    ) -> None:
        self.split, self.count, self.size = split, count, size

    def __len__(self) -> int:
        return self.count

    def _points(self, index: int) -> np.ndarray:
        """float32 (G,3,2), x and y of each arrow's points. Arrows have a third of the width each."""
        random = np.random.default_rng(seed_of("arrows", self.split, index))
        width, height = self.size
        arrows = []
        for third in range(3):
            if random.random() < 0.7:
                turn, length = random.uniform(0, 2 * math.pi), random.uniform(10, 16)
                center = np.array([(third + 0.5) * width / 3, random.uniform(0.3, 0.7) * height])
                angles = turn + np.array([0, -2.3, 2.3])
                arrows.append(center + length * np.stack([np.cos(angles), np.sin(angles)], axis=1))
        return np.array(arrows, dtype=np.float32).reshape(-1, POINTS, 2)

    def annotation(self, index: int) -> Annotation:
        points = torch.from_numpy(self._points(index))
        boxes = torch.cat([points.amin(dim=1), points.amax(dim=1)], dim=1)
        none = torch.zeros(len(boxes), dtype=torch.bool)
        return Annotation(
            boxes=boxes,
            labels=torch.zeros(len(boxes), dtype=torch.int64),
            ignore=none,
            crowd=none.clone(),
            area=(boxes[:, 2:] - boxes[:, :2]).prod(dim=1),
            image_id=index,
            file_name=f"arrows_{index}.png",
            width=self.size[0],
            height=self.size[1],
            extra={"keypoints": torch.cat([points, torch.full((*points.shape[:2], 1), 2.0)], dim=2)},
        )

    def image(self, index: int) -> np.ndarray:
        picture = Image.new("L", tuple(self.size), 60)
        pen = ImageDraw.Draw(picture)
        for tip, left, right in self._points(index):
            notch = (tip + left + right) / 3
            pen.polygon([tuple(point) for point in (tip, left, notch, right)], fill=200)
        return np.asarray(picture)

    def fingerprint(self) -> str:
        return hashlib.sha256(repr((self.split, self.count, self.size)).encode()).hexdigest()

    def invalid(self) -> list[str]:
        return []


@densedet.register("head", "keypoints")
class KeypointHead(nn.Module):
    """One tower for class, box and the branch "keypoints", shared by all levels.

    A point is regressed from the middle of its anchor, in units of the anchor's width and height.

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
        self.branches = {
            "keypoints": Branch(
                loss=point_loss, predict=points_of, kind="keypoints", needs=ArrowsSource.extras
            )
        }
        self.tower = nn.Sequential(*(ConvNormAct(width, width, norm="group") for _ in range(depth)))
        self.logits = nn.Conv2d(width, anchors * class_channels, 3, padding=1)
        self.box = nn.Conv2d(width, anchors * box_channels, 3, padding=1)
        self.points = nn.Conv2d(width, anchors * POINTS * 2, 3, padding=1)
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.constant_(self.logits.bias, class_bias)

    def forward(self, features: list[Tensor]) -> Prediction:
        maps = [self.tower(level) for level in features]
        return Prediction(
            logits=[flatten_cells(self.logits(level), self.class_channels) for level in maps],
            box=[flatten_cells(self.box(level), self.box_channels) for level in maps],
            extra={"keypoints": [flatten_cells(self.points(level), POINTS * 2) for level in maps]},
        )


def point_loss(values: Tensor, targets: Targets) -> Tensor:
    """Smooth L1 of the positive anchors' values (B,N,6) and their objects' visible points -> (B,N)."""
    offsets = values[targets.places].unflatten(1, (POINTS, 2))  # (P,3,2)
    anchors = targets.anchors[targets.places[1]]
    points, known = targets.extra["keypoints"], targets.extra_known["keypoints"]
    sides = anchors[:, 2:] - anchors[:, :2]
    wanted = (points[..., :2] - centers(anchors)[:, None]) / sides[:, None]
    loss = smooth_l1_loss(offsets, wanted, beta=0.1, reduction="none").sum(dim=2)  # (P,3)
    visible = (points[..., 2] > 0) & known[:, None]
    return targets.at_positives((loss * visible).sum(dim=1))


def points_of(values: Tensor, anchors: Tensor) -> Tensor:
    """(D,6) values of D detections and their anchors (D,4) -> (D,3,3): x, y in pixels, and 1."""
    sides = anchors[:, 2:] - anchors[:, :2]
    xy = centers(anchors)[:, None] + values.unflatten(1, (POINTS, 2)) * sides[:, None]
    return torch.cat([xy, torch.ones_like(xy[..., :1])], dim=2)


@densedet.register("evaluator", "with_keypoints")
class KeypointEvaluator:
    """Another evaluator's metrics, and "keypoint_distance": the mean distance in source pixels of the visible
    points of the objects found from where they were predicted.

    An object is found by the best detection that overlaps it enough.

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
        self.source, self.evaluator, self.iou = source, evaluator, iou
        self.count, self.total = 0, 0.0

    def add(self, index: int, detections: Detections) -> None:
        self.evaluator.add(index, detections)
        truth = self.source.annotation(index)
        overlaps = pairwise_iou(truth.boxes, detections.boxes)  # (G,D), detections best first
        for number, points in enumerate(truth.extra["keypoints"]):
            hits = (overlaps[number] >= self.iou).nonzero().flatten()
            visible = points[:, 2] > 0
            if len(hits) and not truth.ignore[number]:
                off = (detections.extra["keypoints"][hits[0], :, :2] - points[:, :2]).norm(dim=1)
                self.count += int(visible.sum())
                self.total += float(off[visible].sum())

    def result(self) -> dict[str, Any]:
        distance = self.total / self.count if self.count else -1.0
        return {**self.evaluator.result(), "keypoint_distance": distance}

    def state(self) -> Any:
        return self.count, self.total, self.evaluator.state()

    def merge(self, states: list[Any]) -> None:
        self.count, self.total = sum(state[0] for state in states), sum(state[1] for state in states)
        self.evaluator.merge([state[2] for state in states])
