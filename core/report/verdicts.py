"""Intervals, differences and verdicts of a comparison, by the room of statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from densedet.core.report.arms import Comparison, Difference
from densedet.core.report.charts.bars import Value
from densedet.core.report.comparison import obstacles
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
            told = estimate(sample)
            if told.low is not None and told.high is not None:
                arm.intervals[name] = _possible(name, Value(told.value, told.low, told.high))
    if len(arms) < 2 or obstacles(comparison.runs):
        return []
    metric, higher = arms[0].metric, arms[0].higher_is_better
    if len(samples.get(metric, ())) < 2:
        return []
    pairs = compared.all_pairs(samples[metric], metric=metric, higher_is_better=higher)
    comparison.verdicts = [_sentence(pair.words()) for pair in pairs]
    comparison.distinct = _winners(pairs)
    comparison.differences = [_row(metric, pair) for pair in pairs]
    for name in LINES:
        if name != metric and len(samples.get(name, ())) > 1:
            comparison.differences += [_row(name, pair) for pair in compared.all_pairs(samples[name])]
    classes = [n for n in names if n.startswith("classes.") and n.endswith(".AP") and n != metric]
    labels = {**SIZES, **{n: f"AP of {n[len('classes.') : -len('.AP')]}" for n in classes}}
    for family in (tuple(SIZES), tuple(classes)):
        found = [
            (labels[name], compared.difference(one, other))
            for name in family
            if len(samples.get(name, ())) > 1
            for one, other in _pairs(samples[name])
        ]
        corrected = compared.holm([pair for _, pair in found])
        comparison.differences += [
            _row(label, pair) for (label, _), pair in zip(found, corrected) if pair.low is not None
        ]
    return pairs


def _possible(name: str, value: Value) -> Value:
    """Cut an interval of an average precision or recall to the numbers that there can be, 0 to 1."""
    if value.low is None or value.high is None or not name.rpartition(".")[2].startswith(("AP", "AR")):
        return value
    return Value(value.value, max(0.0, value.low), min(1.0, value.high))


def _pairs(samples: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    return [(one, other) for place, one in enumerate(samples) for other in samples[place + 1 :]]


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
