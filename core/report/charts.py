"""Line and bar charts as inline SVG, drawn by matplotlib without a window.

Text stays text, and axes, grid and text take the page's own colour (`currentColor`), so that a chart is
readable on a light page, on a dark one and in print. Lines differ in their dashes as well as in colour.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from densedet.core.text import short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ("#0072b2", "#d55e00", "#009e73", "#c2639a", "#a87900", "#7a68c8", "#7f7f7f", "#8c6d1f")
"""Colours of the runs, after Okabe and Ito's palette; each has a contrast of at least 3:1 against white and
against the dark page, which WCAG 2 asks of lines."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2)))
INK = "#010203"
"""Drawn in place of the page's text colour, which matplotlib cannot name; `_svg` replaces it."""
WIDTH, POINTS = 5.2, 240
"""Inches of a chart's width (at 72 units an inch), and the most points of a line."""
STYLE: dict[Any, Any] = {  # matplotlib types the keys as a long list of literals
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 11,
    "font.sans-serif": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "grid.alpha": 0.2,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), INK
    ),
}


@dataclass
class Series:
    """One line of a chart.

    Attributes:
        name: its entry in the legend.
        points: (x, y) in the order of x; those that are not finite are left out.
        style: its place in `COLORS` and `DASHES`, which go round.
    """

    name: str
    points: Sequence[tuple[float, float]]
    style: int = 0


@contextmanager
def styled() -> Iterator[None]:
    """Draw in `STYLE`: matplotlib gives an artist its colour, and decides on formulas, when it is made."""
    from matplotlib import rc_context

    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the reader's own font draws it
        yield


def color_of(style: int) -> str:
    """Return the colour of the ``style``-th run."""
    return COLORS[style % len(COLORS)]


def smoothed(points: Sequence[tuple[float, float]], count: int = POINTS) -> np.ndarray:
    """Return float64 (n, 2) of the finite points, n <= ``count``: longer lines become means of neighbours."""
    array = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    array = array[np.isfinite(array).all(axis=1)]
    if len(array) <= count:
        return array
    return np.stack([part.mean(axis=0) for part in np.array_split(array, count)])


@styled()
def line_chart(
    series: Sequence[Series], *, title: str, x_label: str, y_label: str, marks: bool = False
) -> str:
    """Draw lines over axes that begin at 0 unless a value is negative.

    Args:
        series: the lines; those without a finite point are left out.
        title: names the chart for people who do not see it.
        x_label: what the horizontal axis shows, with its unit.
        y_label: what the vertical axis shows.
        marks: a dot at every point, for lines of few points.

    Returns:
        The SVG element, or "" where no line has a point.
    """
    lines = [(replace(s, name=short(s.name)), array) for s in series if len(array := smoothed(s.points))]
    title, y_label = short(title), short(y_label)
    if not lines:
        return ""
    figure, axes = _figure(3.0)
    for s, array in lines:
        axes.plot(
            *array.T,
            color=color_of(s.style),
            linestyle=DASHES[s.style % len(DASHES)],
            linewidth=1.8,
            marker="o" if marks or len(array) == 1 else None,
            markersize=4,
        )
    low, high = _limits(np.concatenate([array[:, 1] for _, array in lines]), marks)
    axes.set(xlabel=x_label, ylabel=y_label, ylim=(low, high + 0.05 * (high - low)))
    axes.set_xlim(left=min(0.0, *(float(array[0, 0]) for _, array in lines)))
    axes.locator_params(axis="x", nbins=6)  # numbers as long as 0.0025 lie side by side, not over each other
    axes.grid(axis="y")
    last = "; ".join(f"{s.name} ends at {array[-1, 1]:.4g}" for s, array in lines)
    return _svg(figure, axes.lines, [s.name for s, _ in lines], f"{title}: {y_label} against {x_label}", last)


@styled()
def bar_chart(
    groups: Sequence[str], series: Sequence[tuple[str, Sequence[float | None], int]], *, title: str
) -> str:
    """Draw horizontal bars from 0 on: per group (a class) one bar per series.

    Args:
        groups: names beside the groups, from top to bottom.
        series: (name, one value per group, place in the palette); None is written "–".
        title: names the chart for people who do not see it.

    Returns:
        The SVG element, or "" without groups or series.
    """
    if not groups or not series:
        return ""
    groups = [short(group) for group in groups]
    series = [(short(name), values, style) for name, values, style in series]
    figure, axes = _figure(0.7 + 0.25 * len(groups) * (len(series) + 0.6))
    height = 0.8 / len(series)
    described = []
    for place, (name, values, style) in enumerate(series):
        known = [v if v is not None and math.isfinite(v) else None for v in values]
        written = ["–" if v is None else f"{v:.3f}" for v in known]
        middles = np.arange(len(groups)) + (place - (len(series) - 1) / 2) * height
        bars = axes.barh(middles, [v or 0.0 for v in known], height * 0.9, color=color_of(style))
        axes.bar_label(bars, written, padding=3, fontsize=10)
        described.append(f"{name}: " + ", ".join(f"{g} {text}" for g, text in zip(groups, written)))
    axes.set_yticks(range(len(groups)), groups)
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.02)
    axes.tick_params(axis="y", length=0)
    return _svg(figure, axes.containers, [name for name, _, _ in series], title, "; ".join(described))


def _figure(height: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _limits(values: np.ndarray, marks: bool) -> tuple[float, float]:
    """Return the vertical axis's ends. A few points that tower over all others (the loss of an untrained
    network) run out at the top, unless every point carries a mark."""
    high, most = float(values.max()), float(np.quantile(values, 0.97))
    if not marks and len(values) >= 40 and 0 < most * 3 < high:
        high = most * 2
    low = min(0.0, float(values.min()))
    return low, high if high > low else low + 1.0


def _svg(figure: Figure, handles: Sequence[Any], names: Sequence[str], title: str, description: str) -> str:
    """Return the figure as an SVG element with a legend below, a title and a description."""
    from matplotlib import rc_context

    out = io.StringIO()
    columns = max(1, 56 // (max(map(len, names)) + 8))
    figure.legend(handles, names, loc="outside lower center", ncols=columns)
    # One salt per chart: ids stay apart on the page, and the file is the same each time it is written.
    with rc_context({"svg.hashsalt": title + description}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Title": title, "Date": None})
    svg = out.getvalue()
    svg = re.sub(r"\s*<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.S)
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg).replace(INK, "currentColor")
    return svg.replace("<svg ", '<svg role="img" ', 1).replace(
        "</title>", f"</title><desc>{escape(description)}</desc>", 1
    )
