"""The table of a comparison as Markdown, to paste into a pull request, and as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from densedet.core.report.sets import Overview
from densedet.core.statistics.differences import Difference, OverSets
from densedet.core.text import visible

MARKUP = re.compile(r"([\\`*_\[\]<>|~!@&])")
"""Letters that Markdown, or HTML in it, would take for markup."""


def markdown_text(title: str, comparisons: Sequence[dict[str, Any]], sets: Overview | None = None) -> str:
    """Write the verdict, the warnings and the table in Markdown.

    Args:
        title: heading.
        comparisons: one a data set, as `densedet.core.report.comparison.compare` returns them.
        sets: what is told of all data sets together; None: there is one.
    """
    lines = [f"### {_plain(title)}", ""]
    if sets is not None:
        lines += _sentences(sets.words, sets.notes)
        head, *rows = [[_plain(cell) for cell in row] for row in (sets.table.head, *sets.table.rows)]
        lines += _table(head, rows, numbers=True)
    for told in comparisons:
        lines += [f"#### {_plain(told['name'])}", ""] if told["name"] else []
        lines += _sentences(told["words"], told["warnings"])
        for table in told.get("ladder", {}).get("tables", ()):
            lines += [f"**{_plain(table['title'])}**", ""] if table["title"] else []
            head, *rows = [[_plain(cell) for cell in row] for row in (table["columns"], *table["rows"])]
            lines += _table(head, rows)
        rows = [
            [_plain(row["label"]), *(f"**{t}**" if best else t for t, best in zip(row["texts"], row["best"]))]
            for row in told["rows"]
            if any(value is not None for value in row["values"])
        ]
        lines += _table(["", *(_plain(arm["name"]) for arm in told["arms"])], rows, numbers=True)
    return "\n".join(lines)


def _sentences(words: Sequence[str], notes: Sequence[str]) -> list[str]:
    """Return the lines of sentences and of notes below them."""
    lines = [line for text in words for line in (_plain(text), "")]
    return lines + [f"> **Note:** {_plain(text)}\n>" for text in notes] + ([""] if notes else [])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> list[str]:
    """Return the lines of a table of Markdown's cells, with an empty line behind it; numbers stand right."""
    lines = [f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in row)}|" for row in (head, *rows)]
    return [lines[0], f"|---|{('---:|' if numbers else '---|') * (len(head) - 1)}", *lines[1:], ""]


def _plain(text: str) -> str:
    """Escape markup in a text."""
    return MARKUP.sub(r"\\\1", visible(text))


def csv_text(comparisons: Sequence[dict[str, Any]], sets: Overview | None = None) -> str:
    """Write the table as CSV: a line for each data set, number and arm, with the ends of its range.

    Args:
        comparisons: one a data set, as `densedet.core.report.comparison.compare` returns them.
        sets: adds a line for the difference of each pair of arms on each set and over the sets.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["data", "key", "arm", "seeds", "value", "low", "high"])
    for told in comparisons:
        for row in told["rows"]:
            for place, arm in enumerate(told["arms"]):
                numbers = [row[name][place] for name in ("values", "lows", "highs")]  # None: an empty cell
                what = [_cell(told["name"]), _cell(row["key"]), _cell(arm["name"]), arm["seeds"]]
                writer.writerow([*what, *numbers])
        for key, name, gain in _ladder(told.get("ladder")):
            what = [_cell(told["name"]), _cell(f"{key} {gain['metric']}"), _cell(name), min(gain["seeds"])]
            writer.writerow([*what, *(gain[end] for end in ("value", "low", "high"))])
    for over in sets.verdicts if sets is not None else ():
        what = [_cell(f"difference in {over.metric}"), _cell(" minus ".join(over.pair)), ""]
        rows: dict[str, Difference | OverSets] = {**over.sets, "mean over the sets": over}
        for name, one in rows.items():
            writer.writerow([_cell(name), *what, one.value, one.low, one.high])
    return out.getvalue()


def _ladder(ladder: dict[str, Any] | None) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (what it is, of which steps, difference) of the gains and interactions of a ladder."""
    if ladder is None:
        return
    for step in ladder["steps"]:
        for one in step["gains"]:
            yield "gain in", " ".join(filter(None, [step["title"], one["order"]])), one
    for swap in ladder["swaps"]:
        if swap["interaction"]:
            yield "interaction in", f"{swap['lower']} and {swap['upper']}", swap["interaction"]


def _cell(text: str) -> str:
    """A name as a cell; a spreadsheet must not take it for a formula."""
    text = visible(text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
