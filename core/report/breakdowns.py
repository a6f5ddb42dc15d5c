"""Sections that break the result down: by class, kind of error, size, and reason of a miss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from densedet.core.report.arms import Analysis, Arm, Comparison, class_names
from densedet.core.report.charts.bars import Value, bar_chart, forest_chart
from densedet.core.report.charts.chart import Chart
from densedet.core.report.charts.lines import line_chart, over_seeds
from densedet.core.report.charts.matrix import matrix_chart
from densedet.core.report.sections import Section, Table, charts_of

MOST = 40
"""Most classes of a chart."""
IN_MATRIX = 10
"""Most classes of a confusion matrix; the others are one row."""
ERRORS = {
    "Cls": "wrong class",
    "Loc": "box too far off",
    "Both": "class and box wrong",
    "Dupe": "second detection of an object",
    "Bkg": "background taken for an object",
    "Miss": "object without a detection",
}
"""TIDE's kinds of errors in words (Bolya et al. 2020)."""
SEED_RANGE = "Thin lines go from the least to the largest seed."
INTERVALS = "Lines are 95 % intervals."


def difference_section(comparison: Comparison) -> Section:
    """Forest plot and table of the differences of the arms."""
    found = comparison.differences
    if not found:
        return Section("Differences")
    pairs = list(dict.fromkeys((one.first, one.second) for one in found))
    charts: list[Chart | None] = []
    tables = []
    for first, second in pairs:
        rows = [one for one in found if (one.first, one.second) == (first, second)]
        title = f"{first} minus {second}"
        series = [(title, [row.value for row in rows], 0)]
        charts.append(
            forest_chart(
                [row.what for row in rows[:MOST]], series, title=title, x_label="difference", zero=True
            )
        )
        cells = [(row.what, row.value.text("+.3f"), "–" if row.p is None else f"{row.p:.3g}") for row in rows]
        tables.append(Table(("", "difference (95 % interval)", "p, corrected"), cells, title))
    notes = [
        "An interval that does not touch the line at 0 rules chance out, for that row alone. Of many rows "
        "some do so by chance: p is corrected for their number (Holm)."
    ]
    return Section("Differences", notes, charts_of(*charts), tables)


def class_section(arms: Sequence[Arm]) -> Section:
    """Forest plot of AP per class."""
    names = class_names(arms)
    section = Section("AP per class")
    if not names:
        return section
    shown = names[:MOST]
    series = [(a.name, [a.ranged(f"classes.{name}.AP") for name in shown], i) for i, a in enumerate(arms)]
    section.charts = charts_of(forest_chart(shown, series, title="AP per class", x_label="AP"))
    if any(f"classes.{name}.AP" in arm.intervals for arm in arms for name in names):
        section.notes.append(INTERVALS)
    elif any(len(arm.runs) > 1 for arm in arms):
        section.notes.append(SEED_RANGE)
    if len(names) > MOST:
        section.notes.append(f"The first {MOST} of {len(names)} classes; the JSON file has all.")
    return section


def error_section(arms: Sequence[Arm]) -> Section:
    """Bars of TIDE's errors, and the confusion matrices."""
    section = Section("Errors")
    kinds = [kind for kind in ERRORS if any(kind in n.errors for arm in arms for n in arm.analyses)]
    if kinds:
        series = _series(arms, [lambda n, kind=kind: n.errors.get(kind) for kind in kinds])  # type: ignore[misc]
        title = "AP50 that would be gained without an error"
        section.charts = charts_of(
            bar_chart([ERRORS[kind] for kind in kinds], series, title=title, x_label="AP50 gained")
        )
        section.notes.append(
            "The errors are TIDE's: each bar is the AP50 that the repair of one kind would gain."
        )
    for place, arm in enumerate(arms):
        chart = _confusion(arm, place)
        section.charts += charts_of(chart)
    if len(section.charts) > bool(kinds):
        section.notes.append(
            "In a confusion matrix a row is what an object is, a column what it was taken for, at IoU 0.5 "
            "and the score thresholds of prediction; means over the seeds."
        )
    return section


def _confusion(arm: Arm, place: int) -> Chart | None:
    known = [(n.classes, n.confusion) for n in arm.analyses if n.confusion is not None]
    if not known:
        return None
    names = list(known[0][0])
    counts = np.mean([matrix for classes, matrix in known if list(classes) == names], axis=0)
    if len(names) > IN_MATRIX:
        kept = np.sort(np.argsort(-counts[:-1].sum(axis=1), kind="stable")[: IN_MATRIX - 1])
        group = np.full(len(names) + 1, len(kept))
        group[kept], group[-1] = np.arange(len(kept)), len(kept) + 1
        joined = np.zeros((len(kept) + 2, len(kept) + 2))
        np.add.at(joined, (group[:, None], group[None, :]), counts)
        names, counts = [*(names[i] for i in kept), "others"], joined
    return matrix_chart(
        [*names, "nothing"],
        counts,
        title=f"confusion of {arm.name}",
        x_label=f"taken by {arm.name} for",
        y_label="object",
        style=place,
    )


def size_section(arms: Sequence[Arm]) -> Section:
    """Charts of AP by size."""
    section = Section("Sizes")
    units = dict.fromkeys(unit for arm in arms for n in arm.analyses for unit in n.sizes)
    for unit in units:
        bins = next(n.sizes[unit] for arm in arms for n in arm.analyses if unit in n.sizes)
        if len(bins) <= 4:
            series = _series(arms, [_bin(unit, number) for number in range(len(bins))])
            groups = [f"{one.label} ({one.objects})" for one in bins]
            section.charts += charts_of(bar_chart(groups, series, title=f"AP by {unit}", x_label="AP"))
            continue
        lines = [
            over_seeds(
                arm.name,
                [
                    [(one.middle, one.precision) for one in n.sizes[unit] if one.precision is not None]
                    for n in arm.analyses
                    if unit in n.sizes
                ],
                place,
            )
            for place, arm in enumerate(arms)
        ]
        section.charts += charts_of(
            line_chart(lines, title=f"AP by {unit}", x_label=unit, y_label="AP", marks=True, x_log=True)
        )
        rows = [(one.label, str(one.objects)) for one in bins]
        section.tables.append(Table((unit, "objects"), rows, f"Objects by {unit}"))
    if section.charts:
        section.notes.append("In brackets stands the number of objects.")
    return section


def missed_section(arms: Sequence[Arm]) -> Section:
    """Why objects were missed: reasons and counts."""
    section = Section("Why objects were missed")
    reasons = list(dict.fromkeys(reason for arm in arms for n in arm.analyses for reason in n.missed))
    judged = [arm for arm in arms if arm.analyses]
    if not judged or not any(n.objects for arm in judged for n in arm.analyses):
        return section
    getters = [lambda n, reason=reason: float(n.missed.get(reason, 0)) for reason in reasons]  # type: ignore[misc]
    if reasons:
        series = _series(arms, getters)
        section.charts = charts_of(
            bar_chart(reasons, series, title="objects missed, by reason", x_label="objects", form=".4g")
        )
    for arm in judged:
        total = np.mean([sum(n.missed.values()) for n in arm.analyses])
        objects = np.mean([n.objects for n in arm.analyses])
        section.notes.append(f"{arm.name} misses {total:.4g} of {objects:.4g} objects.")
    section.notes.append(
        "An object is missed where no detection of its class, at or above the score threshold of prediction, "
        "overlaps it by half or more (IoU). Each has one reason; the counts are means over the seeds."
    )
    return section


def _bin(unit: str, number: int) -> Callable[[Analysis], float | None]:
    return lambda n: n.sizes[unit][number].precision if unit in n.sizes else None


def _series(
    arms: Sequence[Arm], getters: Sequence[Callable[[Analysis], float | None]]
) -> list[tuple[str, list[Value], int]]:
    """Return the means over the seeds, from the least to the largest, of the arms that were judged."""
    series = []
    for place, arm in enumerate(arms):
        values = []
        for getter in getters:
            known = [value for n in arm.analyses if (value := getter(n)) is not None]
            mean = float(np.mean(known)) if known else None
            values.append(Value(mean, min(known), max(known)) if len(known) > 1 else Value(mean))
        if arm.analyses:
            series.append((arm.name, values, place))
    return series
