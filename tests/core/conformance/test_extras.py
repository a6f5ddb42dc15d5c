"""Parts whose objects carry more than a box: what the kit refuses, each by its sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from densedet.core.conformance import ConformanceError, check_batch_transform, check_head, check_source
from densedet.core.extras import moved_extra
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.core.types import Annotation, Batch, Branch, Extra
from densedet.plugins.heads.retinanet import RetinaNetHead
from densedet.plugins.sources.digits import DigitsSource


class Carrying(DigitsSource):
    """Digits that carry the middle of their box; what a test sets goes wrong."""

    extras = {"middle": Extra((1, 3), "keypoints")}
    wrong: Any = staticmethod(lambda values: values)

    def annotation(self, index: int) -> Annotation:
        truth = super().annotation(index)
        middle = (truth.boxes[:, :2] + truth.boxes[:, 2:]) / 2
        values = torch.cat([middle, torch.ones(len(middle), 1)], dim=1)[:, None]
        return replace(truth, extra=type(self).wrong({"middle": values}))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda values: {}, "extra 'middle' is missing"),
        (lambda values: {"middle": values["middle"][:, :, :2]}, r"has the shape \(\d+, 1, 2\)"),
        (lambda values: {"middle": values["middle"] * 9}, "a visible keypoint leaves its image"),
        (lambda values: {"middle": values["middle"] / 0 * 0}, "holds NaN"),
        (lambda values: {**values, "more": values["middle"]}, r"has \['more'\], which the source's extras"),
    ],
)
def test_sources(wrong: Any, sentence: str) -> None:
    check_source(Carrying, count=4, min_objects=1)
    broken = type("Broken", (Carrying,), {"wrong": staticmethod(wrong)})
    with pytest.raises(ConformanceError, match=sentence):
        check_source(broken, count=4, min_objects=1)


class Upside:
    """Mirrors top and bottom; how extras go along is the test's."""

    def __init__(self, *, along: Any) -> None:
        self.along = along

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        images = batch.images.clone()
        for row, (height, width) in enumerate(batch.valid_hw.tolist()):
            images[row, :, :height, :width] = batch.images[row, :, :height, :width].flip(1)
        height = batch.valid_hw[:, :1].float()
        x1, y1, x2, y2 = batch.boxes.unbind(-1)
        boxes = torch.stack([x1, height - y2, x2, height - y1], dim=-1)
        matrix = torch.tensor([[1.0, 0, 0], [0, -1, 0]]).repeat(len(batch), 1, 1)
        matrix[:, 1, 2] = height[:, 0]
        moved = replace(batch, images=images, boxes=torch.where(batch.valid[..., None], boxes, 0.0))
        return replace(moved, **self.along(batch, matrix))


def test_batch_transforms() -> None:
    check_batch_transform(Upside, along=lambda batch, matrix: {"extra": moved_extra(batch, matrix)})
    with pytest.warns(UserWarning, match="leaves Batch.extra alone"):
        check_batch_transform(Upside, along=lambda batch, matrix: {})
    for along, sentence in (
        (
            lambda batch, matrix: {"extra": {n: v + 30 * (v.ndim == 4) for n, v in batch.extra.items()}},
            "keypoints do not go with their boxes",
        ),
        (lambda batch, matrix: {"extra": {}}, "one value for each slot"),
        (
            lambda batch, matrix: {"extra": {n: v.flip(1) for n, v in moved_extra(batch, matrix).items()}},
            "carries the value of another",
        ),
    ):
        with pytest.raises(ConformanceError, match=sentence):
            check_batch_transform(Upside, along=along)


def head(**branch: Any) -> Any:
    """RetinaNet's head, one class channel of which is a branch too."""

    class Telling(RetinaNetHead):
        def __init__(
            self,
            *,
            in_channels: tuple[int, ...],
            num_anchors: tuple[int, ...],
            class_channels: int,
            box_channels: int,
            class_bias: float,
        ) -> None:
            super().__init__(
                in_channels=in_channels,
                num_anchors=num_anchors,
                class_channels=class_channels,
                box_channels=box_channels,
                class_bias=class_bias,
                depth=1,
            )
            self.branches = {"far": Branch(self.off, needs={"far": Extra()}, **branch)}

        @staticmethod
        def off(values: Any, targets: Any) -> Any:
            return targets.at_positives((values[targets.places][:, 0] - targets.extra["far"]).square())

        def forward(self, features: Any) -> Any:
            prediction = super().forward(features)
            prediction.extra = {"far": [values[..., :1] for values in prediction.box]}
            return prediction

    return Telling


def middle_of(values: Any, anchors: Any) -> Any:
    middle = (anchors[:, :2] + anchors[:, 2:]) / 2
    return torch.cat([middle + values, torch.ones_like(values)], dim=1)[:, None]


def test_branches() -> None:
    check_head(head(predict=lambda values, anchors: values[:, 0]))
    check_head(head(predict=middle_of, kind="keypoints"))
    for predict, kind, sentence in (
        (lambda values, anchors: values[:1, 0], "plain", "one value for each of 3 detections"),
        (lambda values, anchors: values.sum(), "plain", "one value for each of 3 detections"),
        (lambda values, anchors: values[:, 0] / 0, "plain", "NaN or infinity"),
        (lambda values, anchors: anchors[:, :2], "keypoints", r"keypoints are \(D,K,3\)"),
        (lambda values, anchors: middle_of(values, anchors * 0), "keypoints", "keypoints are in pixels"),
    ):
        with pytest.raises(ConformanceError, match=sentence):
            check_head(head(predict=predict, kind=kind))


def test_the_built_in_batch_transforms_move_keypoints() -> None:
    parts = load_plugins().components
    for name in parts.names("batch_transform"):
        check_batch_transform(parts.get("batch_transform", name).load())
