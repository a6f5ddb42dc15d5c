"""Lines with bands over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from densedet.core.report.charts.chart import Cell, Chart, color_of, finish, line_style, new_figure, styled
from densedet.core.text import short

Points = Sequence[tuple[float, float]]
POINTS = 240
"""Most points of a line."""
WIDE = 1e4
"""Largest number of a logarithmic axis, in terms of its smallest one, up to which 2 and 5 are written too."""


@dataclass
class Series:
    """One line of a chart.

    Attributes:
        name: its entry in the legend.
        points: (x, y) in the order of x; those that are not finite are left out.
        style: its place in the palette and among the dashes, which go round.
        band: (x, low, high) in the order of x, the range around the line; none for a line without one.
    """

    name: str
    points: Points
    style: int = 0
    band: Sequence[tuple[float, float, float]] = ()


def smoothed(points: Sequence[Sequence[float]], count: int = POINTS, columns: int = 2) -> np.ndarray:
    """Return float64 (n, columns) of the finite points, n <= ``count``: longer lines become means of
    neighbours."""
    array = np.asarray(points, dtype=np.float64).reshape(-1, columns)
    array = array[np.isfinite(array).all(axis=1)]
    if len(array) <= count:
        return array
    return np.stack([part.mean(axis=0) for part in np.array_split(array, count)])


def over_seeds(name: str, lines: Sequence[Points], style: int = 0) -> Series:
    """Join the lines of several seeds: their mean, and a band from the least to the largest.

    Lines of equally many points are joined point by point (a run's evaluations are spread evenly over its
    budget), others where all of them have values, at the places of the first one.

    Args:
        name: entry in the legend.
        lines: one a seed; those without a finite point are left out.
        style: place in the palette.
    """
    arrays = [array for line in lines if len(array := smoothed(line))]
    if len(arrays) < 2:
        return Series(name, [(float(x), float(y)) for x, y in arrays[0]] if arrays else [], style)
    if len({len(array) for array in arrays}) == 1:
        places = np.mean([array[:, 0] for array in arrays], axis=0)
        values = np.stack([array[:, 1] for array in arrays])
    else:
        low, high = max(array[0, 0] for array in arrays), min(array[-1, 0] for array in arrays)
        places = arrays[0][:, 0]
        places = places[(places >= low) & (places <= high)]
        values = np.stack([np.interp(places, *array.T) for array in arrays])
    rows = zip(places.tolist(), values.mean(0).tolist(), values.min(0).tolist(), values.max(0).tolist())
    joined = list(rows)
    return Series(name, [(x, y) for x, y, _, _ in joined], style, [(x, low, up) for x, _, low, up in joined])


@styled()
def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    marks: bool = False,
    x_log: bool = False,
    diagonal: bool = False,
    square: bool = False,
) -> Chart | None:
    """Draw lines over axes that begin at 0 unless a value is negative.

    Args:
        series: the lines; those without a finite point are left out.
        title: names the chart for people who do not see it.
        x_label: what the horizontal axis shows, with its unit.
        y_label: what the vertical axis shows.
        marks: a mark at every point, for lines of few points.
        x_log: whether the horizontal axis is logarithmic.
        diagonal: whether a thin line shows where both are equal.
        square: whether both axes run from 0 to 1.

    Returns:
        The chart, or None where no line has a point.
    """
    lines = [(replace(s, name=short(s.name)), array) for s in series if len(array := smoothed(s.points))]
    title, y_label = short(title), short(y_label)
    if not lines:
        return None
    figure, axes = new_figure(3.0)
    values, handles = [], []
    for s, array in lines:
        band = smoothed(s.band, columns=3)
        if len(band):
            axes.fill_between(*band.T, color=color_of(s.style), alpha=0.18, linewidth=0)
            values.append(band[:, 1:].ravel())
        marker = ("o", "s", "^", "D")[s.style % 4] if marks or len(array) == 1 else None
        look: dict[str, Any] = line_style(s.style)
        handles += axes.plot(*array.T, **look, linewidth=1.8, marker=marker, markersize=4)
        values.append(array[:, 1])
    low, high = _limits(np.concatenate(values), marks)
    if square:
        axes.set(xlim=(0, 1), ylim=(0, 1.03))
    else:
        axes.set_ylim(low, high + 0.05 * (high - low))
    axes.set(xlabel=x_label, ylabel=y_label)
    if x_log:
        _log_axis(axes)
    else:
        axes.set_xlim(left=min(0.0, *(float(array[0, 0]) for _, array in lines)))
        axes.locator_params(axis="x", nbins=6)  # numbers as long as 0.0025 lie side by side
    if diagonal:
        axes.axline((0, 0), (1, 1), color="#7f7f7f", linewidth=0.8)
    axes.grid(axis="y")
    head = ("line", x_label, y_label, "low", "high")
    rows = [row for s, array in lines for row in _rows(s, array)]
    return finish(
        figure,
        handles,
        [s.name for s, _ in lines],
        title=title,
        description="; ".join(f"{s.name} ends at {array[-1, 1]:.4g}" for s, array in lines),
        head=head,
        rows=rows,
        short=len(rows) <= 60,
    )


def _rows(series: Series, array: np.ndarray) -> list[tuple[Cell, ...]]:
    """The numbers of a line: name, x, y, and the band where there is one."""
    band = smoothed(series.band, columns=3)
    ends = band[:, 1:].tolist() if len(band) == len(array) else [[None, None]] * len(array)
    return [
        (series.name, _brief(x), _brief(y), *map(_brief, end)) for (x, y), end in zip(array.tolist(), ends)
    ]


def _brief(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def _log_axis(axes: Any) -> None:
    """Scale the horizontal axis logarithmically, with numbers at 1, 2 and 5, or over many decades at 1."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    wide = high > WIDE * low
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _limits(values: np.ndarray, marks: bool) -> tuple[float, float]:
    """Return the vertical axis's ends. A few points that tower over all others (the loss of an untrained
    network) run out at the top, unless every point carries a mark."""
    high, most = float(values.max()), float(np.quantile(values, 0.97))
    if not marks and len(values) >= 40 and 0 < most * 3 < high:
        high = most * 2
    low = min(0.0, float(values.min()))
    return low, high if high > low else low + 1.0
