"""Factors on the learning rate, by hand."""

from __future__ import annotations

import math

import pytest

from densedet.plugins.optim.schedules import ConstantSchedule, CosineSchedule, StepSchedule, warm_up


def test_warm_up_is_linear() -> None:
    # from 0.1 at step 0 to 1 at step 10: at step 4 it is 0.1 + 0.9 * 0.4
    assert [warm_up(step, 10, 0.1) for step in (0, 4, 10, 99)] == pytest.approx([0.1, 0.46, 1.0, 1.0])
    assert warm_up(0, 0, 0.1) == 1.0, "no warm-up at all"


def test_cosine() -> None:
    schedule = CosineSchedule(warmup_steps=0, final=0.2)
    # 0.2 + 0.8 * (1 + cos(pi/2)) / 2 = 0.6 in the middle
    assert [schedule(progress, 1) for progress in (0.0, 0.5, 1.0, 1.3)] == pytest.approx([1.0, 0.6, 0.2, 0.2])
    warm = CosineSchedule(warmup_steps=100, warmup_start=0.0, final=0.0)
    assert warm(0.25, 50) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)) / 2)


def test_steps() -> None:
    schedule = StepSchedule(milestones=(0.5, 0.75), gamma=0.1, warmup_steps=0)
    assert [schedule(progress, 1) for progress in (0.49, 0.5, 0.8)] == pytest.approx([1.0, 0.1, 0.01])


def test_constant() -> None:
    assert ConstantSchedule()(0.7, 3) == 1.0
    assert ConstantSchedule(warmup_steps=4, warmup_start=0.0)(0.0, 1) == 0.25
