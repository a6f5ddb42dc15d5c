"""Every built-in part keeps its contract, and the checks catch parts that do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from densedet.core import conformance
from densedet.core.conformance import ConformanceError
from densedet.core.layers import flatten_cells
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.core.types import Assignment, Branch, Prediction

ARGUMENTS: dict[tuple[str, str], dict[str, Any]] = {
    ("backbone", "torchvision"): {"model": "shufflenet_v2_x0_5", "nodes": ("stage2", "stage3")},
    ("backbone", "vgg16_ssd"): {"width": 0.0625},
    ("neck", "ssd_extras"): {},
    ("head", "retinanet"): {"depth": 1},
    ("head", "fcos"): {"depth": 1},
    ("anchors", "default_boxes"): {"ratios": (2.0,)},
    ("source", "digits"): {"count": 12},
}
CHECKED = (
    "backbone",
    "neck",
    "anchors",
    "head",
    "matcher",
    "coder",
    "class_loss",
    "box_loss",
    "postprocess",
    "resize",
    "batch_transform",
    "schedule",
)


def rows() -> Iterator[tuple[str, str]]:
    for component in load_plugins().components.find():
        if component.kind in CHECKED or (component.kind, component.name) == ("source", "digits"):
            yield component.kind, component.name


@pytest.mark.parametrize(("kind", "name"), list(rows()))
def test_built_in(kind: str, name: str) -> None:
    torch.manual_seed(0)
    check = getattr(conformance, f"check_{kind}")
    check(load_plugins().components.get(kind, name).load(), **ARGUMENTS.get((kind, name), {}))


class Head(nn.Module):
    """A head that keeps the contract; the tests below break it one way each."""

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
        self.channels = class_channels, box_channels
        self.logits = nn.Conv2d(in_channels[0], num_anchors[0] * class_channels, 3, padding=1)
        self.box = nn.Conv2d(in_channels[0], num_anchors[0] * box_channels, 3, padding=1)
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.constant_(self.logits.bias, class_bias)
        self.branches: dict[str, Branch] = {}

    def forward(self, features: list[Tensor]) -> Prediction:
        return Prediction(
            [flatten_cells(self.logits(f), self.channels[0]) for f in features],
            [flatten_cells(self.box(f), self.channels[1]) for f in features],
        )


def test_a_good_head_passes() -> None:
    conformance.check_head(Head)


class Unordered(Head):
    def forward(self, features: list[Tensor]) -> Prediction:
        right = super().forward(features)
        return Prediction([p.flip(1) for p in right.logits], right.box)


class WrongWidth(Head):
    def forward(self, features: list[Tensor]) -> Prediction:
        right = super().forward(features)
        return Prediction([p[..., :-1] for p in right.logits], right.box)


class Idle(Head):
    def __init__(self, **wired: Any) -> None:
        super().__init__(**wired)
        self.unused = nn.Linear(1, 1)


class NoPrior(Head):
    def __init__(self, **wired: Any) -> None:
        super().__init__(**wired)
        nn.init.constant_(self.logits.bias, 5.0)


class Announces(Head):
    def __init__(self, **wired: Any) -> None:
        super().__init__(**wired)
        self.branches = {"quality": Branch(loss=lambda values, targets: values.sum(-1))}


def named(head: type) -> Any:
    """The class with Head's signature, which `wire` reads."""

    def build(
        *, in_channels: Any, num_anchors: Any, class_channels: int, box_channels: int, class_bias: float
    ) -> Any:
        return head(
            in_channels=in_channels,
            num_anchors=num_anchors,
            class_channels=class_channels,
            box_channels=box_channels,
            class_bias=class_bias,
        )

    return build


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        (Unordered, "outputs must be in the order y, x, anchor"),
        (WrongWidth, "logits should be"),
        (Idle, "unused.weight, unused.bias never get a gradient"),
        (NoPrior, "logits start around class_bias"),
        (Announces, "must name the same"),
    ],
)
def test_a_broken_head_is_caught(head: type, sentence: str) -> None:
    with pytest.raises(ConformanceError, match=sentence):
        conformance.check_head(named(head))


class MatchesPadding:
    uses_predictions = False

    def __call__(
        self,
        boxes: Tensor,
        labels: Tensor,
        valid: Tensor,
        anchors: Tensor,
        levels: Any,
        predictions: Any = None,
    ) -> Assignment:
        index = torch.full((len(boxes), len(anchors)), -1)
        if boxes.shape[1]:
            index[:, 0] = 2
        return Assignment(index)


class ForcesAnything(MatchesPadding):
    def __call__(
        self,
        boxes: Tensor,
        labels: Tensor,
        valid: Tensor,
        anchors: Tensor,
        levels: Any,
        predictions: Any = None,
    ) -> Assignment:
        index = torch.full((len(boxes), len(anchors)), -1)
        if boxes.shape[1]:
            index[:, :2] = torch.where(valid[:, :2], torch.arange(2), -1)
        return Assignment(index)


@pytest.mark.parametrize(
    ("matcher", "sentence"),
    [(MatchesPadding, "valid=False got an anchor"), (ForcesAnything, "touches no anchor got one")],
)
def test_a_broken_matcher_is_caught(matcher: type, sentence: str) -> None:
    with pytest.raises(ConformanceError, match=sentence):
        conformance.check_matcher(matcher)


def test_a_scalar_class_loss_is_caught() -> None:
    class Scalar(nn.Module):
        background_channel, initial_bias, quality = "none", 0.0, "unused"

        def forward(self, logits: Tensor, labels: Tensor, quality: Tensor | None) -> Tensor:
            return logits.square().sum()

    with pytest.raises(ConformanceError, match=r"keeps \(B,N\)"):
        conformance.check_class_loss(Scalar)


def test_a_backbone_that_lies_about_its_strides_is_caught() -> None:
    class Lying(nn.Module):
        channels, strides = (4,), (4,)

        def __init__(self, *, in_channels: int) -> None:
            super().__init__()
            self.mean = self.std = (0.5,) * in_channels
            self.layer = nn.Conv2d(in_channels, 4, 3, stride=2, padding=1)

        def forward(self, images: Tensor) -> list[Tensor]:
            return [self.layer(images)]

    with pytest.raises(ConformanceError, match="cells for 64 pixels at stride 4"):
        conformance.check_backbone(Lying)
