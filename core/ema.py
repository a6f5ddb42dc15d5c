"""Exponential moving average of the weights: what evaluation, best.pt and predict use."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

RAMP_STEPS = 200.0
"""The decay starts near 0 and reaches 95 % of its value after 3 * RAMP_STEPS steps, so that short runs are not averaged with their random start."""


class ExponentialMovingAverage:
    """Keeps ``model`` a slow copy of another. average = decay * average + (1 - decay) * weights, after each step.

    Averages floating parameters and buffers (batch-norm statistics too) and copies integer ones.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    def decay_at(self, step: int) -> float:
        """The decay after optimizer step ``step`` (counted from 1)."""
        return self.decay * (1 - math.exp(-step / RAMP_STEPS))

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after ``step``."""
        ours, theirs = self.model.state_dict(), model.state_dict()
        averaged = [name for name, value in ours.items() if value.dtype.is_floating_point]
        torch._foreach_lerp_([ours[n] for n in averaged], [theirs[n].detach() for n in averaged], 1 - self.decay_at(step))
        for name, value in ours.items():
            if not value.dtype.is_floating_point:
                value.copy_(theirs[name])
