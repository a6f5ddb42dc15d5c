"""Learning rate as a factor of progress; without state, so that resuming cannot change it."""

from __future__ import annotations

import math

from densedet.core.arguments import Factor, NonNegativeInt, Probability


def warm_up(step: int, steps: int, start: float) -> float:
    """Rise linearly from ``start`` at step 0 to 1 at ``steps``."""
    return 1.0 if step >= steps else start + (1 - start) * step / steps


class CosineSchedule:
    """Half a cosine from 1 down to a final factor (Loshchilov & Hutter 2017, without restarts).

    Args:
        warmup_steps: optimizer steps of the linear warm-up.
        warmup_start: factor at step 0, 0..1.
        final: factor at the end, 0..1.
    """

    def __init__(
        self,
        *,
        warmup_steps: NonNegativeInt = 100,
        warmup_start: Probability = 0.01,
        final: Probability = 0.01,
    ) -> None:
        self.warmup_steps, self.warmup_start, self.final = warmup_steps, warmup_start, final

    def __call__(self, progress: float, step: int) -> float:
        """Return the factor on the learning rate.

        Args:
            progress: share of the budget that is used, 0..1.
            step: optimizer steps taken.
        """
        cosine = (1 + math.cos(math.pi * min(progress, 1.0))) / 2
        return warm_up(step, self.warmup_steps, self.warmup_start) * (self.final + (1 - self.final) * cosine)


class StepSchedule:
    """A factor that drops at milestones, as in the papers.

    Args:
        milestones: shares of the budget after which the factor drops, above 0, at most 1.
        gamma: factor at each milestone.
        warmup_steps: optimizer steps of the linear warm-up.
        warmup_start: factor at step 0, 0..1.
    """

    def __init__(
        self,
        *,
        milestones: tuple[Factor, ...] = (0.667, 0.889),
        gamma: Factor = 0.1,
        warmup_steps: NonNegativeInt = 100,
        warmup_start: Probability = 0.001,
    ) -> None:
        self.milestones, self.gamma = milestones, gamma
        self.warmup_steps, self.warmup_start = warmup_steps, warmup_start

    def __call__(self, progress: float, step: int) -> float:
        """Return the factor on the learning rate.

        Args:
            progress: share of the budget that is used, 0..1.
            step: optimizer steps taken.
        """
        passed = sum(progress >= milestone for milestone in self.milestones)
        return warm_up(step, self.warmup_steps, self.warmup_start) * self.gamma**passed


class ConstantSchedule:
    """A constant factor of 1 after the warm-up.

    Args:
        warmup_steps: optimizer steps of the linear warm-up.
        warmup_start: factor at step 0, 0..1.
    """

    def __init__(self, *, warmup_steps: NonNegativeInt = 0, warmup_start: Probability = 0.01) -> None:
        self.warmup_steps, self.warmup_start = warmup_steps, warmup_start

    def __call__(self, progress: float, step: int) -> float:
        """Return the factor on the learning rate.

        Args:
            progress: share of the budget that is used, 0..1.
            step: optimizer steps taken.
        """
        return warm_up(step, self.warmup_steps, self.warmup_start)
