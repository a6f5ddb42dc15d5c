"""What the pictures of the lessons share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from densedet.core.report.charts.chart import color_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def row_of_axes(count: int, *, columns: int, width: float = 3.2, height: float = 3.2) -> tuple[Figure, Any]:
    """Return a figure with ``count`` axes in rows of ``columns``, ``width`` x ``height`` inches each."""
    from matplotlib.figure import Figure

    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def canvas(axis: Any, x: Sequence[float], y: Sequence[float], title: str) -> None:
    """Make axes a picture: pixels as wide as high, y downwards."""
    axis.set(xlim=x, ylim=tuple(reversed(y)), aspect="equal")
    axis.set_title(title, fontsize=9)
    axis.tick_params(labelsize=7)


def add_box(
    axis: Any,
    box: Sequence[float],
    style: int,
    *,
    filled: bool = False,
    dashed: bool = False,
    text: str = "",
    width: float = 1.8,
) -> None:
    """Draw a box x1, y1, x2, y2 in the ``style``-th colour, with a text at its top left."""
    from matplotlib.patches import Rectangle

    left, top, right, bottom = box
    color = color_of(style)
    patch = Rectangle(
        (left, top),
        right - left,
        bottom - top,
        facecolor=color if filled else "none",
        alpha=0.35 if filled else 1.0,
        edgecolor="none" if filled else color,
        linestyle="--" if dashed else "-",
        linewidth=width,
    )
    axis.add_patch(patch)
    if text:
        axis.text(
            left, top, text, fontsize=7, color="white", backgroundcolor=color, va="bottom", clip_on=True
        )
