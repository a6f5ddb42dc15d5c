"""A learning-rate range test (Smith 2017, "Cyclical Learning Rates", section 3.3): the loss while the rate
rises."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from densedet.core.recipe.loading import Recipe
from densedet.core.report.charts.chart import Chart
from densedet.core.report.charts.lines import Series, line_chart
from densedet.core.training import engine
from densedet.core.training.run import Run
from densedet.core.training.session import process_settings
from densedet.core.training.step_numbers import NotFiniteError

STEPS = 100
LOW, HIGH = 1e-4, 1e3
"""Where the rate starts and ends, as factors on the recipe's."""
WIDTH = 3.0
"""Steps of the standard deviation of the bell by which losses are smoothed, forward and back alike."""
RECENT = 5
"""Steps whose mean tells during the test whether the loss diverges."""
DIVERGED = 4.0
"""A mean so many times the least one ends the test."""
FALLEN = 0.1
"""Share of its whole way down that the loss must have fallen before its slope counts: what it does at the
start, where the rate does nothing yet, is noise."""


@dataclass(frozen=True)
class RateTest:
    """The loss while the learning rate rises.

    Attributes:
        rates: of each step.
        losses: of each step.
        smooth: the losses, smoothed.
        diverged: the rate at which the loss left for good; None: it never did.
        steepest: the rate at which the smoothed loss falls fastest; None: it never falls.
        now: the recipe's rate.
    """

    rates: list[float]
    losses: list[float]
    smooth: list[float]
    diverged: float | None
    steepest: float | None
    now: float

    @property
    def proposed(self) -> float | None:
        """The rate at the steepest descent, but at most a tenth of that at which the loss diverges."""
        if self.steepest is None:
            return None
        limit = self.steepest if self.diverged is None else min(self.steepest, self.diverged / 10)
        return float(f"{limit:.2g}")

    def lines(self) -> list[str]:
        """Return what to tell."""
        span = f"{self.rates[0]:.2g} to {self.rates[-1]:.2g}"
        told = [f"{len(self.rates)} steps at learning rates from {span}; the recipe has {self.now:g}"]
        least = min(range(len(self.smooth)), key=self.smooth.__getitem__)
        ends = "it never diverged" if self.diverged is None else f"it diverges at {self.diverged:.2g}"
        told.append(f"the loss is least, {self.smooth[least]:.3g}, at {self.rates[least]:.2g}; {ends}")
        if self.proposed is None or self.steepest is None:
            return [*told, "the loss falls at no rate: look at densedet check recipe R --overfit first"]
        return [
            *told,
            f"it falls fastest at {self.steepest:.2g}; proposed: train.optimizer.lr={self.proposed:g}",
        ]

    def chart(self) -> Chart:
        """Draw the loss over the rate."""
        low, top = min(self.smooth), 2 * self.smooth[0]
        shown = [
            Series("smoothed", list(zip(self.rates, self.smooth)), 0),
            Series("each step", [pair for pair in zip(self.rates, self.losses) if pair[1] < top], 1),
        ]
        if self.proposed is not None:
            line = [(self.proposed, low), (self.proposed * 1.0001, self.smooth[0])]
            shown.append(Series(f"proposed: {self.proposed:g}", line, 2))
        found = line_chart(
            shown, title="Learning-rate range test", x_label="learning rate", y_label="loss", x_log=True
        )
        assert found is not None
        return found


def rate_test(
    recipe: Recipe,
    *,
    steps: int = STEPS,
    low: float | None = None,
    high: float | None = None,
    on_step: Callable[[int], None] | None = None,
) -> RateTest:
    """Train with a learning rate that rises by the same factor at each step, until the loss diverges.

    Neither a run folder nor anything else is left.

    Args:
        recipe: its optimizer, batches, augmentation and precision are those of the test.
        steps: at most.
        low: the first rate; None: the recipe's times `LOW`.
        high: the last one; None: the recipe's times `HIGH`.
        on_step: called after each.
    """
    own = recipe.with_overrides(
        [
            f"train.budget={{steps: {10 * steps}, epochs: null, minutes: null}}",
            "train.ema_decay=null",
            "train.compile=off",
        ]
    )
    run = Run(own)
    now = float(run.optimizer.param_groups[0]["lr"])
    first, last = (now * LOW if low is None else low), (now * HIGH if high is None else high)
    factor = (last / first) ** (1 / max(steps - 1, 1))
    rates: list[float] = []
    losses: list[float] = []
    diverged, least = None, math.inf
    schedule: Any = lambda progress, step: first * factor ** len(rates) / now  # noqa: E731
    run.schedule = schedule
    with process_settings(run):
        run.detector.train()
        for batch, _ in run.batches():
            rate = first * factor ** len(rates)
            try:
                loss = float(engine.optimizer_step(run, (batch,))["loss"])
            except NotFiniteError:
                diverged = rate
                break
            rates.append(rate)
            losses.append(loss)
            if on_step is not None:
                on_step(len(rates))
            recent = statistics.fmean(losses[-RECENT:])
            least = min(least, recent)
            if recent > DIVERGED * least:
                diverged = rate
                break
            if len(rates) == steps:
                break
    smooth = smoothed(losses)
    return RateTest(rates, losses, smooth, diverged, _steepest(rates, smooth), now)


def smoothed(losses: Sequence[float]) -> list[float]:
    """Return the mean around each loss, weighted by a bell of `WIDTH` steps."""
    values = np.array(losses)
    steps = np.arange(len(values))
    weights = np.exp(-0.5 * ((steps[:, None] - steps) / WIDTH) ** 2)
    found: list[float] = (weights @ values / weights.sum(1)).tolist() if len(values) else []
    return found


def _steepest(rates: Sequence[float], smooth: Sequence[float]) -> float | None:
    """Return the rate at which the smoothed loss falls fastest by the logarithm of the rate, up to its least;
    None where it does not fall by a tenth."""
    if not smooth:
        return None
    least = min(range(len(smooth)), key=smooth.__getitem__)
    start = statistics.median(smooth[: max(1, len(smooth) // 5)])
    if smooth[least] > (1 - FALLEN) * start:
        return None
    begun = start - FALLEN * (start - smooth[least])
    slopes = [(smooth[at + 1] - smooth[at - 1], at) for at in range(1, least) if smooth[at] < begun]
    return rates[min(slopes)[1]] if slopes else rates[least]
