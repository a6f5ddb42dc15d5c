"""Charts read back from their SVG."""

from __future__ import annotations

import ast
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from densedet.core.report import charts
from densedet.core.report.charts import COLORS, Series, bar_chart, line_chart, smoothed

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


def test_a_line_chart() -> None:
    empty = [Series("a", []), Series("b", [(1, math.nan)])]
    assert line_chart(empty, title="t", x_label="x", y_label="y") == ""
    series = [Series("a<b $x$", [(0, 1), (5, 0.5), (10, 2)]), Series("_c", [(5, 1.5)], 1)]
    chart = line_chart([*empty, *series], title="loss & more", x_label="minutes", y_label="loss")
    written = texts(chart)
    assert {"minutes", "loss", "a<b $x$", "_c"} <= set(written), "no markup, no formula, no hidden name"
    [line, _legend] = paths(chart, COLORS[0])
    # Evenly spaced in x. The axis runs from 0 to 2 * 1.05, so 2 - 0.5 is three times 1 - 0.5 in y.
    assert line[2][0] - line[1][0] == pytest.approx(line[1][0] - line[0][0])
    assert line[1][1] - line[2][1] == pytest.approx(3 * (line[1][1] - line[0][1]), rel=1e-4)
    root = ElementTree.fromstring(chart)
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == "loss & more: loss against minutes"
    assert root.findtext(f"{SVG}desc") == "a<b $x$ ends at 2; _c ends at 1.5"
    assert drawn_colors(chart) == {"none", "currentColor", COLORS[0], COLORS[1]}, "nothing is black or white"
    assert chart == line_chart([*empty, *series], title="loss & more", x_label="minutes", y_label="loss")


def test_numbers_of_a_short_run_do_not_overlap() -> None:
    svg = line_chart([Series("a", [(0.006, 0.1), (0.021, 0.3)])], title="t", x_label="minutes", y_label="AP")
    # At most seven numbers; steps of 0.0025 would give nine, and each takes an eighth of the width.
    assert re.findall(r">(0\.\d{3})<", svg) == ["0.000", "0.005", "0.010", "0.015", "0.020"]


def test_a_high_start_does_not_flatten_the_rest() -> None:
    points = [(float(i), 1000.0 if i == 0 else 1.0) for i in range(100)]
    whole, cut = (
        texts(line_chart([Series("a", points)], title="t", x_label="x", y_label="y", marks=marks))
        for marks in (True, False)
    )
    # The 97th percentile is 1: the axis ends at 2 * 1.05. With marks all points are shown: up to 1050.
    assert "2.0" in cut and "1000" not in cut
    assert "1000" in whole


def test_bars() -> None:
    assert bar_chart([], [("a", [], 0)], title="t") == ""
    assert bar_chart(["cat"], [], title="t") == ""
    groups, series = ["cat", "$d$_g"], [("a", [0.5, None], 0), ("b", [0.25, math.nan], 1)]
    svg = bar_chart(groups, series, title="AP per class")
    assert {"cat", "$d$_g", "a", "b", "0.500", "0.250", "–"} <= set(texts(svg))
    assert drawn_colors(svg) == {"none", "currentColor", COLORS[0], COLORS[1]}
    assert texts(svg).count("–") == 2
    widths = [max(x for x, _ in p) - min(x for x, _ in p) for c in COLORS[:2] for p in paths(svg, c)[:2]]
    assert widths == pytest.approx([2 * widths[2], 0, widths[2], 0], abs=1e-3)
    first, second = ([y for _, y in paths(svg, COLORS[0])[i]] for i in (0, 1))
    assert max(first) < min(second), "the first group stands above the second"
    assert "<desc>a: cat 0.500, $d$_g –; b: cat 0.250, $d$_g –</desc>" in svg


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
    tree = ast.parse(Path(str(charts.__file__)).read_text(encoding="utf-8"))
    assert not [node for node in tree.body if "matplotlib" in ast.unparse(node) and isinstance(node, IMPORTS)]
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert {f.name for f in functions if "from matplotlib" in ast.unparse(f)} == {"styled", "_figure", "_svg"}
