"""The section on costs: what each arm costs beside what it gives."""

from __future__ import annotations

from collections.abc import Sequence

from densedet.core.mappings import at_path
from densedet.core.report.arms import Arm, Comparison, Measured
from densedet.core.report.charts.bars import Value
from densedet.core.report.charts.chart import Chart
from densedet.core.report.charts.pareto import Offer, pareto_chart
from densedet.core.report.comparison import are_sure, obstacles, write_number
from densedet.core.report.records import RunRecord, number
from densedet.core.report.sections import Section, Table, charts_of

OFFERS = (
    ("predict_images_per_second", "images predicted per second", False),
    ("minutes", "minutes of training", True),
    ("parameters", "million parameters", True),
)
"""Cost, axis, and whether less of it is better."""
ENERGY = (("train_joules", "training"), ("predict_joules", "prediction"))
"""Joules an image, among an arm's measured costs."""


def cost_section(comparison: Comparison, reach: float | None = None) -> Section:
    """Pareto charts, minutes to a given metric, energy, and the rounds of the measurements.

    Args:
        comparison: the arms.
        reach: value of the metric to which the minutes are told; None: that of the weakest arm.
    """
    arms = comparison.arms
    section = Section("Cost beside quality")
    ordered = not obstacles(comparison.runs)
    section.charts = charts_of(
        *(_pareto(arms, *offer, ordered and are_sure(arms, offer[0])) for offer in OFFERS)
    )
    if section.charts and ordered:
        section.notes.append(
            "Filled marks are arms that no other arm beats in both numbers; the dotted line joins them. "
            "There are none where a speed is not sure. Vertical lines are the ranges of the table."
        )
    elif section.charts:
        section.notes.append("The arms do not compare, so none is marked as unbeaten.")
    table = reach_table(arms, reach)
    section.tables += [table] if table else []
    energy = energy_table(arms)
    section.tables += [energy] if energy else []
    if energy is None and any(arm.measured for arm in arms):
        section.notes.append("Energy: not told by this system.")
    if rounds := _rounds(arms):
        section.tables.append(rounds)
        section.notes.append(
            "Speeds were measured in turns in one process after training, each arm once a round; the table "
            "above has the medians. Where the rounds of an arm differ by more than 10 %, its speed is called "
            "unreliable."
        )
    return section


def _pareto(arms: Sequence[Arm], key: str, label: str, less: bool, ordered: bool) -> Chart | None:
    metric, larger = arms[0].metric, arms[0].higher_is_better
    unit = 1e6 if key == "parameters" else 1
    offers = []
    for place, arm in enumerate(arms):
        quality, cost = arm.ranged(metric), arm.value(key)
        if quality.known is not None and cost is not None:
            offers.append(Offer(arm.name, quality.known, cost / unit, quality.low, quality.high, style=place))
    title = f"{metric} against {label}"
    return pareto_chart(
        offers,
        title=title,
        x_label=f"{label} ({'less' if less else 'more'} is better)",
        y_label=metric,
        less_cost=less,
        less_quality=not larger,
        ordered=ordered,
    )


def minutes_to(run: RunRecord, value: float) -> float | None:
    """Return the minutes of training after which a run first reached a value of its metric.

    It is read off the line between two evaluations.

    Args:
        run: with evaluations.
        value: of the run's metric.

    Returns:
        The minutes; None where no evaluation has it.
    """
    sign = 1.0 if run.higher_is_better else -1.0
    before: tuple[float, float] | None = None
    for event in run.evaluations:
        seconds, now = number(event.get("seconds")), number(at_path(event, f"metrics.{run.metric}"))
        if seconds is None or now is None:
            continue
        if sign * now >= sign * value:
            if before is None or now == before[1]:
                return seconds / 60
            share = (value - before[1]) / (now - before[1])
            return (before[0] + share * (seconds - before[0])) / 60
        before = seconds, now
    return None


def reach_table(arms: Sequence[Arm], reach: float | None = None) -> Table | None:
    """Return the table of the minutes to a value of the metric; None where no arm has evaluations.

    Args:
        arms: the arms.
        reach: the value; None: what the weakest arm has at its end.
    """
    ends = [value for arm in arms if (value := arm.value(arms[0].metric)) is not None]
    if not ends or len(ends) < len(arms):
        return None
    larger = arms[0].higher_is_better
    goal = (min(ends) if larger else max(ends)) if reach is None else reach
    rows = []
    for arm in arms:
        times = [minutes_to(run, goal) for run in arm.runs]
        known = [minutes for minutes in times if minutes is not None]
        spread = (min(known), max(known)) if len(known) > 1 else (None, None)
        text = Value(sum(known) / len(known), *spread).text(".2f") if known else "not reached"
        if known and len(known) < len(times):
            text += f", {len(times) - len(known)} of {len(times)} seeds do not reach it"
        rows.append((arm.name, text))
    if not any(run.evaluations for arm in arms for run in arm.runs):
        return None
    origin = "what the weakest arm has at its end" if reach is None else "as wished"
    return Table(("", "minutes"), rows, f"Minutes of training to {arms[0].metric} {goal:.3f} ({origin})")


def energy_table(arms: Sequence[Arm]) -> Table | None:
    """Return the table of the energy that training on and predicting 1,000 images takes; None where no system
    told it."""
    if not any(key in arm.measured for arm in arms for key, _ in ENERGY):
        return None
    rows = []
    for arm in arms:
        found = (arm.measured.get(key) for key, _ in ENERGY)
        rows.append((arm.name, *("–" if m is None else f"{m.median * 1000:.3g}{_doubt(m)}" for m in found)))
    return Table(
        ("", *(label for _, label in ENERGY)), rows, "Energy of the whole machine, joules per 1,000 images"
    )


def _doubt(measured: Measured) -> str:
    return "" if measured.reliable else " (unreliable)"


def _rounds(arms: Sequence[Arm]) -> Table | None:
    labels = {"images_per_second": "training, images/s", "predict_images_per_second": "prediction, images/s"}
    rows = [
        (
            f"{arm.name}: {label}",
            write_number(measured.median, "rate"),
            ", ".join(write_number(value, "rate") for value in measured.values),
            "yes" if measured.reliable else "no: more than 10 % apart, or one",
        )
        for arm in arms
        for key, label in labels.items()
        if (measured := arm.measured.get(key))
    ]
    return Table(("", "median", "rounds", "reliable"), rows, "Rounds of the measurements") if rows else None
