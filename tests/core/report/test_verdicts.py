"""Intervals and verdicts of a comparison, from numbers made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from densedet.core.report.arms import Arm, Comparison
from densedet.core.report.comparison import table_rows
from densedet.core.report.page import write_report
from densedet.core.report.records import RunRecord
from densedet.core.report.sets import overview
from densedet.core.report.verdicts import add_statistics, worse_than
from densedet.core.statistics.differences import difference
from densedet.core.statistics.samples import Sample, bootstrap_weights

IMAGES = 50
WEIGHTS = bootstrap_weights(IMAGES, resamples=200)


def resampled(value: float, **others: float) -> dict[str, np.ndarray]:
    """Numbers that are the mean of something about each image, around ``value``."""
    shares = np.linspace(-0.05, 0.05, IMAGES)
    return {
        name: WEIGHTS @ (number + shares) / IMAGES
        for name, number in {"AP": value, "classes.v1.cat.AP": value, **others}.items()
    }


def make_arm(name: str, count: int, **recipe: Any) -> Arm:
    values = {"train": {"budget": {"steps": 4}}, **recipe}
    return Arm(name, [RunRecord(name, Path(name), values, summary={"status": "done", "AP": 0.1})] * count)


def test_a_clear_difference() -> None:
    comparison = Comparison([make_arm("a", 3), make_arm("b", 3)])
    runs = {
        "a": [resampled(value, APs=-1.0) for value in (0.50, 0.52, 0.54)],
        "b": [resampled(value, APs=-1.0) for value in (0.30, 0.32, 0.34)],
    }
    [pair] = add_statistics(comparison, runs, IMAGES)
    samples = [Sample.of(name, runs[name], "AP", IMAGES) for name in "ab"]
    same = difference(*samples, metric="AP")
    assert (pair.value, pair.low, pair.high) == (same.value, same.low, same.high)
    assert comparison.distinct == ("a",)
    assert comparison.verdicts[0].startswith("a is better in AP by .200 (")
    assert comparison.verdicts[0].endswith(".")
    assert [one.what for one in comparison.differences] == ["AP", "AP of v1.cat"], "no object is small"
    interval = comparison.arms[0].intervals["AP"]
    assert interval.value == pytest.approx(0.52)
    assert interval.low is not None and interval.high is not None
    assert interval.low < 0.5 < 0.54 < interval.high
    assert table_rows(comparison)[0]["best"] == [True, False]


def test_no_difference_and_no_rank() -> None:
    comparison = Comparison([make_arm("a", 2), make_arm("b", 2)])
    runs = {"a": [resampled(v) for v in (0.1, 0.9)], "b": [resampled(v) for v in (0.2, 0.7)]}
    add_statistics(comparison, runs, IMAGES)
    assert comparison.distinct == ()
    assert "not distinguishable" in comparison.verdicts[0]
    interval = comparison.arms[0].intervals["AP"]
    assert (interval.low, interval.high) == (0.0, 1.0), "an AP is no less and no more"


def test_arms_that_do_not_compare_get_intervals_alone() -> None:
    comparison = Comparison([make_arm("a", 2), make_arm("b", 2, train={"budget": {"steps": 8}})])
    runs = {"a": [resampled(0.5), resampled(0.51)], "b": [resampled(0.3), resampled(0.31)]}
    assert add_statistics(comparison, runs, IMAGES) == []
    assert (comparison.verdicts, comparison.differences, comparison.distinct) == ([], [], ())
    assert all("AP" in arm.intervals for arm in comparison.arms)


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("baseline", ["a", "b"])
def test_which_arm_is_worse_by_the_bound(higher: bool, baseline: str) -> None:
    evaluate = {"metric": "AP", "higher_is_better": higher}
    comparison = Comparison([make_arm(name, 3, evaluate=evaluate) for name in "ab"])
    runs = {"a": [resampled(v) for v in (0.50, 0.52, 0.54)], "b": [resampled(v) for v in (0.30, 0.32, 0.34)]}
    pairs = add_statistics(comparison, runs, IMAGES)
    low = pairs[0].low
    assert low is not None and 0 < low < 0.2
    worse = "b" if higher else "a"
    # The difference of .2 is at least ``low``, whichever of the two is worse.
    expected = {} if worse == baseline else {worse: pytest.approx(low)}
    assert worse_than(pairs, baseline, low - 1e-6) == expected
    assert worse_than(pairs, baseline, low + 1e-6) == {}


def test_a_difference_without_an_interval_is_unknown() -> None:
    pairs = [difference(*(Sample(name, np.array([0.5]), None, IMAGES) for name in "ab"))]
    assert worse_than(pairs, "a", 0.1) == {"b": None}


def over(sets: dict[str, tuple[float, float]]) -> tuple[list[Comparison], list[Any]]:
    """Comparisons of the arms a and b with these APs, and the differences of each."""
    comparisons, pairs = [], []
    for name, values in sets.items():
        arms = [make_arm("a", 3), make_arm("b", 3)]
        runs = {arm.name: [resampled(v + d) for d in (-0.01, 0, 0.01)] for arm, v in zip(arms, values)}
        comparisons.append(Comparison(arms, name))
        pairs.append(add_statistics(comparisons[-1], runs, IMAGES))
    return comparisons, pairs


def test_several_data_sets_get_a_table_and_a_verdict_over_them(tmp_path: Path) -> None:
    # Differences .2, .21, .19: mean .2, standard error .01 / sqrt(3), t with 2 degrees 4.3027: +- .0248
    comparisons, pairs = over({"x": (0.5, 0.3), "y": (0.4, 0.19), "z": (0.3, 0.11)})
    told = overview(comparisons, pairs, ["x and y overlap."])
    assert told is not None
    verdict = "a is better in AP by .200 (.175 to .225) in the mean over 3 sets, and ahead on 3 of them."
    assert told.words == [verdict]
    assert told.table.head == ["", "AP on x", "AP on y", "AP on z", "mean"]
    assert [row[0] for row in told.table.rows] == ["a", "b"]
    assert told.table.rows[0][1].startswith("0.500 (0.4")
    assert [row[-1] for row in told.table.rows] == ["0.400", "0.200"]
    page = write_report(comparisons, tmp_path / "c.html", sets=told)
    html = page.read_text()
    assert html.index(verdict) < html.index("x and y overlap.") < html.index('<h2 class="set">x')
    assert "mean over the sets" in html
    markdown = page.with_suffix(".md").read_text()
    assert markdown.index(verdict) < markdown.index("| a | 0.500 (") < markdown.index("#### x")
    table = page.with_suffix(".csv").read_text().splitlines()
    assert table[-1].startswith("mean over the sets,difference in AP,a minus b,,0.2")
    numbers = json.loads(page.with_suffix(".json").read_text())["sets"]
    assert numbers["verdicts"][0]["verdict"] == "first"
    assert numbers["verdicts"][0]["words"] == verdict[:-1]


def test_a_set_on_which_nothing_compares_does_not_count() -> None:
    comparisons, pairs = over({"x": (0.5, 0.3), "y": (0.4, 0.2), "z": (0.3, 0.1)})
    told = overview(comparisons, [*pairs[:2], []])
    assert told is not None
    assert told.notes == ["On z nothing is told of the arms' differences, see there."]
    assert told.words[0].startswith("Two sets do not tell about other sets: on x a is better")
    assert overview(comparisons[:1], pairs[:1]) is None
