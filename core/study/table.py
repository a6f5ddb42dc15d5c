"""The metric of each arm on each data set."""

from __future__ import annotations

import html
from collections.abc import Sequence

from densedet.core.report.arms import Comparison
from densedet.core.text import short


def metric_rows(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """Return the rows of the table, the heading first: an arm a row, a data set a column.

    A cell has the mean over the seeds and, in brackets, the interval or the least and the largest of them.

    Args:
        comparisons: one a data set.
    """
    names = list(dict.fromkeys(arm.name for one in comparisons for arm in one.arms))
    rows = [["", *(f"{one.arms[0].metric} on {short(one.name)}" for one in comparisons)]]
    for name in names:
        row = [short(name)]
        for one in comparisons:
            found = [arm.ranged(arm.metric) for arm in one.arms if arm.name == name]
            value, low, high = (found[0].value, found[0].low, found[0].high) if found else (None, None, None)
            text = "–" if value is None else f"{value:.3f}"
            row.append(text if low is None or high is None else f"{text} ({low:.3f} to {high:.3f})")
        rows.append(row)
    return rows


def table_text(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned text."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows)


def table_html(rows: Sequence[Sequence[str]], title: str) -> str:
    """Return rows as an HTML fragment with a heading."""
    head, *body = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    lines = "".join(f"<tr>{line}</tr>" for line in body)
    return f"<h2>{html.escape(title)}</h2><table><tr>{head}</tr>{lines}</table>"
