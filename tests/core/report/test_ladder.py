"""What a ladder's runs tell, from numbers made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from densedet.core.report.arms import Arm, Comparison
from densedet.core.report.comparison import compare, summary_words
from densedet.core.report.ladder import comparison_text, ladder_section, ladder_tables
from densedet.core.report.page import write_report
from densedet.core.report.records import RunRecord
from densedet.core.report.rungs import Ladder, Step, Swap
from densedet.core.report.summary_files import csv_text, markdown_text
from densedet.core.report.verdicts import add_statistics
from densedet.core.statistics.samples import bootstrap_weights

IMAGES = 50
WEIGHTS = bootstrap_weights(IMAGES, resamples=200)
LOWER = Step("neck", "ssd", "1 +neck", {"model.neck": "ssd_extras → fpn"})
UPPER = Step("head", "1 +neck", "retinanet", {"model.head": "ssd → retinanet"}, ("head cannot come first",))
VALUES = {"ssd": 0.30, "1 +neck": 0.40, "retinanet": 0.60, "1' +head": 0.35}


def make_arm(name: str, **recipe: Any) -> Arm:
    values = {"train": {"budget": {"steps": 4}}, "model": {"head": {"name": name}}, **recipe}
    summary = {"status": "done", "AP": VALUES[name], "minutes": 2.0, "parameters": 1_500_000}
    return Arm(name, [RunRecord(name, Path(name), values, summary={**summary, "seed": s}) for s in range(3)])


def resampled(value: float) -> dict[str, np.ndarray]:
    """An AP of which each image has a share around ``value``, the same share in all arms."""
    return {"AP": WEIGHTS @ (value + np.linspace(-0.05, 0.05, IMAGES)) / IMAGES}


def told(**changed: dict[str, Any]) -> Comparison:
    """A ladder of two steps in both orders; the seeds of each arm are .001 apart."""
    arms = [make_arm(name, **changed.get(name, {})) for name in VALUES]
    comparison = Comparison(arms, ladder=Ladder([LOWER, UPPER], [Swap(LOWER, UPPER, "1' +head")]))
    runs = {name: [resampled(value + gap) for gap in (-0.001, 0, 0.001)] for name, value in VALUES.items()}
    add_statistics(comparison, runs, IMAGES)
    return comparison


def test_gains_of_steps_in_both_orders_and_their_interaction() -> None:
    comparison = told()
    ladder = comparison.ladder
    assert ladder is not None
    # neck: .40 - .30 first, .60 - .35 after the head; head: .60 - .40 on top of the neck, .35 - .30 first.
    gains = [{order: one.value for order, one in ladder.gains_of(step)} for step in ladder.steps]
    assert gains == [
        {"": pytest.approx(0.10), "after head": pytest.approx(0.25)},
        {"": pytest.approx(0.20), "before neck": pytest.approx(0.05)},
    ]
    [interaction] = ladder.interactions.values()
    assert interaction.value == pytest.approx(0.60 - 0.40 - 0.35 + 0.30)
    whole = ladder.gains["retinanet", "ssd"]
    # The variance of a mean is 1e-6 / 3, of a difference twice that, and seeds that lie close together count
    # 1 + 8 / 4^2 times for the degrees of freedom: about 2.78 * .00082 to either side.
    assert whole.value == pytest.approx(0.30)
    assert whole.family == 3, "the whole and its two steps"
    assert whole.high == pytest.approx(0.3023, abs=2e-4)


def test_a_ladder_in_words() -> None:
    words = told().verdicts
    assert words[0].startswith("retinanet is better in AP by .300 (.298 to .302) at 3 seeds")
    assert words[1].startswith("Step by step, neck gains .100 (.098 to .102) and head gains .200 (")
    assert words[2].startswith("neck and head interact in AP: each adds .150 (")
    assert len(words) == 3
    assert summary_words(told())[:3] == words


def test_the_tables_of_a_ladder() -> None:
    comparison = told()
    assert comparison.ladder is not None
    rungs, both = ladder_tables(comparison, comparison.ladder)
    assert [row[0] for row in rungs.rows] == ["ssd", "1 +neck", "retinanet"]
    assert rungs.rows[0][1] == rungs.rows[0][3] == ""
    row = rungs.rows[1]
    assert (row[1], row[4:]) == ("neck: ssd_extras → fpn", ("better", "2.0", "1.5 M"))
    assert row[3] == "+0.100 (+0.098 to +0.102)"
    [(names, here, there, interaction, verdict)] = both.rows
    assert (names, verdict) == ("neck and head", "they help each other")
    assert here.startswith("neck +0.100 (+0.098 to +0.102), then head +0.200 (")
    assert there.startswith("head +0.050 (+0.048 to +0.052), then neck +0.250 (")
    assert interaction.startswith("+0.150 (")
    section = ladder_section(comparison, comparison.ladder)
    assert "head cannot come first." in section.notes
    assert [chart.title for chart in section.charts] == ["AP of each rung", "gain of each step"]
    assert section.charts[1].rows[0][0] == "neck"
    text = comparison_text(comparison)
    assert "Neighbouring steps in both orders" in text
    assert "retinanet is better in AP" in text


def test_rungs_that_do_not_compare_get_no_gain() -> None:
    comparison = told(**{"1 +neck": {"train": {"budget": {"steps": 8}}}})
    assert comparison.ladder is not None
    rungs, both = ladder_tables(comparison, comparison.ladder)
    assert rungs.rows[1][3] == "–"
    assert rungs.rows[1][4].startswith("unknown: the runs have different budgets")
    assert both.rows[0][4].startswith("unknown: the runs have different budgets")
    assert comparison.ladder.gains.keys() == {("retinanet", "ssd")}, "these two compare"
    lost = Comparison(comparison.arms[1:], ladder=Ladder([LOWER, UPPER], []))
    [table] = ladder_tables(lost, lost.ladder or Ladder([], []))
    assert table.rows[0][2] == "–"
    assert table.rows[1][4].startswith("unknown: ")


def test_a_ladder_on_the_page_and_beside_it(tmp_path: Path) -> None:
    comparison = told()
    numbers = compare(comparison)
    assert [arm["name"] for arm in numbers["arms"]] == ["ssd", "1 +neck", "retinanet"], "no column for swaps"
    page = write_report([comparison], tmp_path / "report.html", title="ladder")
    html = page.read_text()
    assert html.index("The ladder, step by step") < html.index("<h2>Numbers</h2>")
    assert "from 1 +neck to retinanet" in html, "a diff a step"
    markdown = page.with_suffix(".md").read_text()
    assert "| 1 +neck | neck: ssd\\_extras → fpn | 0.400" in markdown
    assert "**Neighbouring steps in both orders**" in markdown
    lines = page.with_suffix(".csv").read_text().splitlines()
    gains = [line.split(",")[1:5] for line in lines if "gain in" in line or "interaction" in line]
    assert [row[:3] for row in gains] == [
        ["gain in AP", "neck", "3"],
        ["gain in AP", "neck after head", "3"],
        ["gain in AP", "head", "3"],
        ["gain in AP", "head before neck", "3"],
        ["interaction in AP", "neck and head", "3"],
    ]
    assert float(gains[4][3]) == pytest.approx(0.15)


def test_a_comparison_without_a_ladder_has_none() -> None:
    numbers = compare(Comparison([make_arm("ssd"), make_arm("retinanet")]))
    assert "ladder" not in numbers
    assert "gain in" not in csv_text([numbers])
    assert "both orders" not in markdown_text("t", [numbers])
