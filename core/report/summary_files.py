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
        lines += [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
        lines += [*(f"| {' | '.join(row)} |" for row in rows), ""]
    for told in comparisons:
        lines += [f"#### {_plain(told['name'])}", ""] if told["name"] else []
        lines += _sentences(told["words"], told["warnings"])
        lines += [line for table in told.get("ladder", {}).get("tables", ()) for line in _table(table)]
        names = [_plain(arm["name"]) for arm in told["arms"]]
        lines += [f"| | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
        for row in told["rows"]:
            if any(value is not None for value in row["values"]):
                texts = [f"**{t}**" if best else t for t, best in zip(row["texts"], row["best"])]
                lines.append(f"| {_plain(row['label'])} | {' | '.join(texts)} |")
        lines.append("")
    return "\n".join(lines)


def _sentences(words: Sequence[str], notes: Sequence[str]) -> list[str]:
    """Return the lines of sentences and of notes below them."""
    lines = [line for text in words for line in (_plain(text), "")]
    return lines + [f"> **Note:** {_plain(text)}\n>" for text in notes] + ([""] if notes else [])


def _table(table: dict[str, Any]) -> list[str]:
    """A table of texts in Markdown, with an empty line behind it."""
    rows = [f"| {' | '.join(map(_plain, row))} |" for row in (table["columns"], *table["rows"])]
    title = [f"**{_plain(table['title'])}**", ""] if table["title"] else []
    return [*title, rows[0], "|---" * len(table["columns"]) + "|", *rows[1:], ""]


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
                cells = (row[name][place] for name in ("values", "lows", "highs"))
                texts = [_cell(told["name"]), _cell(row["key"]), _cell(arm["name"]), arm["seeds"]]
                writer.writerow([*texts, *("" if cell is None else cell for cell in cells)])
        for key, name, gain in _ladder(told.get("ladder")):
            what = [_cell(told["name"]), _cell(f"{key} {gain['metric']}"), _cell(name), min(gain["seeds"])]
            numbers = ("" if gain[end] is None else gain[end] for end in ("value", "low", "high"))
            writer.writerow([*what, *numbers])
    for over in sets.verdicts if sets is not None else ():
        what = [_cell(f"difference in {over.metric}"), _cell(" minus ".join(over.pair)), ""]
        rows: dict[str, Difference | OverSets] = {**over.sets, "mean over the sets": over}
        for name, one in rows.items():
            numbers = ("" if cell is None else cell for cell in (one.value, one.low, one.high))
            writer.writerow([_cell(name), *what, *numbers])
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
