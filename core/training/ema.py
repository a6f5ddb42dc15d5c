"""The exponential moving average of the weights, which evaluation, best.pt and prediction use."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

RAMP_STEPS = 200.0
"""The decay starts near 0 and reaches 95 % of its value after 3 * RAMP_STEPS steps, so that short runs are
not averaged with their random start."""


class ExponentialMovingAverage:
    """Keep a slow copy of a network: average = decay * average + (1 - decay) * weights, after each step.

    Floating parameters and buffers are averaged, batch-norm statistics too; integer buffers are copied.

    Args:
        model: the network to follow.
        decay: 0 <= decay < 1, reached by a ramp (see `decay_at`).

    Attributes:
        model: the averaged network, in evaluation mode.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval()
        self._pairs: tuple[nn.Module, list[Tensor], list[Tensor], list[tuple[Tensor, Tensor]]] | None = None
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    def decay_at(self, step: int) -> float:
        """Return the decay after optimizer step ``step`` (counted from 1)."""
        return self.decay * (1 - math.exp(-step / RAMP_STEPS))

    @torch.no_grad()
    def update(self, model: nn.Module, step: int, refused: Tensor | None = None) -> None:
        """Move the average towards the weights of ``model`` after ``step``.

        Args:
            model: the network.
            step: number of the step, from 1.
            refused: 1 where the step was not taken, float (): then the averages of parameters stay, and those
                of buffers are somebody else's to put back. None: it was taken.
        """
        if self._pairs is None or self._pairs[0] is not model:
            self._pairs = model, *_paired(self.model, model)
        _, ours, theirs, counts = self._pairs
        share = 1 - self.decay_at(step)
        if refused is None:
            torch._foreach_lerp_(ours, theirs, share)
        else:
            changes = torch._foreach_sub(theirs, ours)
            torch._foreach_mul_(changes, share * (1 - refused))
            torch._foreach_add_(ours, changes)
        for own, other in counts:
            own.copy_(other)


def _paired(
    average: nn.Module, model: nn.Module
) -> tuple[list[Tensor], list[Tensor], list[tuple[Tensor, Tensor]]]:
    """Return the floating tensors of both, and pairs of the integer ones. They are collected once, which
    takes longer than averaging a small network, and stay the same tensors whatever is loaded into them."""
    ours, theirs = average.state_dict(), model.state_dict()
    floating = [name for name, value in ours.items() if value.dtype.is_floating_point]
    counts = [(value, theirs[name]) for name, value in ours.items() if not value.dtype.is_floating_point]
    return [ours[name] for name in floating], [theirs[name] for name in floating], counts
