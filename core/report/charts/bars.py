"""Bars, and points with intervals (forest plots), of groups from top to bottom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from densedet.core.report.charts.chart import (
    MARKERS,
    Cell,
    Chart,
    color_of,
    finish,
    new_figure,
    styled,
)
from densedet.core.text import short


@dataclass(frozen=True)
class Value:
    """A number with the range around it.

    Attributes:
        value: the number; None where it is unknown.
        low: lower end of the range, or None.
        high: upper end of the range, or None.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def known(self) -> float | None:
        """The number where it is finite, else None."""
        return self.value if self.value is not None and math.isfinite(self.value) else None

    def text(self, form: str = ".3f") -> str:
        """Write the number, and its range in brackets."""
        if self.known is None:
            return "–"
        if self.low is None or self.high is None:
            return format(self.known, form)
        return f"{self.known:{form}} ({self.low:{form}} to {self.high:{form}})"


Row = tuple[str, Sequence[Value], int]
"""A series: its name, one value per group, its place in the palette."""


@styled()
def bar_chart(
    groups: Sequence[str], series: Sequence[Row], *, title: str, x_label: str = "", form: str = ".3f"
) -> Chart | None:
    """Draw horizontal bars from 0 on: per group (a class) one bar per series, with a whisker for its range.

    Args:
        groups: names beside the groups, from top to bottom.
        series: their values; an unknown one is written "–".
        title: names the chart for people who do not see it.
        x_label: what the horizontal axis shows, with its unit.
        form: format of the numbers beside the bars.

    Returns:
        The chart, or None without groups or series.
    """
    return _draw(groups, series, title=title, x_label=x_label, form=form, bars=True)


@styled()
def forest_chart(
    groups: Sequence[str],
    series: Sequence[Row],
    *,
    title: str,
    x_label: str,
    form: str = ".3f",
    zero: bool = False,
) -> Chart | None:
    """Draw a forest plot: per group a mark per series, with a line for its interval.

    Args:
        groups: names beside the groups, from top to bottom.
        series: their values.
        title: names the chart for people who do not see it.
        x_label: what the horizontal axis shows.
        form: format of the numbers in the table.
        zero: whether a vertical line marks 0, for differences.

    Returns:
        The chart, or None without groups or series.
    """
    return _draw(groups, series, title=title, x_label=x_label, form=form, bars=False, zero=zero)


def _draw(
    groups: Sequence[str],
    series: Sequence[Row],
    *,
    title: str,
    x_label: str,
    form: str,
    bars: bool,
    zero: bool = False,
) -> Chart | None:
    if not groups or not series:
        return None
    groups = [short(group) for group in groups]
    series = [(short(name), values, style) for name, values, style in series]
    step = 0.25 if bars else 0.2
    figure, axes = new_figure(0.9 + step * len(groups) * (len(series) + 0.6))
    height = 0.8 / len(series)
    handles = []
    for place, (_, values, style) in enumerate(series):
        middles = np.arange(len(groups)) + (place - (len(series) - 1) / 2) * height
        draw = _bars if bars else _points
        handles.append(draw(axes, middles, values, style, height, form))
    axes.set_yticks(range(len(groups)), groups)
    axes.set_ylim(len(groups) - 0.45, -0.55)
    axes.margins(x=0.12)
    axes.tick_params(axis="y", length=0)
    if x_label:
        axes.set_xlabel(x_label)
    if zero:
        axes.axvline(0, color="#7f7f7f", linewidth=0.8)
    if not bars:
        axes.grid(axis="x")
    names = [name for name, _, _ in series]
    rows: list[list[Cell]] = [
        [group, *(values[number].text(form) for _, values, _ in series)]
        for number, group in enumerate(groups)
    ]
    said = [
        f"{name}: " + ", ".join(f"{group} {v.text(form)}" for group, v in zip(groups, values))
        for name, values, _ in series
    ]
    legend = len(names) > 1 or bars  # the title of a forest plot names its one series
    return finish(
        figure,
        handles if legend else [],
        names,
        title=title,
        description="; ".join(said),
        head=("", *names),
        rows=rows,
    )


def _bars(
    axes: Any, middles: np.ndarray, values: Sequence[Value], style: int, height: float, form: str
) -> Any:
    """Draw the bars of a series; each has its number beside it, right of its whisker."""
    drawn = axes.barh(middles, [v.known or 0.0 for v in values], height * 0.9, color=color_of(style))
    _whiskers(axes, middles, values, "#7f7f7f")
    for middle, value in zip(middles, values):
        text = "–" if value.known is None else format(value.known, form)
        end = max(0.0, value.known or 0.0, value.high or 0.0)
        axes.annotate(
            text, (end, middle), xytext=(4, 0), textcoords="offset points", va="center", fontsize=10
        )
    return drawn


def _points(
    axes: Any, middles: np.ndarray, values: Sequence[Value], style: int, height: float, form: str
) -> Any:
    """Draw the marks of a series with their intervals."""
    _whiskers(axes, middles, values, color_of(style))
    known = [(v.known, m) for v, m in zip(values, middles) if v.known is not None]
    [drawn] = axes.plot(
        [v for v, _ in known],
        [m for _, m in known],
        linestyle="none",
        color=color_of(style),
        marker=MARKERS[style % len(MARKERS)],
        markersize=5,
    )
    return drawn


def _whiskers(axes: Any, middles: np.ndarray, values: Sequence[Value], color: str) -> None:
    ends = [(m, v.low, v.high) for m, v in zip(middles, values) if None not in (v.known, v.low, v.high)]
    if ends:
        axes.hlines(
            [m for m, _, _ in ends],
            [a for _, a, _ in ends],
            [b for _, _, b in ends],
            color=color,
            linewidth=1.4,
        )
