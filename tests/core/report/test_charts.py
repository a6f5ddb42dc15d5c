"""Charts read back from their SVG."""

from __future__ import annotations

import ast
import io
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densedet.core.report.charts import chart as charts
from densedet.core.report.charts.bars import Value, bar_chart, forest_chart
from densedet.core.report.charts.chart import COLORS
from densedet.core.report.charts.lines import Series, line_chart, over_seeds, smoothed
from densedet.core.report.charts.matrix import matrix_chart
from densedet.core.report.charts.pareto import Offer, pareto_chart, unbeaten

IMPORTS = (ast.Import, ast.ImportFrom)
SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    """Return what is written in a chart, in the order of drawing."""
    return ["".join(e.itertext()) for e in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def paths(svg: str, color: str) -> list[list[tuple[float, float]]]:
    """Return the corners of the paths that are stroked or filled with ``color``."""
    found = []
    for element in ElementTree.fromstring(svg).iter(f"{SVG}path"):
        if re.search(rf"(stroke|fill): {color}", element.get("style", "")) and element.get("d"):
            numbers = re.findall(r"[ML] (\S+) (\S+)", element.get("d", ""))
            found.append([(float(x), float(y)) for x, y in numbers])
    return found


def drawn_colors(svg: str) -> set[str]:
    """Return the colours of lines, areas and texts; a text without one would be black."""
    texts = [e.get("style", "") for e in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert all("fill: " in style for style in texts)
    return set(re.findall(r"(?:fill|stroke): (\S+?)[;\"]", svg))


def test_long_lines_become_means_of_neighbours() -> None:
    points = [(float(i), float(i % 2)) for i in range(1000)]
    assert len(smoothed(points)) == 240
    # 1000 points in 500 pairs: each is the mean of (2k, 0) and (2k + 1, 1).
    assert smoothed(points, 500)[3].tolist() == [6.5, 0.5]
    assert smoothed([(1, math.nan), (math.inf, 2), (3, 4)]).tolist() == [[3, 4]]
    assert smoothed([]).shape == (0, 2)


def test_lines_of_seeds_become_a_mean_and_a_band() -> None:
    # Equally many points: by their place. x: (1 + 3) / 2 and (2 + 4) / 2; y: (0 + 2) / 2 and (1 + 5) / 2.
    series = over_seeds("a", [[(1, 0), (2, 1)], [(3, 2), (4, 5)], []], 3)
    assert series.points == [(2, 1), (3, 3)]
    assert series.band == [(2, 0, 2), (3, 1, 5)]
    assert (series.name, series.style) == ("a", 3)
    # Else where both have values, 2 and 3: the second line is there 1 and 1.5.
    series = over_seeds("a", [[(1, 0), (2, 3), (3, 4)], [(2, 1), (4, 2)]])
    assert series.points == [(2, 2), (3, 2.75)]
    assert series.band == [(2, 1, 3), (3, 1.5, 4)]
    alone = over_seeds("a", [[(1, 0)]])
    assert (alone.points, list(alone.band)) == ([(1, 0)], [])


def test_a_line_chart() -> None:
    empty = [Series("a", []), Series("b", [(1, math.nan)])]
    assert line_chart(empty, title="t", x_label="x", y_label="y") is None
    band = [(0.0, 0.5, 1.5), (5.0, 0.25, 0.75), (10.0, 1.5, 2.5)]
    series = [Series("a<b $x$", [(0, 1), (5, 0.5), (10, 2)], 0, band), Series("_c", [(5, 1.5)], 1)]
    chart = line_chart([*empty, *series], title="loss & more", x_label="minutes", y_label="loss")
    assert chart is not None
    written = texts(chart.svg)
    assert {"minutes", "loss", "a<b $x$", "_c"} <= set(written), "no markup, no formula, no hidden name"
    [line, _legend] = paths(chart.svg, COLORS[0])
    # Evenly spaced in x. The axis runs from 0 to 2.5 * 1.05, so 2 - 0.5 is three times 1 - 0.5 in y.
    assert line[2][0] - line[1][0] == pytest.approx(line[1][0] - line[0][0])
    assert line[1][1] - line[2][1] == pytest.approx(3 * (line[1][1] - line[0][1]), rel=1e-4)
    # The band's height at its highest, 2.5 - 0.25, is 4.5 times 1 - 0.5.
    [area] = [
        e.get("d", "")
        for e in ElementTree.fromstring(chart.svg).iter(f"{SVG}path")
        if "z" in e.get("d", "") and e.get("d", "").count("L") > 5
    ]
    heights = [float(y) for y in re.findall(r"[ML] \S+ (\S+)", area)]
    assert max(heights) - min(heights) == pytest.approx(4.5 * (line[1][1] - line[0][1]), rel=1e-4)
    root = ElementTree.fromstring(chart.svg)
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == "loss & more"
    assert root.findtext(f"{SVG}desc") == "a<b $x$ ends at 2; _c ends at 1.5"
    assert drawn_colors(chart.svg) == {"none", "currentColor", COLORS[0], COLORS[1]}, "not black or white"
    again = line_chart([*empty, *series], title="loss & more", x_label="minutes", y_label="loss")
    assert again is not None and chart.svg == again.svg
    assert chart.head == ("line", "minutes", "loss", "low", "high")
    assert chart.rows[1] == ("a<b $x$", 5.0, 0.5, 0.25, 0.75)
    assert chart.rows[-1] == ("_c", 5.0, 1.5, None, None)


def test_a_chart_as_png() -> None:
    chart = line_chart([Series("a", [(0, 1), (1, 2)])], title="t", x_label="x", y_label="y")
    assert chart is not None
    with Image.open(io.BytesIO(chart.png())) as picture:
        assert picture.format == "PNG"
        assert picture.getpixel((0, 0))[:3] == (255, 255, 255), "on paper"  # type: ignore[index]
        found = {color for _, color in picture.convert("RGB").getcolors(1 << 20) or []}
    assert (0x00, 0x72, 0xB2) in found, "the first arm's blue"


def test_numbers_of_a_short_run_do_not_overlap() -> None:
    chart = line_chart([Series("a", [(0.006, 0.1), (0.021, 0.3)])], title="t", x_label="x", y_label="AP")
    assert chart is not None
    # At most seven numbers; steps of 0.0025 would give nine, and each takes an eighth of the width.
    assert re.findall(r">(0\.\d{3})<", chart.svg) == ["0.000", "0.005", "0.010", "0.015", "0.020"]


def test_a_high_start_does_not_flatten_the_rest() -> None:
    points = [(float(i), 1000.0 if i == 0 else 1.0) for i in range(100)]
    whole, cut = (
        texts(chart.svg)
        for marks in (True, False)
        if (chart := line_chart([Series("a", points)], title="t", x_label="x", y_label="y", marks=marks))
    )
    # The 97th percentile is 1: the axis ends at 2 * 1.05. With marks all points are shown: up to 1050.
    assert "2.0" in cut and "1000" not in cut
    assert "1000" in whole


def test_bars() -> None:
    assert bar_chart([], [("a", [], 0)], title="t") is None
    assert bar_chart(["cat"], [], title="t") is None
    groups = ["cat", "$d$_g"]
    series = [("a", [Value(0.5, 0.4, 0.7), Value(None)], 0), ("b", [Value(0.25), Value(math.nan)], 1)]
    chart = bar_chart(groups, series, title="AP per class")
    assert chart is not None
    svg = chart.svg
    assert {"cat", "$d$_g", "a", "b", "0.500", "0.250", "–"} <= set(texts(svg))
    assert drawn_colors(svg) == {"none", "currentColor", COLORS[0], COLORS[1], "#7f7f7f"}
    assert texts(svg).count("–") == 2
    widths = [max(x for x, _ in p) - min(x for x, _ in p) for c in COLORS[:2] for p in paths(svg, c)[:2]]
    assert widths == pytest.approx([2 * widths[2], 0, widths[2], 0], abs=1e-3)
    first, second = ([y for _, y in paths(svg, COLORS[0])[i]] for i in (0, 1))
    assert max(first) < min(second), "the first group stands above the second"
    [whisker] = paths(svg, "#7f7f7f")
    # From 0.4 to 0.7: 0.3 where the bar of 0.25 is widths[2] wide.
    assert whisker[1][0] - whisker[0][0] == pytest.approx(widths[2] * 0.3 / 0.25, rel=1e-3)
    assert "<desc>a: cat 0.500 (0.400 to 0.700), $d$_g –; b: cat 0.250, $d$_g –</desc>" in svg
    assert chart.rows == (("cat", "0.500 (0.400 to 0.700)", "0.250"), ("$d$_g", "–", "–"))


def test_a_forest_plot() -> None:
    values = [Value(0.1, -0.1, 0.3), Value(0.2)]
    chart = forest_chart(
        ["cat", "dog"], [("a over b", values, 0)], title="t", x_label="difference", zero=True
    )
    assert chart is not None
    interval = paths(chart.svg, COLORS[0])[0]
    [zero] = paths(chart.svg, "#7f7f7f")
    assert interval[0][1] == interval[1][1], "level"
    # 0 is at a quarter of the way from -0.1 to 0.3.
    assert zero[0][0] == pytest.approx(interval[0][0] + (interval[1][0] - interval[0][0]) / 4, abs=0.01)
    assert "a over b" not in texts(chart.svg), "the title names the one series"


def test_a_confusion_matrix() -> None:
    assert matrix_chart([], np.zeros((0, 0)), title="t", x_label="x", y_label="y") is None
    counts = np.array([[3, 1, 0], [0, 0, 0], [2.5, 0, 0]])
    chart = matrix_chart(["cat", "d<g", "nothing"], counts, title="t", x_label="x", y_label="y")
    assert chart is not None
    assert texts(chart.svg).count("0") == 6
    assert {"3", "1", "2.5", "d<g"} <= set(texts(chart.svg))
    opacities = sorted(float(o) for o in re.findall(r"fill: #0072b2; (?:fill-)?opacity: ([\d.]+)", chart.svg))
    # Three cells are not empty; the shares of their rows are 3/4, 1/4 and 1, times 0.65.
    assert opacities == pytest.approx([0.25 * 0.65, 0.75 * 0.65, 0.65])
    assert "<desc>found with their class: cat 3 of 4, d&lt;g 0 of 0</desc>" in chart.svg
    assert chart.rows[0] == ("cat", 3.0, 1.0, 0.0)


def test_the_arms_that_no_other_beats() -> None:
    offers = [Offer("a", 0.5, 100), Offer("b", 0.6, 50), Offer("c", 0.5, 60), Offer("d", 0.6, 50)]
    # c is slower than a and no better; b and d are equal, so neither beats the other.
    assert unbeaten(offers, less_cost=False) == [True, True, False, True]
    # With costs of which less is better, a pays more than b for less.
    assert unbeaten(offers, less_cost=True) == [False, True, False, True]
    # An error instead of a quality: a and c have the least, c at less cost.
    assert unbeaten(offers, less_cost=True, less_quality=True) == [False, True, True, True]
    chart = pareto_chart(offers, title="t", x_label="images/s", y_label="AP", less_cost=False)
    assert chart is not None
    assert [row[3] for row in chart.rows] == ["yes", "yes", "no", "yes"]
    assert "no other arm beats a, b, d" in chart.description
    free = pareto_chart(offers, title="t", x_label="x", y_label="AP", less_cost=False, ordered=False)
    assert free is not None
    assert "beats" not in free.description
    assert free.head == ("", "AP", "x")
    assert pareto_chart(offers[:1], title="t", x_label="x", y_label="AP", less_cost=False) is None


@pytest.mark.parametrize("paper", ["#ffffff", "#181818"])
def test_colors_on_light_and_dark_pages(paper: str) -> None:
    def luminance(color: str) -> float:
        parts = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for color in COLORS:
        low, high = sorted((luminance(color), luminance(paper)))
        assert (high + 0.05) / (low + 0.05) >= 3, color


def test_matplotlib_is_imported_by_drawing_alone() -> None:
    for path in Path(str(charts.__file__)).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = [
            node for node in tree.body if "matplotlib" in ast.unparse(node) and isinstance(node, IMPORTS)
        ]
        assert not found, path
