"""Intervals, differences and verdicts of a comparison, by the room of statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from densedet.core.report.arms import Comparison, Difference
from densedet.core.report.charts.bars import Value
from densedet.core.report.comparison import obstacles
from densedet.core.report.ladder import ladder_words
from densedet.core.report.rungs import Ladder
from densedet.core.statistics import differences as compared
from densedet.core.statistics.intervals import estimate
from densedet.core.statistics.samples import Sample

Resampled = Mapping[str, np.ndarray]
"""What an evaluator's ``resampled`` gives: numbers of each resample by name."""

LINES = ("AP", "AP50", "AR100")
"""Numbers whose differences are told beside the metric's."""
SIZES = {"APs": "AP of small objects", "APm": "AP of medium objects", "APl": "AP of large objects"}


def add_statistics(
    comparison: Comparison, runs: Mapping[str, Sequence[Resampled]], images: int
) -> list[compared.Difference]:
    """Add intervals to the arms of a comparison, and differences and verdicts to the comparison.

    Args:
        comparison: its arms are changed. Where they do not compare, each gets intervals alone.
        runs: of each arm's runs, by its name, the numbers on the same resamples of the same images; an arm
            that is not there gets nothing.
        images: number of images.

    Returns:
        The difference of the metric for each pair of arms, as the room of statistics has it; none where the
        arms do not compare.
    """
    arms = [arm for arm in comparison.arms if runs.get(arm.name)]
    names = list(dict.fromkeys(k for arm in arms for r in runs[arm.name] for k in r))
    samples: dict[str, list[Sample]] = {}
    for name in names:
        known = [arm for arm in arms if all(name in run for run in runs[arm.name])]
        samples[name] = [Sample.of(arm.name, runs[arm.name], name, images) for arm in known]
        for arm, sample in zip(known, samples[name]):
            one = estimate(sample)
            if one.low is not None and one.high is not None:
                arm.intervals[name] = _possible(name, Value(one.value, one.low, one.high))
    chosen = _chosen(comparison, [arm.name for arm in arms])
    metric, higher = arms[0].metric, arms[0].higher_is_better
    found = _pairs(samples.get(metric, ()), chosen)
    if not found:
        return []
    options: dict[str, Any] = {"metric": metric, "higher_is_better": higher}
    pairs = compared.compare_pairs(found, **options)
    if comparison.ladder is None:
        comparison.verdicts = [_sentence(pair.words()) for pair in pairs]
        comparison.distinct = _winners(pairs)
    else:
        add_gains(comparison, comparison.ladder, pairs, samples[metric])
    comparison.differences = [_row(metric, pair) for pair in pairs]
    for name in LINES:
        if name != metric:
            lines = compared.compare_pairs(_pairs(samples.get(name, ()), chosen))
            comparison.differences += [_row(name, pair) for pair in lines]
    classes = [n for n in names if n.startswith("classes.") and n.endswith(".AP") and n != metric]
    labels = {**SIZES, **{n: f"AP of {n[len('classes.') : -len('.AP')]}" for n in classes}}
    for family in (tuple(SIZES), tuple(classes)):
        told = [
            (labels[name], compared.difference(*pair))
            for name in family
            for pair in _pairs(samples.get(name, ()), chosen)
        ]
        corrected = compared.holm([pair for _, pair in told])
        comparison.differences += [
            _row(label, pair) for (label, _), pair in zip(told, corrected) if pair.low is not None
        ]
    return pairs


def _possible(name: str, value: Value) -> Value:
    """Cut an interval of an average precision or recall to the numbers that there can be, 0 to 1."""
    if value.low is None or value.high is None or not name.rpartition(".")[2].startswith(("AP", "AR")):
        return value
    return Value(value.value, max(0.0, value.low), min(1.0, value.high))


def _chosen(comparison: Comparison, names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of arms that are told: all of them; of a ladder the whole and its steps, where they compare."""
    if comparison.ladder is None:
        return [] if obstacles(comparison.runs) else list(combinations(names, 2))
    return [pair for pair in comparison.ladder.pairs if not obstacles(comparison.runs_of(*pair))]


def _pairs(samples: Sequence[Sample], chosen: Sequence[tuple[str, str]]) -> list[tuple[Sample, Sample]]:
    known = {sample.name: sample for sample in samples}
    return [(known[one], known[other]) for one, other in chosen if one in known and other in known]


def add_gains(
    comparison: Comparison,
    ladder: Ladder,
    pairs: Sequence[compared.Difference],
    samples: Sequence[Sample],
) -> None:
    """Add gains, interactions and verdicts to a ladder.

    Args:
        comparison: of the ladder.
        ladder: it is changed.
        pairs: the differences of its whole and of its steps.
        samples: the metric of each arm.
    """
    known = {sample.name: sample for sample in samples}
    ladder.gains = {(pair.first, pair.second): pair for pair in pairs}
    arm = comparison.arms[0]
    options: dict[str, Any] = {"metric": arm.metric, "higher_is_better": arm.higher_is_better}
    found = {}
    for swap in ladder.trained_swaps:
        names = (swap.lower.below, swap.lower.above, swap.arm, swap.upper.above)
        if not known.keys() >= set(names) or obstacles(comparison.runs_of(*names)):
            continue
        neither, lower, upper, both = (known[name] for name in names)
        ladder.gains[upper.name, neither.name] = compared.difference(upper, neither, **options)
        ladder.gains[both.name, upper.name] = compared.difference(both, upper, **options)
        titles = (swap.lower.title, swap.upper.title)
        found[swap.arm] = compared.interaction(neither, lower, upper, both, names=titles, **options)
    ladder.interactions = dict(zip(found, compared.holm(list(found.values()))))
    comparison.verdicts = [_sentence(text) for text in ladder_words(ladder)]


def _row(what: str, told: compared.Difference) -> Difference:
    return Difference(what, told.first, told.second, Value(told.value, told.low, told.high), told.adjusted)


def _winners(pairs: Sequence[compared.Difference]) -> tuple[str, ...]:
    """The arms that are better than each other one by more than chance: one at most."""
    names = dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second))
    wins = [
        pair.first if pair.verdict == "first" else pair.second
        for pair in pairs
        if pair.verdict in ("first", "second")
    ]
    return tuple(name for name in names if wins.count(name) == len(names) - 1)


def _sentence(text: str) -> str:
    return f"{text[:1]}{text[1:]}."


def worse_than(pairs: Sequence[compared.Difference], baseline: str, most: float) -> dict[str, float | None]:
    """Find the arms that are worse than a baseline by more than a number, by the interval's bound.

    Args:
        pairs: from `add_statistics`.
        baseline: name of an arm.
        most: by how much an arm may be worse.

    Returns:
        {arm: by how much it is worse at least}: the end of the 95 % interval of the difference that is best
        for the arm, of the arms for which even that end is worse by more than ``most``; None for arms of
        whose difference no interval is known.
    """
    found: dict[str, float | None] = {}
    for pair in pairs:
        if baseline not in (pair.first, pair.second):
            continue
        name = pair.second if pair.first == baseline else pair.first
        if pair.low is None or pair.high is None:
            found[name] = None
            continue
        # By how much the baseline's number is larger; turned where less is better.
        low, high = (pair.low, pair.high) if pair.first == baseline else (-pair.high, -pair.low)
        least = low if pair.higher_is_better else -high
        if least > most:
            found[name] = least
    return found
