"""Several data sets: the metric of each arm on each set, and which arm is better over the sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from densedet.core.report.arms import Comparison
from densedet.core.report.charts.bars import Value, forest_chart
from densedet.core.report.sections import Section, Table, charts_of
from densedet.core.statistics.differences import Difference, OverSets, over_all_sets
from densedet.core.text import short


@dataclass
class Overview:
    """What is told of all data sets together.

    Attributes:
        table: the metric of each arm on each set. A cell has the mean over the seeds and, in brackets, the
            interval, or where none is known the least and the largest of them.
        verdicts: of each pair of arms, over the sets on which it compares.
        notes: sentences that the reader must know.
    """

    table: Table
    verdicts: list[OverSets]
    notes: list[str] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        """The verdicts in sentences."""
        return [f"{verdict.words()}." for verdict in self.verdicts]

    def lines(self) -> list[str]:
        """Return table and verdicts for a terminal."""
        return [*self.table.lines(), *self.words]

    def section(self) -> Section:
        """Return table and differences for the page."""
        charts = []
        for told in self.verdicts:
            values = [Value(one.value, one.low, one.high) for one in told.sets.values()]
            title = f"{told.pair[0]} minus {told.pair[1]}"
            groups = [*told.sets, *(["mean over the sets"] if len(values) > 1 else [])]
            series = [(title, [*values, Value(told.value, told.low, told.high)][: len(groups)], 0)]
            label = f"difference in {told.metric}"
            charts.append(forest_chart(groups, series, title=title, x_label=label, zero=True))
        note = (
            "Lines are 95 % intervals: on a set for new images of its kind, of the mean for new sets, where "
            "there are three sets or more."
        )
        title = "Each arm on each data set"
        return Section(title, [note] if any(charts) else [], charts_of(*charts), [self.table])

    def plain(self) -> dict[str, Any]:
        """Return the numbers for a JSON file."""
        verdicts = [verdict.to_dict() for verdict in self.verdicts]
        return {"table": self.table.plain(), "verdicts": verdicts, "notes": self.notes}


def overview(
    comparisons: Sequence[Comparison], pairs: Sequence[Sequence[Difference]], notes: Sequence[str] = ()
) -> Overview | None:
    """Put data sets side by side.

    Args:
        comparisons: one a data set.
        pairs: of each, the differences of the metric; none where its arms do not compare.
        notes: sentences about all of them.

    Returns:
        None for one data set.
    """
    if len(comparisons) < 2:
        return None
    sets = {one.name: found for one, found in zip(comparisons, pairs)}
    missing = [name for name, found in sets.items() if not found]
    told = [f"On {', '.join(missing)} nothing is told of the arms' differences, see there."] * bool(missing)
    return Overview(_table(comparisons), over_all_sets(sets), [*told, *notes])


def _table(comparisons: Sequence[Comparison]) -> Table:
    names = list(dict.fromkeys(arm.name for one in comparisons for arm in one.columns))
    metrics = {one.arms[0].metric for one in comparisons}
    head = ["", *(f"{one.arms[0].metric} on {short(one.name)}" for one in comparisons)]
    rows = []
    for name in names:
        found = [[arm.ranged(arm.metric) for arm in one.arms if arm.name == name] for one in comparisons]
        values = [cell[0].known for cell in found if cell]
        known = [value for value in values if value is not None]
        row = [short(name), *(cell[0].text() if cell else "–" for cell in found)]
        if len(metrics) == 1:
            row.append(f"{sum(known) / len(known):.3f}" if len(known) == len(comparisons) else "–")
        rows.append(row)
    return Table([*head, *(["mean"] if len(metrics) == 1 else [])], rows)
