"""A confusion matrix: numbers in cells that are the darker the larger their share of the row is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from densedet.core.report.charts.chart import WIDTH, Cell, Chart, color_of, finish, new_figure, styled
from densedet.core.text import short


@styled()
def matrix_chart(
    names: Sequence[str], counts: np.ndarray, *, title: str, x_label: str, y_label: str, style: int = 0
) -> Chart | None:
    """Draw a matrix.

    Args:
        names: of the rows, and of the columns.
        counts: (len(names), len(names)) of numbers that are not negative; rows are the truth.
        title: names the chart for people who do not see it.
        x_label: what the columns are.
        y_label: what the rows are.
        style: place in the palette.

    Returns:
        The chart, or None for an empty matrix.
    """
    from matplotlib.colors import to_rgba

    if not len(names):
        return None
    names = [short(name) for name in names]
    size = len(names)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = new_figure(min(WIDTH * 1.4, max(2.4, 0.9 + 0.34 * size)))
    colors = np.tile(np.array(to_rgba(color_of(style))), (size * size, 1))
    # As opaque as the share; the page shows through, so that its text colour is readable on each cell.
    colors[:, 3] = 0.65 * shares.ravel()
    _fill(axes, colors, size)
    for row in range(size):
        for column in range(size):
            axes.text(column, row, _number(counts[row, column]), ha="center", va="center", fontsize=9)
    axes.set_xticks(range(size), names, rotation=90 if max(map(len, names)) > 40 // size else 0)
    axes.set_yticks(range(size), names)
    axes.set(xlabel=x_label, ylabel=y_label, xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))
    axes.tick_params(length=0)
    said = ", ".join(
        f"{name} {_number(counts[i, i])} of {_number(counts[i].sum())}" for i, name in enumerate(names[:-1])
    )
    rows: list[list[Cell]] = [[name, *(float(value) for value in counts[i])] for i, name in enumerate(names)]
    return finish(
        figure,
        [],
        [],
        title=title,
        description=f"found with their class: {said}",
        head=("", *names),
        rows=rows,
    )


def _fill(axes: Any, colors: np.ndarray, size: int) -> None:
    """Draw a square for each cell that is not fully transparent."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    seen = np.flatnonzero(colors[:, 3])
    boxes = [Rectangle((i % size - 0.5, i // size - 0.5), 1, 1) for i in seen.tolist()]
    axes.add_collection(PatchCollection(boxes, facecolors=colors[seen], edgecolors="none"))


def _number(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() or value >= 10 else f"{value:.1f}"
