"""Learning rate as a factor of progress. Stateless: (progress of the budget, optimizer step) -> factor, so
resuming cannot err."""

from __future__ import annotations

import math

from densedet.core.arguments import Factor, NonNegativeInt, Probability


def warm_up(step: int, steps: int, start: float) -> float:
    """Linear from ``start`` at step 0 to 1 at ``steps``."""
    return 1.0 if step >= steps else start + (1 - start) * step / steps


class CosineSchedule:
    """Linear warm-up over ``warmup_steps``, then half a cosine from 1 to ``final`` (Loshchilov & Hutter 2017,
    without restarts)."""

    def __init__(
        self,
        *,
        warmup_steps: NonNegativeInt = 100,
        warmup_start: Probability = 0.01,
        final: Probability = 0.01,
    ) -> None:
        self.warmup_steps, self.warmup_start, self.final = warmup_steps, warmup_start, final

    def __call__(self, progress: float, step: int) -> float:
        cosine = (1 + math.cos(math.pi * min(progress, 1.0))) / 2
        return warm_up(step, self.warmup_steps, self.warmup_start) * (self.final + (1 - self.final) * cosine)


class StepSchedule:
    """Linear warm-up, then multiplied by ``gamma`` at each of ``milestones`` (fractions of the budget, e.g.
    2/3 and 8/9)."""

    def __init__(
        self,
        *,
        milestones: tuple[Factor, ...] = (0.667, 0.889),
        gamma: Factor = 0.1,
        warmup_steps: NonNegativeInt = 100,
        warmup_start: Probability = 0.001,
    ) -> None:
        self.milestones, self.gamma, self.warmup_steps, self.warmup_start = (
            milestones,
            gamma,
            warmup_steps,
            warmup_start,
        )

    def __call__(self, progress: float, step: int) -> float:
        passed = sum(progress >= milestone for milestone in self.milestones)
        return warm_up(step, self.warmup_steps, self.warmup_start) * self.gamma**passed


class ConstantSchedule:
    """Linear warm-up, then 1."""

    def __init__(self, *, warmup_steps: NonNegativeInt = 0, warmup_start: Probability = 0.01) -> None:
        self.warmup_steps, self.warmup_start = warmup_steps, warmup_start

    def __call__(self, progress: float, step: int) -> float:
        return warm_up(step, self.warmup_steps, self.warmup_start)
