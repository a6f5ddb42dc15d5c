"""The sections of a report as plain values: headings, notes, charts and tables. The page draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from densedet.core.report.charts.chart import Chart


@dataclass
class Table:
    """A table of texts.

    Attributes:
        head: names of the columns.
        rows: texts; the first one of each is its heading.
        title: above the table; may be empty.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""

    def lines(self) -> list[str]:
        """Return head and rows for a terminal, their columns aligned."""
        cells = [self.head, *self.rows]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.head))]
        return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in cells]

    def plain(self) -> dict[str, Any]:
        """Return the numbers for a JSON file."""
        return {"title": self.title, "columns": list(self.head), "rows": [list(row) for row in self.rows]}


@dataclass
class Diff:
    """A diff of two recipes.

    Attributes:
        title: above the diff.
        lines: sign (" ", "-" or "+"), line and comment each.
    """

    title: str
    lines: Sequence[tuple[str, str, str]]

    def plain(self) -> dict[str, Any]:
        """Return the lines for a JSON file."""
        return {"title": self.title, "lines": [list(line) for line in self.lines]}


@dataclass
class Section:
    """A part of the page.

    Attributes:
        title: heading.
        notes: sentences below it.
        charts: charts in a grid.
        tables: tables below them.
        diffs: diffs below these.
        leads: whether it stands above the table of numbers.
    """

    title: str
    notes: list[str] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    diffs: list[Diff] = field(default_factory=list)
    leads: bool = False

    def __bool__(self) -> bool:
        return bool(self.charts or self.tables or self.diffs)

    def plain(self) -> dict[str, Any]:
        """Return the section for a JSON file."""
        parts = {"charts": self.charts, "tables": self.tables, "diffs": self.diffs}
        return {
            "title": self.title,
            "notes": self.notes,
            **{name: [one.plain() for one in found] for name, found in parts.items() if found},  # type: ignore[attr-defined]
        }


def charts_of(*found: Chart | None) -> list[Chart]:
    """Return the charts that there are."""
    return [chart for chart in found if chart is not None]
