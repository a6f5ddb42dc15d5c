"""Whether the class loss of a network that has learned nothing is what theory says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from densedet.core.types import Batch

NEAR = 0.1
"""Share of the theoretical value by which the loss may be off."""


@dataclass(frozen=True)
class FirstLoss:
    """The class loss of a batch, summed over its anchors, before any training.

    Attributes:
        expected: what the loss's own ``initial_loss`` gives; None: it has none.
        blank: of features that are all 0, so that only the head's biases count; None: the detector does not
            show it.
        measured: of the batch itself.
        spread: standard deviation of the batch's logits, which theory takes for 0.
        why: why there is nothing to compare; empty where there is.
    """

    expected: float | None = None
    blank: float | None = None
    measured: float | None = None
    spread: float = 0.0
    why: str = ""

    @property
    def fault(self) -> bool:
        """Whether the loss is off even where features carry nothing."""
        return self.expected is not None and not _near(self.blank, self.expected)

    def sentence(self) -> str:
        """Return what was found."""
        if self.expected is None or self.blank is None or self.measured is None:
            return f"the first class loss is not checked: {self.why}"
        off = f"{self.measured / self.expected - 1:+.0%}" if self.expected else f"{self.measured:g}"
        told = f"the first class loss is {self.measured:.4g}, in theory {self.expected:.4g} ({off})"
        if self.fault:
            return (
                f"{told}; with blank features, where only the head's biases count, it is {self.blank:.4g}: "
                f"the head does not start at initial_bias of the class loss, or its channels stand otherwise"
            )
        if _near(self.measured, self.expected):
            return told
        return (
            f"{told}; with blank features it is {self.blank:.4g}, as theory has it: the first logits differ "
            f"(standard deviation {self.spread:.2g}), of which a loss that picks the hardest makes the most"
        )


def _near(value: float | None, expected: float) -> bool:
    return value is not None and abs(value - expected) <= NEAR * abs(expected) + 1e-9


def first_loss(detector: Any, batch: Batch) -> FirstLoss:
    """Compare the class loss of a batch with its theoretical value.

    Args:
        detector: with the weights that training starts with.
        batch: on its device.
    """
    part = getattr(detector, "class_loss", None)
    head = getattr(detector, "head", None)
    if not isinstance(part, torch.nn.Module) or not isinstance(head, torch.nn.Module):
        return FirstLoss(why=f"{type(detector).__name__} has no class_loss and head of its own")
    theory = getattr(part, "initial_loss", None)
    if theory is None:
        return FirstLoss(
            why=f"{type(part).__name__} has no initial_loss(labels, quality), which tells its value in theory"
        )
    measured, given = _class_loss(detector, part, batch)
    handle = head.register_forward_pre_hook(lambda module, args: _blank(args))
    try:
        blank, blank_given = _class_loss(detector, part, batch)
    finally:
        handle.remove()
    labels, quality = blank_given[1:3]
    expected = float(theory(labels, quality).sum())
    if part.quality != "unused":  # depends on the boxes, which the batch's features move
        measured = measured * expected / max(float(theory(*given[1:3]).sum()), 1e-12)
    return FirstLoss(expected, blank, measured, float(given[0].std()))


@torch.no_grad()
def _class_loss(detector: Any, part: torch.nn.Module, batch: Batch) -> tuple[float, tuple[Tensor, ...]]:
    """Return the sum over all anchors, and what the loss was called with: logits, labels, quality."""
    seen: list[tuple[tuple[Tensor, ...], Tensor]] = []
    handle = part.register_forward_hook(lambda module, args, output: seen.append((args, output)))
    training = detector.training
    kept = [(buffer, buffer.clone()) for buffer in detector.buffers()]
    detector.train()
    try:
        detector.losses(batch)
    finally:
        handle.remove()
        detector.train(training)
        for buffer, copy in kept:
            buffer.copy_(copy)
    given, output = seen[-1]
    return float(output.sum()), given


def _blank(args: tuple[Any, ...]) -> tuple[Any, ...]:
    features, *others = args
    return [torch.zeros_like(one) for one in features], *others
