"""Class losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
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
from densedet.core.errors import PartError
from densedet.core.examples import CLASSES

STEPS, RATE = 60, 0.3
"""Steps of Adam, and their size, by which logits learn their labels."""


@check("class_loss")
def check_class_loss(factory: Factory, **arguments: Any) -> None:
    """Check (B,N), exactly 0 where ignored, finite at extreme logits, scores in 0..1; that logits which
    descend the loss score their labels, best where the quality is best; images and anchors for themselves.

    A loss of positives only, or one that samples no negative of an image without objects, is legal.

    Args:
        factory: the class or function.
        **arguments: its arguments in a recipe.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """
    part = wire(factory, arguments, num_classes=CLASSES).eval()
    require(part.background_channel in ("none", "first", "last"), "background_channel is none, first or last")
    require(part.quality in ("unused", "optional", "required"), "quality is unused, optional or required")
    bias = float(part.initial_bias)
    require(math.isfinite(bias) and abs(bias) <= 20, f"initial_bias is a logit, not {part.initial_bias!r}")
    channels = CLASSES + (part.background_channel != "none")
    _check_values(part, channels)
    _check_independence(part, channels)
    _check_background(part, channels)
    _check_classes(part, partial(wire, factory, arguments, num_classes=4 * CLASSES), channels)
    _check_start(part, channels, bias)
    _check_theory(part, channels, bias)
    _check_learning(part, channels, bias)
    meta = torch.zeros(2, 5, channels, device="meta"), torch.zeros(2, 5, dtype=torch.int64, device="meta")
    quality = None if part.quality == "unused" else torch.zeros(2, 5, device="meta")
    moved = on_meta(part)
    check_device("the class loss", lambda: at_end(moved, moved.forward)(*meta, quality))


def example_labels() -> tuple[Tensor, Tensor]:
    """labels (2,12): two anchors of each class, background, and an ignored one; and their quality."""
    labels = torch.full((2, 12), CLASSES)
    labels[0, :6], labels[1, 3:6], labels[:, -1] = torch.arange(6) % CLASSES, torch.arange(3).flip(0), -1
    return labels, ((labels < CLASSES) & (labels >= 0)) * 0.7


def _call(part: Any, logits: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
    call = at_end(part, part.forward)
    return call(logits, labels, None if part.quality == "unused" else quality)  # type: ignore[no-any-return]


def _check_values(part: Any, channels: int) -> None:
    labels, quality = example_labels()
    for scale in (1.0, 100.0, 1e4):
        logits = (torch.randn(2, 12, channels) * scale).requires_grad_()
        loss = steady("the class loss", lambda *given: _call(part, *given), logits, labels, quality)
        require(
            loss.shape == (2, 12),
            f"a class loss keeps (B,N), got {tuple(loss.shape)}: sum over channels only",
        )
        require(
            finite(loss) and bool((loss >= 0).all()),
            f"the loss is negative or not finite at logits of scale {scale:g}",
        )
        require(loss.dtype == torch.float32, f"the loss is float32, not {loss.dtype}")
        require(bool((loss[:, -1] == 0).all()), "the loss is exactly 0 where the label is -1")
        require(loss.requires_grad, "the loss is cut off from the logits (detach or no_grad)")
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        require(finite(gradient), f"the gradient is not finite at logits of scale {scale:g}")
        require(bool((gradient[:, -1] == 0).all()), "an ignored anchor gets no gradient")
        scores = steady("scores", part.scores, logits.detach())
        require(
            scores.shape == (2, 12, CLASSES),
            f"scores gives (B,N,C) without background, got {tuple(scores.shape)}",
        )
        require(finite(scores) and bool(((scores >= 0) & (scores <= 1)).all()), "scores lie in 0..1")
    ignored = _call(part, logits.detach(), torch.full_like(labels, -1), quality * 0)
    require(finite(ignored) and not bool(ignored.any()), "the loss is 0 where all anchors are ignored")
    empty = _call(part, torch.zeros(2, 0, channels), labels[:, :0], quality[:, :0])
    require(empty.shape == (2, 0), "a class loss takes no anchors at all (N = 0)")


def _check_background(part: Any, channels: int) -> None:
    """The background's channel is where `background_channel` tells, and without one no class must win."""
    logits = torch.full((1, 1, channels), -8.0)
    if part.background_channel != "none":
        logits[..., 0 if part.background_channel == "first" else -1] = 8.0
    where = "none has a large logit" if part.background_channel == "none" else "that channel alone is large"
    require(
        float(part.scores(logits).max()) < 0.2,
        f"a class has a score of {float(part.scores(logits).max()):.2f} where background_channel is "
        f"{part.background_channel!r} and {where}: every class must then score low",
    )


def _check_classes(part: Any, build: Callable[[], Any], channels: int) -> None:
    """Classes that are out of the question must not lower an anchor's loss. A loss whose arguments name each
    class takes no others."""
    labels, quality = example_labels()
    logits = torch.randn(2, 12, channels)
    more = torch.full((2, 12, 3 * CLASSES), -30.0)
    end = channels - (part.background_channel == "last")
    wider = torch.cat([logits[..., :end], more, logits[..., end:]], dim=-1)
    labels_of_wide = torch.where(labels == CLASSES, 4 * CLASSES, labels)
    few = float(_call(part, logits, labels, quality).sum())
    try:
        many = float(_call(build().eval(), wider, labels_of_wide, quality).sum())
    except (PartError, ValueError, RuntimeError, IndexError):
        return
    require(
        many > 0.5 * few,
        f"with {3 * CLASSES} further classes, all with logits of -30, the loss falls from {few:.3g} to "
        f"{many:.3g}: sum over the channels, do not average",
    )


def _check_independence(part: Any, channels: int) -> None:
    labels, quality = example_labels()
    more = torch.full((2, 28), CLASSES)
    labels, quality = torch.cat([more, labels], 1), torch.cat([more * 0.0, quality], 1)
    logits = torch.randn(2, 40, channels)
    logits[1] += 3 * torch.randn(40, channels)  # its background is harder than the first image's
    loss = _call(part, logits, labels, quality)
    if part.quality == "optional":
        without = at_end(part, part.forward)(logits, labels, None)
        require(without.shape == loss.shape and finite(without), "quality None gives finite losses too")
    alone = _call(part, logits[:1], labels[:1], quality[:1])
    other = _call(part, logits[1:], labels[1:], quality[1:])
    require(
        same([alone, other], [loss[:1], loss[1:]], 1e-5),
        "an image's loss depends on the other images of the batch",
    )
    order = torch.randperm(40)
    moved = _call(part, logits[:, order], labels[:, order], quality[:, order])
    require(same(moved, loss[:, order], 1e-5), "anchors in another order must have the same losses")
    for end in (9, -9):
        louder = logits.clone()
        louder[:, -1] = torch.linspace(end, -end, channels)
        require(
            same(_call(part, louder, labels, quality), loss, 1e-5),
            "an ignored anchor's logits change the loss",
        )
    score = part.scores(logits)
    require(same(part.scores(logits[:1, :3]), score[:1, :3], 1e-5), "an anchor's scores depend on others")


def _check_start(part: Any, channels: int, bias: float) -> None:
    scores = part.scores(torch.full((1, 1, channels), bias))
    require(
        float(scores.max()) <= 0.75,
        f"at initial_bias {bias:g} every class starts with a score of {float(scores.max()):.2f}: most "
        f"anchors are background, so it is at most 0.5 (for a sigmoid, -log((1 - prior) / prior))",
    )


def _check_theory(part: Any, channels: int, bias: float) -> None:
    """Compare ``initial_loss``, where a loss has it, with the loss of logits that are all its bias."""
    theory = getattr(part, "initial_loss", None)
    if theory is None:
        return
    labels = torch.randint(-1, CLASSES + 1, (2, 40))
    positive = (labels >= 0) & (labels < CLASSES)
    quality = None if part.quality == "unused" else torch.rand(2, 40) * positive
    told = theory(labels, quality)
    require(tuple(told.shape) == (2,), f"initial_loss gives (B,), here (2,), not {tuple(told.shape)}")
    own = part(torch.full((2, 40, channels), bias), labels, quality).sum(1)
    require(
        same(told, own, 0.02 * float(own.abs().max()) + 1e-6),
        f"initial_loss says {told.tolist()}, and logits of initial_bias give {own.tolist()}",
    )


def _check_learning(part: Any, channels: int, bias: float) -> None:
    """Logits that descend the loss must score their labels."""
    labels, quality = example_labels()
    quality = quality.clone()
    quality[0, 0], quality[0, 3] = 0.95, 0.35  # two anchors of class 0
    positive = (labels >= 0) & (labels < CLASSES)
    logits = torch.full((2, 12, channels), bias).requires_grad_()
    first = part.scores(logits.detach())
    start = float(_call(part, logits.detach(), labels, quality).sum())
    optimizer = torch.optim.Adam([logits], lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = _call(part, logits, labels, quality).sum()
        loss.backward()
        optimizer.step()
    require(float(loss.detach()) < start, "the loss grows along its negative gradient: its gradient is wrong")
    scores = part.scores(logits.detach())
    for label in range(CLASSES):
        rows = scores[positive & (labels == label)]
        require(
            bool((rows.argmax(-1) == label).all()),
            f"anchors of label {label} that learn by this loss score class {int(rows[0].argmax())}: labels "
            f"are 0..C-1, the background is C, and scores are in the order of the labels",
        )
        require(
            bool((rows[:, label] > first[positive & (labels == label)][:, label]).all()),
            f"the score of label {label} does not grow by learning",
        )
    background = labels == CLASSES
    require(
        bool((scores[background] <= first[background] + 0.05).all()),
        "scores of background anchors (label C) grow by learning",
    )
    require(same(scores[labels == -1], first[labels == -1], 1e-6), "an ignored anchor (label -1) learns")
    require(
        part.quality == "unused" or float(scores[0, 0, 0]) >= float(scores[0, 3, 0]) - 0.02,
        "a positive of quality 0.35 learns a higher score than one of 0.95: 1 is the best quality",
    )
