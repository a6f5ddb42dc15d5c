"""The sides of a comparison as plain values: an arm has a run for each seed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from densedet.core.repeats import alike
from densedet.core.report.charts.bars import Value
from densedet.core.report.records import RunRecord
from densedet.core.report.rungs import Ladder


@dataclass(frozen=True)
class SizeBin:
    """Objects of one range of sizes.

    Attributes:
        label: the range in words, with its unit.
        middle: a size in the range, for the axis of a chart.
        objects: that count.
        precision: AP of these objects, None where there are none.
        recall: share of them that is found, None where there are none.
    """

    label: str
    middle: float
    objects: int
    precision: float | None
    recall: float | None = None


@dataclass(frozen=True, eq=False)
class Analysis:
    """What one pass of a run over its validation set says beyond the metrics. Each field may be empty.

    Attributes:
        errors: {kind of error: the AP50 that its repair would gain}, TIDE's kinds.
        confusion: (N+1,N+1) counts over ``classes`` and background, rows are the truth; None: unknown.
        classes: names of the N classes.
        calibration: (mean score, share of true detections, detections) of each bin of scores that has any.
        calibration_error: expected calibration error, or None.
        f1: (score, F1 of all classes together) for each threshold.
        sizes: {what the sizes are: bins}.
        missed: {reason: number of objects that are missed for it}.
        objects: number of objects.
    """

    errors: dict[str, float] = field(default_factory=dict)
    confusion: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    calibration: tuple[tuple[float, float, int], ...] = ()
    calibration_error: float | None = None
    f1: tuple[tuple[float, float], ...] = ()
    sizes: dict[str, tuple[SizeBin, ...]] = field(default_factory=dict)
    missed: dict[str, int] = field(default_factory=dict)
    objects: int = 0


@dataclass(frozen=True)
class Measured:
    """A speed or another cost, measured several times in turns with those of the other arms.

    Attributes:
        values: of the rounds.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.values)

    @property
    def reliable(self) -> bool:
        """Whether there are several rounds, and they differ by at most a tenth of their median."""
        return alike(self.values)


@dataclass
class Arm:
    """One side of a comparison.

    Attributes:
        name: in tables.
        runs: one a seed.
        intervals: 95 % intervals by metric, such as "AP" or "classes.cat.AP".
        analyses: of the runs that were judged.
        measured: costs that were measured in turns, by their key in the table.
        shown: the record whose pictures are shown; None: the first run.
    """

    name: str
    runs: list[RunRecord]
    intervals: dict[str, Value] = field(default_factory=dict)
    analyses: list[Analysis] = field(default_factory=list)
    measured: dict[str, Measured] = field(default_factory=dict)
    shown: RunRecord | None = None

    @property
    def metric(self) -> str:
        """Name of the number that the runs go by."""
        return self.runs[0].metric

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger `metric` is better."""
        return self.runs[0].higher_is_better

    def values(self, key: str) -> list[float]:
        """Return a number of each run that has it."""
        return [value for run in self.runs if (value := run.value(key)) is not None]

    def value(self, key: str) -> float | None:
        """Return a cost that was measured in turns, else the mean of a number over the runs; None where it is
        unknown."""
        if key in self.measured:
            return self.measured[key].median
        values = self.values(key)
        return statistics.fmean(values) if values else None

    def ranged(self, key: str) -> Value:
        """Return a number with its interval, or where none is known from the least to the largest of the
        seeds."""
        if key in self.intervals:
            return self.intervals[key]
        values = self.values(key)
        if len(values) < 2:
            return Value(self.value(key))
        return Value(statistics.fmean(values), min(values), max(values))

    def class_names(self) -> list[str]:
        """Return the names of the classes that any run was evaluated on."""
        return class_names(self.runs)


@dataclass(frozen=True)
class Difference:
    """The difference of two arms' numbers.

    Attributes:
        what: the metric, the class or the size.
        first: name of the arm.
        second: name of the other.
        value: of the first minus that of the second, with its interval.
        p: probability of such a difference by chance, corrected for several comparisons; None: unknown.
    """

    what: str
    first: str
    second: str
    value: Value
    p: float | None = None


@dataclass
class Comparison:
    """What is compared on one data set.

    Attributes:
        arms: in the order of the columns.
        name: of the data set; "" where there is one.
        verdicts: sentences on which arm is better.
        differences: of pairs of arms.
        distinct: names of arms that are better than all others by more than chance.
        notes: sentences that the reader must know.
        pictured: which images the arms' pictures show, in words.
        ladder: the steps between the arms; None where the arms are no ladder.
    """

    arms: list[Arm]
    name: str = ""
    verdicts: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    distinct: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    pictured: str = "The same images"
    ladder: Ladder | None = None

    @property
    def runs(self) -> list[RunRecord]:
        """The runs of all arms, named by their arm and their seed."""
        return [run for arm in self.arms for run in named_runs(arm)]

    @property
    def columns(self) -> list[Arm]:
        """The arms that have a column in the table: of a ladder its rungs."""
        if self.ladder is None:
            return self.arms
        rungs = self.ladder.rungs
        return [arm for arm in self.arms if arm.name in rungs] or self.arms

    @property
    def pictured_arms(self) -> list[Arm]:
        """The arms whose pictures are shown: of a ladder the lowest and the highest."""
        columns = self.columns
        return columns if self.ladder is None or len(columns) < 3 else [columns[0], columns[-1]]

    def runs_of(self, *names: str) -> list[RunRecord]:
        """Return the runs of some arms, named as in `runs`."""
        return [run for arm in self.arms if arm.name in names for run in named_runs(arm)]


def named_runs(arm: Arm) -> list[RunRecord]:
    """Return the runs of an arm, named by it and, where there are several, by their seed."""
    if len(arm.runs) == 1:
        return [replace(arm.runs[0], name=arm.name)]
    seeds: list[Any] = [run.summary.get("seed", place) for place, run in enumerate(arm.runs)]
    return [replace(run, name=f"{arm.name} seed {seed}") for run, seed in zip(arm.runs, seeds)]


def class_names(runs: Sequence[RunRecord | Arm]) -> list[str]:
    """Return the names of all classes that any run was evaluated on, each once."""
    return list(dict.fromkeys(name for run in runs for name in run.class_names()))
