"""The sections of a report, from numbers made here."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from densedet.core.report.arms import Analysis, Arm, Comparison, Difference, Measured, SizeBin
from densedet.core.report.breakdowns import (
    class_section,
    difference_section,
    error_section,
    missed_section,
    size_section,
)
from densedet.core.report.charts.bars import Value
from densedet.core.report.comparison import compare, summary_words, table_rows, warnings_of
from densedet.core.report.costs import cost_section, energy_table, minutes_to, reach_table
from densedet.core.report.curves import score_section, training_section
from densedet.core.report.recipe_diff import comment_of, recipe_diff
from densedet.core.report.records import RunRecord
from densedet.core.report.summary_files import csv_text, markdown_text


def make_record(
    name: str = "ssd", *, seed: int = 0, points: tuple[float, ...] = (), **summary: Any
) -> RunRecord:
    """A run with AP ``points`` at minutes 1, 2, ...; the last one is its AP."""
    evaluations = [
        {"step": i, "seconds": 60.0 * i, "metrics": {"AP": ap}} for i, ap in enumerate(points, start=1)
    ]
    values = {"status": "done", "seed": seed, **({"AP": points[-1]} if points else {}), **summary}
    recipe = {"train": {"budget": {"steps": 10}, "seed": seed}, "model": {"head": {"name": name}}}
    return RunRecord(name, Path("runs") / name, recipe, evaluations=evaluations, summary=values)


def make_arm(name: str, *points: tuple[float, ...], **known: Any) -> Arm:
    """An arm with a seed for each list of points."""
    return Arm(name, [make_record(name, seed=i, points=each) for i, each in enumerate(points)], **known)


def test_the_table_cuts_long_names_of_classes() -> None:
    name = "x" * 220
    metrics = {"AP": 0.5, "classes": {name: {"AP": 0.5}}}
    record = replace(make_record(), evaluations=[{"step": 1, "seconds": 60.0, "metrics": metrics}])
    arm = Arm("a", [record])
    [row] = [row for row in table_rows(Comparison([arm])) if row["key"] == f"classes.{name}.AP"]
    assert (row["label"], row["texts"]) == (f"AP of {'x' * 39}…", ["0.500"])


def test_a_number_of_several_seeds() -> None:
    arm = make_arm("a", (0.2,), (0.4,), (0.6,), intervals={"AP50": Value(0.5, 0.3, 0.8)})
    assert arm.value("AP") == pytest.approx(0.4)
    assert arm.ranged("AP") == Value(pytest.approx(0.4), 0.2, 0.6)
    assert arm.ranged("AP50") == Value(0.5, 0.3, 0.8), "the interval, where there is one"
    assert arm.ranged("AP75") == Value(None)
    [row] = [row for row in table_rows(Comparison([arm])) if row["key"] == "AP"]
    assert row["texts"] == ["0.400 (0.200 to 0.600)"]
    assert (row["lows"], row["highs"]) == ([0.2], [0.6])
    [seeds] = [row for row in table_rows(Comparison([arm])) if row["key"] == "seed"]
    assert seeds["texts"] == ["0, 1, 2"]
    told = compare(Comparison([arm]))
    assert [run["name"] for run in told["runs"]] == ["a seed 0", "a seed 1", "a seed 2"]
    assert told["interval"].startswith("the 95 % interval")
    assert "without an interval" in summary_words(Comparison([arm, make_arm("b", (0.1,), (0.2,))]))[1]


def test_the_numbers_of_another_evaluator_are_not_called_cocos() -> None:
    arm = make_arm("a", (0.5,))
    for name, told in (("coco", True), ("voc", False)):
        arm.runs[0].recipe["evaluate"] = {"evaluator": {"name": name}}
        [row] = [row for row in table_rows(Comparison([arm])) if row["key"] == "AP"]
        assert row["note"].startswith("COCO's") == told


def test_speeds_that_differ_are_unreliable() -> None:
    steady, shaky = Measured((100.0, 105.0, 95.0)), Measured((100.0, 111.0, 100.0))
    # 105 - 95 is a tenth of the median 100; 111 - 100 is more.
    assert steady.reliable
    assert not shaky.reliable
    assert not Measured((100.0,)).reliable, "one round tells nothing of the next"
    key = "predict_images_per_second"
    arms = [
        make_arm("a", (0.5,), measured={key: steady}),
        make_arm("b", (0.4,), measured={key: Measured((300.0, 300.0))}),
    ]
    [row] = [row for row in table_rows(Comparison(arms)) if row["key"] == key]
    assert (row["values"], row["best"]) == ([100.0, 300.0], [False, True])
    assert "b predicts 3.0 times as many" in " ".join(summary_words(Comparison(arms)))
    arms[0].measured[key] = shaky
    [row] = [row for row in table_rows(Comparison(arms)) if row["key"] == key]
    assert row["texts"] == ["100 (unreliable)", "300"]
    assert row["best"] == [False, False]
    assert "times as many" not in " ".join(summary_words(Comparison(arms)))
    assert "The prediction speed of a is unreliable" in " ".join(warnings_of(arms))
    rounds = cost_section(Comparison(arms)).tables[-1]
    assert rounds.rows[0] == (
        "a: prediction, images/s",
        "100",
        "100, 111, 100",
        "no: more than 10 % apart, or one",
    )


def test_minutes_to_a_value() -> None:
    run = make_record(points=(0.1, 0.3, 0.2, 0.5))
    # 0.2 lies half way between 0.1 at minute 1 and 0.3 at minute 2.
    assert minutes_to(run, 0.2) == pytest.approx(1.5)
    assert minutes_to(run, 0.05) == 1.0, "the first evaluation has it"
    assert minutes_to(run, 0.4) == pytest.approx(3 + 2 / 3), "0.4 is two thirds of the way from 0.2 to 0.5"
    assert minutes_to(run, 0.6) is None
    run.recipe["evaluate"] = {"metric": "AP", "higher_is_better": False}
    assert minutes_to(run, 0.1) == 1.0
    arms = [make_arm("a", (0.2, 0.4), (0.0, 0.4)), make_arm("b", (0.1, 0.3), (0.1, 0.1))]
    table = reach_table(arms)
    assert table is not None
    # b has (0.3 + 0.1) / 2 = 0.2 at its end. a: minutes 1 and 1.5; b: 1.5, and never.
    assert table.title == "Minutes of training to AP 0.200 (what the weakest arm has at its end)"
    assert table.rows == [
        ("a", "1.25 (1.00 to 1.50)"),
        ("b", "1.50, 1 of 2 seeds do not reach it"),
    ]
    wished = reach_table(arms, 0.9)
    assert wished is not None
    assert wished.rows == [("a", "not reached"), ("b", "not reached")]
    assert reach_table([Arm("a", [make_record()])]) is None


def test_energy_is_told_or_said_to_be_unknown() -> None:
    arm = make_arm(
        "a", (0.5,), measured={"train_joules": Measured((0.5, 0.5)), "predict_joules": Measured((0.1, 0.2))}
    )
    table = energy_table([arm, make_arm("b", (0.4,))])
    assert table is not None
    assert table.rows == [("a", "500", "150 (unreliable)"), ("b", "–", "–")]
    arm.measured = {"images_per_second": Measured((5.0,))}
    assert energy_table([arm]) is None
    assert "Energy: not told by this system." in cost_section(Comparison([arm])).notes


def test_the_curves_of_arms_over_seeds() -> None:
    arms = [make_arm("a", (0.2, 0.4), (0.4, 0.6)), make_arm("b", (0.1, 0.1))]
    section = training_section(arms)
    assert "from the least to the largest" in section.notes[0]
    [minutes] = [chart for chart in section.charts if chart.title == "AP against minutes"]
    # Means (0.2 + 0.4) / 2 and (0.4 + 0.6) / 2.
    assert minutes.rows == (
        ("a", 1.0, 0.3, 0.2, 0.4),
        ("a", 2.0, 0.5, 0.4, 0.6),
        ("b", 1.0, 0.1, None, None),
        ("b", 2.0, 0.1, None, None),
    )


def test_f1_and_calibration() -> None:
    analyses = [
        Analysis(
            f1=((0.505, 0.6), (0.205, 0.4)),
            calibration=((0.55, 0.5, 10), (0.05, 0.1, 30)),
            calibration_error=0.1,
        ),
        Analysis(f1=((0.505, 0.2),), calibration=((0.57, 0.9, 30),), calibration_error=0.3),
    ]
    section = score_section([make_arm("a", (0.5,), (0.5,), analyses=analyses)])
    [f1, calibrated] = section.charts
    rows = {row[1]: row[2:] for row in f1.rows}
    # A threshold of 0.3 counts the detections from 0.505 up; above that there are none.
    assert rows[0.3] == (pytest.approx(0.4), 0.2, 0.6)
    assert rows[0.1] == (pytest.approx(0.3), 0.2, 0.4)
    assert rows[0.6] == (0.0, 0.0, 0.0)
    assert any("Best F1: a 0.400 at score 0.21." in note for note in section.notes)
    assert any("a 0.200" in note for note in section.notes), "the mean of 0.1 and 0.3"
    # Bins of a place together: (0.55 * 10 + 0.57 * 30) / 40 and (0.5 * 10 + 0.9 * 30) / 40.
    assert [row[1:3] for row in calibrated.rows] == [(0.05, 0.1), (0.565, 0.8)]


def test_errors_and_confusion() -> None:
    counts = np.array([[4.0, 1, 1], [0, 2, 0], [3, 0, 0]])
    analyses = [
        Analysis(errors={"Cls": 0.1, "Miss": 0.3}, classes=("cat", "dog"), confusion=counts),
        Analysis(errors={"Cls": 0.2, "Miss": 0.3}, classes=("cat", "dog"), confusion=3 * counts),
    ]
    section = error_section([make_arm("a", (0.5,), (0.5,), analyses=analyses), make_arm("b", (0.5,))])
    bars, matrix = section.charts
    assert bars.rows == (
        ("wrong class", "0.150 (0.100 to 0.200)"),
        ("object without a detection", "0.300 (0.300 to 0.300)"),
    )
    assert matrix.title == "confusion of a"
    assert matrix.rows == (("cat", 8.0, 2.0, 2.0), ("dog", 0.0, 4.0, 0.0), ("nothing", 6.0, 0.0, 0.0))


def test_a_confusion_of_many_classes_joins_the_rare_ones() -> None:
    names = tuple(f"c{i}" for i in range(12))
    # Class i has i + 1 objects, all found; 5 detections of class 0 are background.
    counts = np.diag([float(i + 1) for i in range(12)] + [0.0])
    counts[12, 0] = 5
    section = error_section([make_arm("a", (0.5,), analyses=[Analysis(classes=names, confusion=counts)])])
    [chart] = section.charts
    assert [row[0] for row in chart.rows] == [*(f"c{i}" for i in range(3, 12)), "others", "nothing"]
    assert chart.rows[9][10] == 6.0, "1 + 2 + 3 of c0, c1 and c2"
    assert chart.rows[10][10] == 5.0


def test_sizes_and_heights() -> None:
    sizes = {
        "source pixels": (SizeBin("small", 0, 7, 0.1), SizeBin("large", 0, 0, None)),
        "height": tuple(SizeBin(f"from {i}", 2.0**i, 3, 0.1 * i) for i in range(5)),
    }
    section = size_section([make_arm("a", (0.5,), analyses=[Analysis(sizes=sizes)])])
    bars, line = section.charts
    assert bars.rows == (("small (7)", "0.100"), ("large (0)", "–"))
    assert [row[1:3] for row in line.rows] == [(2.0**i, pytest.approx(0.1 * i)) for i in range(5)]
    assert section.tables[0].rows[0] == ("from 0", "3")


def test_reasons_of_misses() -> None:
    analyses = [
        Analysis(missed={"low score": 4, "far": 1}, objects=20),
        Analysis(missed={"low score": 2}, objects=20),
    ]
    section = missed_section([make_arm("a", (0.5,), (0.5,), analyses=analyses), make_arm("b", (0.5,))])
    [chart] = section.charts
    assert chart.rows == (("low score", "3 (2 to 4)"), ("far", "0.5 (0 to 1)"))
    assert section.notes[0] == "a misses 3.5 of 20 objects."
    assert not missed_section([make_arm("a", (0.5,))])


def test_differences_and_classes() -> None:
    rows = [
        Difference("AP", "b", "a", Value(0.1, 0.05, 0.15), 0.01),
        Difference("AP of c|t", "b", "a", Value(-0.1, -0.3, 0.1), None),
    ]
    section = difference_section(Comparison([make_arm("a"), make_arm("b")], differences=rows))
    assert section.tables[0].rows == [
        ("AP", "+0.100 (+0.050 to +0.150)", "0.01"),
        ("AP of c|t", "-0.100 (-0.300 to +0.100)", "–"),
    ]
    assert section.charts[0].title == "b minus a"
    arms = [Arm("a", [make_record(points=(0.5,), classes={"cat": {"AP": 0.5}, "dog": {"AP": -1.0}})])]
    assert class_section(arms).charts[0].rows == (("cat", "0.500"), ("dog", "–"))
    assert not class_section([make_arm("a")])


def test_the_difference_of_recipes_says_what_each_line_means() -> None:
    records = [make_record(), make_record()]
    records[0].recipe = {
        "description": "one",
        "model": {"matcher": {"name": "iou", "positive": 0.5}, "neck": None, "head": {"name": "ssd"}},
        "run": {"folder": "x"},
    }
    records[1].recipe = {
        "description": "two",
        "model": {"matcher": {"name": "iou", "positive": 0.6}, "neck": None, "head": {"name": "odd\x1b"}},
        "run": {"folder": "y"},
    }
    lines = recipe_diff(*records)
    assert [(sign, line) for sign, line, _ in lines] == [
        (" ", "model:"),
        (" ", "  matcher:"),
        ("-", "    positive: 0.5"),
        ("+", "    positive: 0.6"),
        ("-", "  head:"),
        ("-", "    name: ssd"),
        ("+", "  head:"),
        ("+", '    name: "odd\\e"'),
    ]
    comments = [comment for _, _, comment in lines]
    assert comments[2] == "", "the other line says it"
    assert "IoU" in comments[3]
    assert "one predictor per level" in comments[5]
    assert comments[7] == "", "no part is called so"
    assert recipe_diff(records[0], records[0]) == []
    assert comment_of(("train", "batch_size"), {"train": {"batch_size": 4}})


def test_names_are_no_markup_in_markdown_and_csv() -> None:
    arms = [make_arm("=a|<b>", (0.25,)), make_arm("*c*\n[d](e)", (0.5,))]
    told = compare(Comparison(arms, name="set_1"))
    text = markdown_text("x <script>", [told])
    lines = text.splitlines()
    assert lines[0] == r"### x \<script\>"
    assert r"| | =a\|\<b\> | \*c\*\\n\[d\](e) |" in lines
    assert "| AP | 0.250 | 0.500 |" in lines
    assert "<" not in text.replace(r"\<", "")
    rows = list(csv.reader(io.StringIO(csv_text([told]))))
    assert rows[0] == ["data", "key", "arm", "seeds", "value", "low", "high"]
    assert rows[1] == ["set_1", "AP", "'=a|<b>", "1", "0.25", "", ""]
    assert rows[2][2] == "*c*\\n[d](e)"
