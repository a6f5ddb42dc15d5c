"""Exponential moving average of the weights: what evaluation, best.pt and predict use."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

RAMP_STEPS = 200.0
"""The decay starts near 0 and reaches 95 % of its value after 3 * RAMP_STEPS steps, so that short runs are
not averaged with their random start."""


class ExponentialMovingAverage:
    """Keeps ``model`` a slow copy of another. average = decay * average + (1 - decay) * weights, after each
    step.

    Averages floating parameters and buffers (batch-norm statistics too) and copies integer ones.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval()
        self._pairs: tuple[nn.Module, list[Tensor], list[Tensor], list[tuple[Tensor, Tensor]]] | None = None
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    def decay_at(self, step: int) -> float:
        """The decay after optimizer step ``step`` (counted from 1)."""
        return self.decay * (1 - math.exp(-step / RAMP_STEPS))

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after ``step``."""
        if self._pairs is None or self._pairs[0] is not model:
            self._pairs = model, *_paired(self.model, model)
        _, ours, theirs, counts = self._pairs
        torch._foreach_lerp_(ours, theirs, 1 - self.decay_at(step))
        for own, other in counts:
            own.copy_(other)


def _paired(
    average: nn.Module, model: nn.Module
) -> tuple[list[Tensor], list[Tensor], list[tuple[Tensor, Tensor]]]:
    """The floating tensors of both, and pairs of the integer ones. Collecting them takes longer than
    averaging a small network; they stay the same tensors, whatever is loaded into them."""
    ours, theirs = average.state_dict(), model.state_dict()
    floating = [name for name, value in ours.items() if value.dtype.is_floating_point]
    counts = [(value, theirs[name]) for name, value in ours.items() if not value.dtype.is_floating_point]
    return [ours[name] for name in floating], [theirs[name] for name in floating], counts
