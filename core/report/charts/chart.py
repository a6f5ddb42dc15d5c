"""What all charts share: colours, dashes, marks, the style, and the way from a figure to SVG and PNG.

Text stays text, and axes, grid and text take the page's own colour (`currentColor`), so that a chart is
readable on a light page, on a dark one and in print. Lines differ in their dashes as well as in colour.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ("#0072b2", "#d55e00", "#009e73", "#c2639a", "#a87900", "#7a68c8", "#7f7f7f", "#8c6d1f")
"""Colours of the arms, after Okabe and Ito's palette; each has a contrast of at least 3:1 against white and
against the dark page, which WCAG 2 asks of lines."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK = "#010203"
"""Drawn in place of the page's text colour, which matplotlib cannot name; `finish` replaces it."""
WIDTH = 5.2
"""Inches of a chart's width, at 72 units an inch."""
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

Cell = str | float | None


@dataclass(frozen=True, eq=False)
class Chart:
    """A chart, with the numbers that it shows.

    Attributes:
        title: names the chart.
        description: says what it shows to those who do not see it.
        figure: matplotlib's figure.
        head: names of the columns of the numbers.
        rows: the numbers.
        short: whether the numbers are few enough to stand on a page.
    """

    title: str
    description: str
    figure: Figure
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    short: bool = True

    @cached_property
    def svg(self) -> str:
        """The chart as an SVG element with title and description."""
        from matplotlib import rc_context

        out = io.StringIO()
        # One salt per chart: ids stay apart on the page, and the file is the same each time it is written.
        with styled(), rc_context({"svg.hashsalt": self.title + self.description}):
            metadata = {"Title": self.title, "Date": None}
            self.figure.savefig(out, format="svg", transparent=True, metadata=metadata)
        svg = out.getvalue()
        svg = re.sub(
            r"\s*<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.S
        )
        svg = re.sub(r' id="[\w.]+_\d+"', "", svg).replace(INK, "currentColor")
        return svg.replace("<svg ", '<svg role="img" ', 1).replace(
            "</title>", f"</title><desc>{escape(self.description)}</desc>", 1
        )

    def png(self) -> bytes:
        """Return the chart as a PNG file on white paper."""
        out = io.BytesIO()
        with styled():
            self.figure.savefig(out, format="png", dpi=130, facecolor="white")
        return out.getvalue()

    def plain(self) -> dict[str, Any]:
        """Return the numbers for a JSON file."""
        return {"title": self.title, "columns": self.head, "rows": self.rows}


@contextmanager
def styled() -> Iterator[None]:
    """Draw in `STYLE`: matplotlib gives an artist its colour, and decides on formulas, when it is made."""
    from matplotlib import rc_context

    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the reader's own font draws it
        yield


def color_of(style: int) -> str:
    """Return the colour of the ``style``-th arm."""
    return COLORS[style % len(COLORS)]


def line_style(style: int) -> dict[str, Any]:
    """Return colour and dashes of the ``style``-th arm, as matplotlib's arguments."""
    return {"color": color_of(style), "linestyle": DASHES[style % len(DASHES)]}


def new_figure(height: float, width: float = WIDTH) -> tuple[Figure, Any]:
    """Return a figure of so many inches, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def finish(
    figure: Figure,
    handles: Sequence[Any],
    names: Sequence[str],
    *,
    title: str,
    description: str,
    head: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    short: bool = True,
) -> Chart:
    """Make a chart of a figure, with a legend below it, a title and a description.

    Args:
        figure: drawn in `STYLE`.
        handles: what the legend explains; none for no legend.
        names: of the handles.
        title: names the chart for people who do not see it.
        description: says what it shows.
        head: names of the columns of the numbers.
        rows: the numbers.
        short: whether they are few enough to stand on a page.
    """
    if handles:
        columns = max(1, 56 // (max(map(len, names)) + 8))
        figure.legend(handles, names, loc="outside lower center", ncols=columns)
    return Chart(title, description, figure, tuple(head), tuple(tuple(row) for row in rows), short)
