"""Every built-in class loss, box loss and coder: its gradient is that of its value, in float64, where the
function has one.

The registry says what is built in, so a new part is tested as soon as it is listed; VARIANTS adds arguments
worth a test of their own.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from densedet.core.boxes import centers
from densedet.core.conformance import wire
from densedet.core.examples import CLASSES
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.plugins.losses._overlap import overlap
from densedet.plugins.losses.ciou import CIoULoss

VARIANTS: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("class_loss", "focal"): [{"alpha": None, "gamma": 0.5}, {"alpha": 0.9, "gamma": 1.0}, {"gamma": 3.7}],
    ("class_loss", "quality_focal"): [{"beta": 1.0}, {"beta": 1.5}],
    ("class_loss", "varifocal"): [{"gamma": 0.0}, {"alpha": 0.0}, {"gamma": 1.5}],
    ("class_loss", "softmax"): [{"background": "last"}],
    ("class_loss", "hard_negative"): [
        {"background": "last"},
        {"min_negatives": 0},
        {"min_negatives": 3, "ratio": 1.0},
    ],
    ("box_loss", "smooth_l1"): [{"beta": 0.0}, {"beta": 0.11}],
    ("coder", "delta"): [
        {"weights": (10.0, 10.0, 5.0, 5.0)},
        {"weights": (0.3, 7.0, 1.7, 0.1), "clamp": 0.5},
    ],
    ("coder", "ltrb"): [
        {"activation": a, "normalise": n} for a in ("exp", "relu", "softplus") for n in (True, False)
    ],
    ("coder", "distribution"): [{"bins": 1}, {"bins": 5, "bin_size": 0.25}],
}
FROZEN = {("box_loss", "ciou")}
"""Hold a term constant to the gradient by definition; they have a test of their own below."""


def built_in(kind: str) -> list[Any]:
    """(name, arguments) of densedet's own parts of a kind, first with their defaults."""
    return [
        pytest.param(component.name, arguments, id="-".join([component.name, *map(str, arguments.values())]))
        for component in load_plugins().components.find(kind)
        for arguments in ({}, *VARIANTS.get((kind, component.name), []))
        if component.origin.split()[0] == "densedet" and (kind, component.name) not in FROZEN
    ]


def part(kind: str, name: str, arguments: dict[str, Any]) -> Any:
    return wire(load_plugins().components.get(kind, name).load(), arguments, num_classes=CLASSES)


def random(*shape: int, seed: int = 0) -> Tensor:
    """Of float64, normal: no two equal, none exactly 0, so off every kink with probability 1."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def boxes(count: int, seed: int) -> Tensor:
    """Within 40 px; sides of 2 to 22."""
    unit = torch.rand(count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.cat([unit[:, :2] * 18, unit[:, :2] * 18 + 2 + unit[:, 2:] * 20], dim=1)


@pytest.mark.parametrize("scale", [1.0, 12.0])
@pytest.mark.parametrize(("name", "arguments"), built_in("class_loss"))
def test_class_loss(name: str, arguments: dict[str, Any], scale: float) -> None:
    loss = part("class_loss", name, arguments)
    logits = (random(2, 8, CLASSES + (loss.background_channel != "none")) * scale).requires_grad_()
    labels = torch.tensor([[0, 1, 2, CLASSES, CLASSES, CLASSES, -1, CLASSES], [CLASSES, -1, *[CLASSES] * 6]])
    quality = random(2, 8, seed=1).sigmoid() * (labels >= 0) * (labels < CLASSES)
    given = None if loss.quality == "unused" else quality
    assert loss(logits, labels, given).dtype == torch.float64
    assert gradcheck(lambda x: loss(x, labels, given), logits)


@pytest.mark.parametrize(("name", "arguments"), built_in("box_loss"))
def test_box_loss(name: str, arguments: dict[str, Any]) -> None:
    loss = part("box_loss", name, arguments)
    prediction, target = boxes(12, 0), boxes(12, 1)
    prediction[:2] += 50  # apart
    prediction[2], target[2] = (
        torch.tensor([3.0, 4.0, 7.0, 9.0]),
        torch.tensor([1.0, 2.0, 30.0, 31.0]),
    )  # one inside the other
    if loss.space == "deltas":
        prediction, target = random(12, 4), random(12, 4, seed=1)
    elif loss.space == "bins":
        prediction, target = random(12, 4 * 9) * 3, random(12, 4, seed=1).sigmoid() * 8
    assert loss(prediction, target).dtype == torch.float64
    assert gradcheck(lambda x: loss(x, target), prediction.requires_grad_())


def test_ciou_with_its_alpha_held() -> None:
    # Zheng et al. 2020: alpha is a constant to the gradient. The value with alpha kept from x itself, written
    # out, has that gradient.
    prediction, target = boxes(12, 0), boxes(12, 1)

    def angle(box: Tensor) -> Tensor:
        return torch.atan((box[:, 2] - box[:, 0]) / (box[:, 3] - box[:, 1]))

    def held(x: Tensor, alpha: Tensor) -> Tensor:
        iou, _, hull = overlap(x, target, 1e-7)
        distance = (centers(x) - centers(target)).square().sum(-1) / (hull.square().sum(-1) + 1e-7)
        return 1 - iou + distance + alpha * v(x)

    def v(x: Tensor) -> Tensor:
        return 4 / torch.pi**2 * (angle(target) - angle(x)) ** 2

    alpha = v(prediction) / (1 - overlap(prediction, target, 1e-7).iou + v(prediction) + 1e-7)
    prediction.requires_grad_()
    assert gradcheck(lambda x: held(x, alpha), prediction)
    loss, wanted = CIoULoss()(prediction, target), held(prediction, alpha)
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=1e-12)
    for one, other in zip(
        torch.autograd.grad(loss.sum(), prediction), torch.autograd.grad(wanted.sum(), prediction)
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("name", "arguments"), built_in("coder"))
def test_coder(name: str, arguments: dict[str, Any]) -> None:
    coder = part("coder", name, arguments)
    raw, anchors = (random(8, coder.box_channels) * 2).requires_grad_(), boxes(8, 1)
    assert coder.decode(raw, anchors).dtype == torch.float64
    assert gradcheck(lambda r: coder.decode(r, anchors), raw)
    assert gradcheck(coder.deltas, raw)
    assert gradcheck(lambda b: coder.encode(b, anchors), boxes(8, 2).requires_grad_())
