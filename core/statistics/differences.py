"""Differences of two arms: paired over images, with interval, p value, and a verdict in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

import numpy as np

from densedet.core.statistics.intervals import for_json, number, scope, why_unknown
from densedet.core.statistics.power import Need, need
from densedet.core.statistics.samples import CONFIDENCE, Kind, Sample, Spread
from densedet.core.statistics.student import t_quantile, two_sided_p

Verdict = Literal["first", "second", "not distinguishable", "unknown"]


@dataclass(frozen=True)
class Difference:
    """The difference of two arms' means, first minus second.

    Attributes:
        first: name of an arm.
        second: name of the other arm.
        metric: the number that is compared; "" where it goes without saying.
        value: the difference.
        low: lower end of its 95 % interval; None where that is unknown.
        high: upper end.
        p: probability of such a difference, or a larger one, between arms that do not differ; None: unknown.
        adjusted: ``p`` by Holm's correction for the comparisons of ``family``; ``p`` where there is one.
        family: number of comparisons that are told together.
        kind: what the interval is for.
        seeds: number of seeds of each arm.
        images: number of images.
        seeds_known: False where an arm has one seed: the interval does not hold what seeds add.
        higher_is_better: whether a larger number is better.
        need: seeds or images that would tell a difference that is asked for; None: unknown.
    """

    first: str
    second: str
    metric: str
    value: float
    low: float | None
    high: float | None
    p: float | None
    adjusted: float | None
    family: int
    kind: Kind
    seeds: tuple[int, ...]
    images: int
    seeds_known: bool
    higher_is_better: bool
    need: Need | None

    @property
    def verdict(self) -> Verdict:
        """Which arm is better, as far as it can be told: not from one seed."""
        if self.adjusted is None or not self.seeds_known:
            return "unknown"
        if self.adjusted >= 1 - CONFIDENCE:
            return "not distinguishable"
        return "first" if self.first_ahead else "second"

    @property
    def first_ahead(self) -> bool:
        """Whether the first arm's number is the better one, by chance or not."""
        return (self.value > 0) == self.higher_is_better and self.value != 0

    def words(self) -> str:
        """Write the verdict in a sentence without a full stop."""
        metric = f" in {self.metric}" if self.metric else ""
        if self.low is None or self.high is None:
            why = why_unknown(self.value, self.seeds_known)
            text = f"the difference of {self.first} and {self.second}{metric} is {number(self.value)}"
            return f"{text}; whether that is chance is unknown: {why}"
        where = scope(self.kind, self.seeds, self.seeds_known)
        if self.verdict in ("first", "second"):
            better = self.first if self.verdict == "first" else self.second
            lower = "" if self.higher_is_better else ", lower being better,"
            return f"{better} is better{metric} by {gain(self.value, self.low, self.high)}{lower} {where}"
        told = f"the difference is {number(self.value)} {ends(self.low, self.high)}"
        if self.verdict == "unknown":
            return f"whether {self.first} or {self.second} is better{metric} is unknown: {told} {where}"
        at, _, images = where.partition(", ")
        text = f"{self.first} and {self.second} are not distinguishable{metric} {at}: {told} {images}"
        if self.p is not None and self.p < 1 - CONFIDENCE:
            text += f", which chance brings about among {self.family} comparisons (Holm)"
        return text if self.need is None else f"{text}; {self.need.words()}"

    def to_dict(self) -> dict[str, Any]:
        """All attributes, the verdict and the words, as JSON can hold them."""
        names = [each.name for each in fields(self) if each.name not in ("need", "seeds")]
        values = {name: for_json(getattr(self, name)) for name in names}
        values["need"] = None if self.need is None else self.need.to_dict()
        values["seeds"] = list(self.seeds)
        return {**values, "confidence": CONFIDENCE, "verdict": self.verdict, "words": self.words()}


def ends(low: float, high: float) -> str:
    """Write an interval: "(.012 to .050)"."""
    return f"({number(low)} to {number(high)})"


def gain(value: float, low: float, high: float) -> str:
    """Write by how much the better one is ahead: the difference and its interval without the sign."""
    turned = (low, high) if value > 0 else (-high, -low)
    return f"{number(abs(value))} {ends(*turned)}"


def difference(
    first: Sample,
    second: Sample,
    *,
    metric: str = "",
    kind: Kind = "new images",
    higher_is_better: bool = True,
    asked: float = 0.02,
) -> Difference:
    """Compare two arms on the same images, their seeds drawn independently.

    Args:
        first: a number of an arm.
        second: the same number of the other arm, on the same images and resamples.
        metric: the number's name, for the words.
        kind: what the interval is for; where images cannot be told it is for these images all the same.
        higher_is_better: whether a larger number is better.
        asked: the difference that `need` asks seeds or images for.

    Raises:
        ValueError: the two have other images or resamples.
    """
    spread = Spread.of(first, second)
    return Difference(first.name, second.name, metric, **_told(spread, kind, higher_is_better, asked))


def _told(spread: Spread, kind: Kind, higher_is_better: bool, asked: float) -> dict[str, Any]:
    """The fields of a `Difference` that follow from its variance."""
    kind = "these images" if spread.kind == "these images" else kind
    half, total = spread.half_width(kind), spread.total(kind)
    p = None if half is None or total is None else _p_value(spread.value, *total)
    return {
        "value": spread.value,
        "low": None if half is None else spread.value - half,
        "high": None if half is None else spread.value + half,
        "p": p,
        "adjusted": p,
        "family": 1,
        "kind": kind,
        "seeds": spread.counts,
        "images": spread.image_count,
        "seeds_known": bool(spread.seeds),
        "higher_is_better": higher_is_better,
        "need": need(spread, kind, asked),
    }


@dataclass(frozen=True)
class Interaction(Difference):
    """How much more a change gains beside another one than without it; the same for both of the two.

    ``first`` and ``second`` name the changes. ``value`` is the gain of either on top of the other, minus its
    gain alone.
    """

    def words(self) -> str:
        """Write in a sentence without a full stop whether the two changes interact."""
        metric, both = f" in {self.metric}" if self.metric else "", f"{self.first} and {self.second}"
        if self.low is None or self.high is None:
            why = why_unknown(self.value, self.seeds_known)
            return f"whether {both} interact{metric} is unknown: {why}"
        where = scope(self.kind, self.seeds, self.seeds_known)
        if self.verdict in ("first", "second"):
            more = "more" if self.value > 0 else "less"
            by = gain(self.value, self.low, self.high)
            return f"{both} interact{metric}: each adds {by} {more} on top of the other than alone, {where}"
        value = f"{number(self.value)} {ends(self.low, self.high)}"
        told = f"each adds {value} more on top of the other than alone"
        if self.verdict == "unknown":
            return f"whether {both} interact{metric} is unknown: {told}, {where}"
        text = f"no interaction of {both} is distinguishable{metric}: {told}, {where}"
        return text if self.need is None else f"{text}; {self.need.words()}"


def interaction(
    neither: Sample,
    first: Sample,
    second: Sample,
    both: Sample,
    *,
    names: tuple[str, str],
    metric: str = "",
    kind: Kind = "new images",
    higher_is_better: bool = True,
    asked: float = 0.02,
) -> Interaction:
    """Compare the gain of a change on top of another one with its gain alone: a difference of differences.

    Args:
        neither: a number of the arm without both changes.
        first: of the arm with the first change alone.
        second: of the arm with the second change alone.
        both: of the arm with both.
        names: of the two changes, for the words.
        metric: the number's name, for the words.
        kind: what the interval is for; where images cannot be told it is for these images all the same.
        higher_is_better: whether a larger number is better.
        asked: the interaction that `need` asks seeds or images for.

    Raises:
        ValueError: the arms have other images or resamples.
    """
    spread = Spread.of_sum([both, neither], [first, second])
    return Interaction(*names, metric, **_told(spread, kind, higher_is_better, asked))


def _p_value(value: float, variance: float, df: float) -> float:
    if variance <= 0:
        return 1.0 if value == 0 else 0.0
    return two_sided_p(value / math.sqrt(variance), df)


T = TypeVar("T", bound="Difference | OverSets")


def holm(differences: Sequence[T]) -> list[T]:
    """Correct p values for the number of comparisons that are told together (Holm 1979).

    Args:
        differences: of all classes, sizes or pairs, or of pairs over sets; those without a p value do not
            count.

    Returns:
        The same differences, in their order, with ``adjusted`` and ``family``.
    """
    known = sorted((each.p, place) for place, each in enumerate(differences) if each.p is not None)
    corrected = list(differences)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[place] = replace(differences[place], adjusted=largest, family=len(known))
    return corrected


def compare_pairs(pairs: Iterable[tuple[Sample, Sample]], **options: Any) -> list[Difference]:
    """Compare the two arms of each pair, with Holm's correction; ``options`` are those of `difference`."""
    return holm([difference(first, second, **options) for first, second in pairs])


@dataclass(frozen=True)
class OverSets:
    """The difference of two arms over several data sets.

    Attributes:
        sets: the difference on each set, by its name.
        value: mean of the sets' differences.
        low: lower end of its 95 % interval for new sets of the same kind; None for fewer than three sets.
        high: upper end.
        p: probability of such a mean, or a larger one, between arms that do not differ; None for fewer than
            three sets.
        adjusted: ``p`` by Holm's correction for the comparisons of ``family``; ``p`` where there is one.
        family: number of comparisons that are told together.
    """

    sets: dict[str, Difference]
    value: float
    low: float | None
    high: float | None
    p: float | None
    adjusted: float | None
    family: int = 1

    @property
    def pair(self) -> tuple[str, str]:
        """The names of the two arms."""
        one = next(iter(self.sets.values()))
        return one.first, one.second

    @property
    def metric(self) -> str:
        """The number that is compared."""
        return next(iter(self.sets.values())).metric

    @property
    def verdict(self) -> Verdict:
        """Which arm is better over all sets, as far as it can be told."""
        if self.adjusted is None:
            return "unknown"
        if self.adjusted >= 1 - CONFIDENCE:
            return "not distinguishable"
        better = next(iter(self.sets.values())).higher_is_better
        return "first" if (self.value > 0) == better else "second"

    def words(self) -> str:
        """Write the verdict over the sets in a sentence without a full stop."""
        one = next(iter(self.sets.values()))
        metric, count = f" in {one.metric}" if one.metric else "", len(self.sets)
        if self.low is None or self.high is None:
            parts = "; ".join(f"on {name} {each.words()}" for name, each in self.sets.items())
            few = "One set does" if count == 1 else "Two sets do" if count == 2 else "These sets do"
            return f"{few} not tell about other sets: {parts}"
        won = sum(each.first_ahead for each in self.sets.values())
        if self.verdict == "not distinguishable":
            text = f"{one.first} and {one.second} are not distinguishable{metric} over {count} sets: the mean"
            text += f" difference is {number(self.value)} {ends(self.low, self.high)}"
            if self.p is not None and self.p < 1 - CONFIDENCE:
                text += f", which chance brings about among {self.family} comparisons (Holm)"
            return f"{text}; {one.first} is ahead on {won} of them"
        better, ahead = (one.first, won) if self.verdict == "first" else (one.second, count - won)
        text = f"{better} is better{metric} by {gain(self.value, self.low, self.high)}"
        return f"{text} in the mean over {count} sets, and ahead on {ahead} of them"

    def to_dict(self) -> dict[str, Any]:
        """All attributes, the verdict and the words, as JSON can hold them."""
        names = ("low", "high", "p", "adjusted", "family", "pair", "metric")
        values = {"value": for_json(self.value), **{name: getattr(self, name) for name in names}}
        sets = {name: each.to_dict() for name, each in self.sets.items()}
        return {**values, "sets": sets, "verdict": self.verdict, "words": self.words()}


def over_sets(sets: Mapping[str, Difference]) -> OverSets:
    """Compare two arms over data sets, the sets being the random factor: t of the sets' differences.

    Args:
        sets: by name, the same two arms' difference on each set.

    Raises:
        ValueError: there is no set, or the differences are not of the same two arms in the same order.
    """
    if len({(each.first, each.second, each.metric) for each in sets.values()}) != 1:
        raise ValueError("the differences over sets are of the same two arms and number on each set")
    values = np.array([each.value for each in sets.values()])
    mean, count = float(values.mean()), len(values)
    if count < 3 or math.isnan(mean):
        return OverSets(dict(sets), mean, None, None, None, None)
    variance = float(values.var(ddof=1)) / count
    half = t_quantile(0.5 + CONFIDENCE / 2, count - 1) * math.sqrt(variance)
    p = _p_value(mean, variance, count - 1)
    return OverSets(dict(sets), mean, mean - half, mean + half, p, p)


def over_all_sets(sets: Mapping[str, Sequence[Difference]]) -> list[OverSets]:
    """Compare each pair of arms over the data sets on which it is compared, with Holm's correction.

    Args:
        sets: by name, the differences of pairs of arms on each set; none where they do not compare.
    """
    pairs = dict.fromkeys((each.first, each.second) for found in sets.values() for each in found)
    told = []
    for pair in pairs:
        own = {name: one for name, found in sets.items() for one in found if (one.first, one.second) == pair}
        told.append(over_sets(own))
    return holm(told)
