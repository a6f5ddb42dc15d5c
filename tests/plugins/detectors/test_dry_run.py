"""What the dense detector refuses before the first step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from densedet.core.errors import PartError
from densedet.core.types import Extra, Targets
from densedet.plugins.anchors.points import PointAnchors
from densedet.plugins.coders.ltrb import LTRBCoder
from densedet.plugins.detectors.dense import DenseDetector
from densedet.plugins.heads.fcos import FCOSHead
from densedet.plugins.losses.focal import FocalLoss
from densedet.plugins.losses.giou import GIoULoss
from densedet.plugins.matchers.fcos import FCOSMatcher
from densedet.plugins.postprocess.nms import NMSPostprocess


class Net(nn.Module):
    """One map of 8 channels at stride 8, whatever it declares."""

    channels, mean, std = (8,), (0.5,), (0.2,)

    def __init__(self, stride: int = 8, normed: int = 8) -> None:
        super().__init__()
        self.strides = (stride,)
        self.layer = nn.Conv2d(1, 8, 8, stride=8)
        self.norm = nn.BatchNorm2d(normed)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.norm(self.layer(images))]


def refusal(stride: int = 8, normed: int = 8, **branch: Any) -> str:
    """The sentence with which a 64x96 image is refused; ``branch`` replaces functions of "centerness"."""
    head = FCOSHead(
        in_channels=(8,), num_anchors=(1,), class_channels=3, box_channels=4, class_bias=-2.0, depth=1
    )
    head.branches["centerness"] = replace(head.branches["centerness"], **branch)
    detector = DenseDetector(
        backbone=Net(stride, normed),
        anchors=PointAnchors(strides=(stride,)),
        head=head,
        matcher=FCOSMatcher(),
        coder=LTRBCoder(),
        class_loss=FocalLoss(num_classes=3),
        box_loss=[GIoULoss()],
        postprocess=NMSPostprocess(),
        num_classes=3,
    )
    try:
        detector.dry_run(1, (64, 96))
    except PartError as error:
        return f"{error.part}: {error}"
    return "none"


def test_right_parts_pass() -> None:
    assert refusal() == "none"


def test_maps_are_compared_with_their_strides() -> None:
    # 64 / 16 = 4 cells are declared, the map has 8.
    assert refusal(16).startswith(
        "backbone: level 0 of the backbone has 8 cells for 64 pixels, but declares a stride of 16"
    )


def test_a_norm_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device it takes longer than all other layers."""
    monkeypatch.delattr(torch, "batch_norm")  # which torch.nn.functional.batch_norm calls
    assert refusal() == "none"


def test_a_norm_of_other_channels_is_refused() -> None:
    assert refusal(normed=4).startswith("backbone: the backbone cannot take 96x64 images: ")


@pytest.mark.parametrize(
    ("branch", "sentence"),
    [
        ({"loss": lambda values, targets: values.sum()}, r"loss gives \(\), not \(2, 16\)"),
        ({"adjust": lambda scores, values: scores.sum(-1)}, r"adjust gives \(2, 16\), not \(2, 16, 3\)"),
        ({"weight": lambda targets: targets.boxes}, r"weight gives \(2, 16, 4\), not \(2, 16\)"),
        (
            {"loss": lambda values, targets: values @ torch.ones(3)},
            "head: branch 'centerness' .* RuntimeError",
        ),
    ],
)
def test_branches_are_called(branch: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(refusal(**branch))


def test_a_branch_gets_the_extras_that_it_needs() -> None:
    def loss(values: Tensor, targets: Targets) -> Tensor:
        assert targets.extra["eyes"].shape == (len(targets.places[0]), 2, 3)
        return targets.at_positives(targets.extra["eyes"].sum((1, 2)) * targets.extra_known["eyes"])

    assert refusal(loss=loss, needs={"eyes": Extra((2, 3), "keypoints")}) == "none"
    assert "loss raised KeyError: 'eyes'" in refusal(loss=loss)
