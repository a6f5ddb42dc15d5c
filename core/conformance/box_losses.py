"""Box losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from densedet.core.conformance.requirements import (
    Factory,
    at_end,
    check,
    check_device,
    finite,
    on_meta,
    require,
    same,
    steady,
    wire,
)

BINS = 16
BOXES = ((20.0, 30.0, 70.0, 90.0), (10.0, 10.0, 42.0, 26.0), (100.0, 60.0, 130.0, 140.0))
"""Targets of a loss on boxes, xyxy pixels."""
DELTAS = ((0.2, -0.4, 0.5, -0.1), (1.0, 0.6, -0.8, 0.3), (0.0, 0.1, 0.3, 0.9))
SIDES = ((2.0, 3.0, 7.0, 9.0), (1.0, 1.0, 4.0, 5.0), (6.0, 12.0, 3.0, 2.0))
"""Targets of a loss on bins, distances in bins."""


@check("box_loss")
def check_box_loss(factory: Factory, **arguments: Any) -> None:
    """Check (P,), 0 where prediction and target agree, never negative, falling on the way to the target, with
    a gradient in every coordinate; boxes as xyxy; finite without area; P = 0.

    Args:
        factory: the class or function.
        **arguments: its arguments in a recipe.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """
    part = wire(factory, arguments).eval()
    require(part.space in ("boxes", "deltas", "bins"), f"space is boxes, deltas or bins, not {part.space!r}")
    call: Any = at_end(part, part.forward)
    target = torch.tensor({"boxes": BOXES, "deltas": DELTAS, "bins": SIDES}[part.space])
    perfect = sharp(target) if part.space == "bins" else target.clone()
    far = _moved(part.space, target)
    _check_values(call, part.space, perfect, far, target)
    _check_path(call, perfect, far, target)
    _check_coordinates(call, target, part.space)
    if part.space == "boxes":
        _check_boxes(call, target)
    if part.space == "bins":
        _check_bins(call)
    meta = [t.to("meta") for t in (far, target)]
    moved = on_meta(part)
    check_device("the box loss", lambda: at_end(moved, moved.forward)(*meta))


def sharp(sides: Tensor) -> Tensor:
    """Logits (P, 4*(BINS+1)) that put all weight on the two bins around each distance (P,4)."""
    low = sides.floor().clamp(0, BINS - 1).long().unsqueeze(-1)
    share = sides.unsqueeze(-1) - low
    weights = torch.zeros(*sides.shape, BINS + 1).scatter_(-1, low, 1 - share).scatter_(-1, low + 1, share)
    return weights.clamp(min=1e-9).log().flatten(1)


def _moved(space: str, target: Tensor) -> Tensor:
    """A prediction that is off by some tenths of the target's size, in every coordinate, each by its own."""
    by = torch.tensor([[1.0], [0.5], [1.3]])
    if space == "bins":
        return sharp(target + torch.tensor([1.0, 2.0, 2.0, 1.0]))
    if space == "deltas":
        return target + torch.tensor([0.5, -0.6, 0.4, 0.7]) * by
    return target + torch.tensor([-3.0, 4.0, 5.0, 6.0]) * by


def _check_values(part: Any, space: str, perfect: Tensor, far: Tensor, target: Tensor) -> None:
    far = far.clone().requires_grad_()
    loss = steady("the box loss", part, far, target)
    require(
        loss.shape == (len(target),), f"a box loss gives (P,), got {tuple(loss.shape)}: sum over coordinates"
    )
    require(loss.dtype == torch.float32, f"a box loss is float32, not {loss.dtype}")
    require(finite(loss), "the loss is not finite")
    require(loss.requires_grad, "the loss is cut off from the prediction (detach or no_grad)")
    at_best = part(perfect.requires_grad_(), target)
    (gradient,) = torch.autograd.grad(at_best.sum(), perfect)
    require(finite(gradient), "the gradient is not finite where prediction and target agree")
    perfect, at_best = perfect.detach(), at_best.detach()
    require(
        bool((loss > at_best).all()),
        "the loss must be smaller where prediction and target agree than elsewhere",
    )
    require(
        float(at_best.abs().max()) < 1e-2,
        f"the loss is 0 where prediction and target agree, theirs is {float(at_best.abs().max()):.3g}",
    )
    generator = torch.Generator().manual_seed(3)
    noise = torch.rand(64, 4, generator=generator) * 40
    corners = torch.cat([noise[:, :2], noise[:, :2] + noise[:, 2:]], -1)
    some, other = (corners, corners.flip(0)) if space == "boxes" else (noise - 20, noise.flip(0) - 20)
    if space == "bins":
        some, other = torch.randn(64, 4 * (BINS + 1), generator=generator) * 3, noise / 40 * BINS
    values = part(some, other)
    require(finite(values) and bool((values > -1e-5).all()), "the loss is negative or not finite")
    alone = torch.cat([part(far[i : i + 1], target[i : i + 1]) for i in range(len(target))])
    require(same(alone, loss, 1e-5), "a box's loss depends on the other boxes")
    none = part(far[:0], target[:0])
    require(none.shape == (0,), f"P = 0 gives (0,), got {tuple(none.shape)}")


def _check_path(part: Any, perfect: Tensor, far: Tensor, target: Tensor) -> None:
    """From the far prediction straight to the target, the loss must not grow; nor along its gradient."""
    losses = torch.stack([part(far + (perfect - far) * share, target) for share in torch.linspace(0, 1, 6)])
    slack = 2e-3 + 0.02 * losses[0]
    require(
        bool((losses.diff(dim=0) <= slack).all()),
        f"the loss grows on the way to the target: {losses[:, 0].tolist()}",
    )
    far = far.clone().requires_grad_()
    loss = part(far, target)
    (gradient,) = torch.autograd.grad(loss.sum(), far)
    require(finite(gradient), "the loss's gradient is not finite")
    require(bool(gradient.any(-1).all()), "a prediction off its target gets no gradient")
    step = 1e-2 * gradient / gradient.norm(dim=-1, keepdim=True)
    require(
        bool((part(far.detach() - step, target) < loss).all()), "the loss grows along its negative gradient"
    )


def _check_coordinates(part: Any, target: Tensor, space: str) -> None:
    """A prediction that is wrong in one coordinate alone costs, and is drawn back."""
    size = {"boxes": 4.0, "deltas": 0.5, "bins": 1.0}[space]
    for side in range(4):
        for sign in (1.0, -1.0):
            wrong = target.clone()
            wrong[:, side] += sign * size
            if space == "bins":
                require(
                    bool((part(sharp(wrong), target) > part(sharp(target), target) + 1e-3).all()),
                    f"number {side} of 4 may be a bin off at no cost",
                )
                continue
            wrong.requires_grad_()
            loss = part(wrong, target)
            (gradient,) = torch.autograd.grad(loss.sum(), wrong)
            require(
                bool((loss > 1e-6).all()) and bool((gradient[:, side] * sign > 0).all()),
                f"a prediction whose number {side} of 4 alone is off by {sign * size:g} costs nothing or is "
                f"not drawn back: its gradient is {gradient[:, side].tolist()}",
            )


def _check_boxes(part: Any, target: Tensor) -> None:
    """xyxy, and finite where a box has no area."""
    far = _moved("boxes", target)
    shift = torch.tensor([64.0, -8.0, 64.0, -8.0])
    require(
        same(part(far + shift, target + shift), part(far, target), 1e-4),
        "both boxes moved by as much must have the same loss: boxes are xyxy in pixels, neither cxcywh nor "
        "xywh, nor shares of the image",
    )
    grown = target + torch.tensor([-4.0, -4.0, 4.0, 4.0])
    center = target + torch.tensor([0.0, 0.0, 8.0, 8.0])
    require(
        bool((part(grown, target) <= part(center, target) + 1e-3).all()),
        "a box grown on all sides by 4 must cost no more than one grown by 8 to one corner: boxes are xyxy",
    )
    sides = (target[:, 2:] - target[:, :2]).repeat(1, 2)
    away = torch.stack([part(target + share * sides, target) for share in (0.0, 0.3, 0.6, 1.5, 4.0)])
    require(
        bool((away.diff(dim=0) >= -1e-3 - 0.01 * away[:-1]).all()) and bool((away[1:] > 1e-3).all()),
        f"a box that moves away from its target, its size kept, costs {away[:, 0].tolist()}: the loss must "
        f"not fall, nor be 0",
    )
    for other in (5.0, 50.0):
        point = torch.full((1, 4), 5.0).requires_grad_()
        loss = part(point, torch.full((1, 4), other))
        require(finite(loss), "boxes without area give NaN")
        (gradient,) = torch.autograd.grad(loss.sum(), point)
        require(finite(gradient), "boxes without area give a NaN gradient")


def _check_bins(part: Any) -> None:
    """Targets between two bins belong to both."""
    target = torch.tensor([[2.5, 3.5, 7.5, 9.5], [0.5, 1.5, 4.5, 14.5]])
    right = part(sharp(target), target)
    for shift in (1.0, -1.0):
        require(
            bool((part(sharp((target + shift).clamp(0, BINS)), target) > right).all()),
            f"a distribution {shift:+g} bins off costs no more than the right one: bin i stands for i",
        )
    edge = torch.tensor([[0.0, 0.0, BINS - 0.01, BINS - 0.01]])
    require(finite(part(sharp(edge), edge)), "the loss is not finite at the first or the last bin")
