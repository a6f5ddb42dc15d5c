"""A ladder in the report: what each step gains, and two neighbouring steps in both orders."""

from __future__ import annotations

from collections.abc import Sequence

from densedet.core.report.arms import Comparison
from densedet.core.report.charts.bars import Value, forest_chart
from densedet.core.report.charts.chart import Chart
from densedet.core.report.comparison import obstacles, table_text, told_lines, write_number
from densedet.core.report.rungs import Ladder, Step, Swap
from densedet.core.report.sections import Section, Table, charts_of
from densedet.core.statistics.differences import Difference, Interaction, gain
from densedet.core.text import counted


def ladder_words(ladder: Ladder) -> list[str]:
    """Return sentences without a full stop on the whole ladder, its steps and its interactions."""
    whole = ladder.gains.get(ladder.whole)
    words = [whole.words()] if whole else []
    told = [(step, ladder.gains.get((step.above, step.below))) for step in ladder.steps]
    sure = [
        f"{step.title} {'gains' if one.verdict == 'first' else 'loses'} "
        f"{gain(one.value, one.low or 0.0, one.high or 0.0)}"
        for step, one in told
        if one and one.verdict in ("first", "second")
    ]
    rest = [step.title for step, one in told if one and one.verdict == "not distinguishable"]
    if len(ladder.steps) > 1:
        words += [f"Step by step, {_listed(sure)}"] if sure else []
        words += [f"Gain or loss is not distinguishable from chance for {_listed(rest)}"] if rest else []
    known = ladder.interactions.values()
    words += [each.words() for each in known if each.verdict in ("first", "second")]
    quiet = [f"{e.first} and {e.second}" for e in known if e.verdict == "not distinguishable"]
    words += [f"No interaction is distinguishable between {'; '.join(quiet)}"] if quiet else []
    return [f"{text[:1].upper()}{text[1:]}" if text.startswith("no ") else text for text in words]


def _listed(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def ladder_section(comparison: Comparison, ladder: Ladder) -> Section:
    """Charts of the metric and of the gains, the table of the rungs, and that of both orders."""
    metric = comparison.arms[0].metric
    section = Section("The ladder, step by step", leads=True)
    section.notes = [
        "Each rung has one more part of the upper recipe than the rung below it. A gain is the rung's "
        f"{metric} minus that of the rung below, with its 95 % interval; verdicts are corrected for the "
        "number of steps (Holm).",
        *(f"{text}." for step in ladder.steps for text in step.refused),
    ]
    rungs = comparison.columns
    section.charts = charts_of(
        forest_chart(
            [arm.name for arm in rungs],
            [(metric, [arm.ranged(metric) for arm in rungs], 0)],
            title=f"{metric} of each rung",
            x_label=metric,
        ),
        _gain_chart(ladder, metric),
    )
    section.tables = ladder_tables(comparison, ladder)
    if len(section.tables) > 1:
        section.notes.append(
            "Two neighbouring steps are trained in both orders where the other order can be built. Their "
            "interaction is what each gains on top of the other, minus what it gains without it."
        )
    for swap in ladder.swaps:
        if swap.why:
            section.notes.append(
                f"{swap.upper.title} is not tried before {swap.lower.title}: {swap.why.rstrip('.')}."
            )
    return section


def _gain_chart(ladder: Ladder, metric: str) -> Chart | None:
    """Forest plot of what the steps gain, in each order."""
    orders = ("in the order of the ladder", "before the step below it", "after the step above it")
    found: list[list[Value]] = [[], [], []]
    for step in ladder.steps:
        gains = {order.partition(" ")[0]: told for order, told in ladder.gains_of(step)}
        for values, key in zip(found, ("", "before", "after")):
            values.append(_value(gains.get(key)))
    series = [
        (name, values, place)
        for place, (name, values) in enumerate(zip(orders, found))
        if any(value.known is not None for value in values)
    ]
    titles = [step.title for step in ladder.steps]
    return forest_chart(
        titles, series, title="gain of each step", x_label=f"difference in {metric}", zero=True
    )


def ladder_tables(comparison: Comparison, ladder: Ladder) -> list[Table]:
    """Return the table of the rungs and, where there are any, that of the steps in both orders."""
    arms = {arm.name: arm for arm in comparison.arms}
    metric = comparison.arms[0].metric
    rows = []
    for name, step in zip(ladder.rungs, [None, *ladder.steps]):
        arm = arms.get(name)
        told = ladder.gains.get((step.above, step.below)) if step else None
        rows.append(
            (
                name,
                "; ".join(f"{_key(path)}: {words}" for path, words in step.changes.items()) if step else "",
                arm.ranged(metric).text() if arm else "–",
                _value(told).text("+.3f") if step else "",
                _verdict(comparison, told, (step.above, step.below)) if step else "",
                write_number(arm.value("minutes") if arm else None, "minutes"),
                write_number(arm.value("parameters") if arm else None, "count"),
            )
        )
    head = ("rung", "what changes", metric, "gain (95 % interval)", "verdict", "minutes", "parameters")
    both = [_both_orders(comparison, ladder, swap) for swap in ladder.trained_swaps]
    tables = [Table(head, rows)]
    if both:
        columns = ("two steps", "in the order of the ladder", "in the other order", "interaction", "verdict")
        tables.append(Table(columns, both, "Neighbouring steps in both orders"))
    return tables


def _key(path: str) -> str:
    return path.rpartition(".")[2]


def _both_orders(comparison: Comparison, ladder: Ladder, swap: Swap) -> tuple[str, ...]:
    lower, upper = swap.lower, swap.upper

    def gains(first: Step, second: Step, between: str) -> str:
        pairs = ((first, (between, lower.below)), (second, (upper.above, between)))
        return ", then ".join(
            f"{step.title} {_value(ladder.gains.get(pair)).text('+.3f')}" for step, pair in pairs
        )

    told = ladder.interactions.get(swap.arm)
    arms = (lower.below, lower.above, swap.arm, upper.above)
    return (
        f"{lower.title} and {upper.title}",
        gains(lower, upper, lower.above),
        gains(upper, lower, swap.arm),
        _value(told).text("+.3f"),
        _verdict(comparison, told, arms),
    )


def _value(told: Difference | None) -> Value:
    return Value(None) if told is None else Value(told.value, told.low, told.high)


def _verdict(comparison: Comparison, told: Difference | None, arms: Sequence[str]) -> str:
    """A verdict in a few words; where there is none, why."""
    if told is None:
        runs = comparison.runs_of(*arms)
        why = (obstacles(runs) or ["A run is missing or could not be judged."])[0].partition(":")[0]
        return f"unknown: {why[:1].lower()}{why[1:].rstrip('.')}"
    if told.verdict == "unknown":
        return "unknown: one seed does not tell how much seeds vary" if not told.seeds_known else "unknown"
    if told.verdict == "not distinguishable":
        chance = "not distinguishable"
        return chance if told.need is None or told.need.enough else f"{chance}; {told.need.words()}"
    if isinstance(told, Interaction):
        return f"they {'help' if told.first_ahead else 'hamper'} each other"
    return "better" if told.verdict == "first" else "worse"


def comparison_text(comparison: Comparison) -> str:
    """Return a comparison for a terminal: its table (of a ladder that of the rungs), sentences, warnings."""
    ladder = comparison.ladder
    if ladder is None:
        return table_text(comparison)
    tables = ladder_tables(comparison, ladder)
    blocks = ["\n".join(filter(None, [table.title, *table.lines()])) for table in tables]
    return "\n\n".join([*blocks, "\n".join(told_lines(comparison))])


def plan_lines(ladder: Ladder, seeds: int, sets: int) -> list[str]:
    """Return what is going to be trained, in lines.

    Args:
        ladder: the ladder.
        seeds: number of seeds.
        sets: number of data sets.
    """
    lines = [f"ladder from {ladder.rungs[0]} to {ladder.rungs[-1]}:"]
    for place, step in enumerate(ladder.steps, start=1):
        changes = "; ".join(f"{path}: {words}" for path, words in step.changes.items())
        lines.append(f"  {place}. {changes}")
        lines += [f"     {text}" for text in step.refused]
    for swap in ladder.swaps:
        told = f"trained, too ({swap.arm})" if swap.arm else f"not trained: {swap.why}"
        lines += [f"  {swap.upper.title} before {swap.lower.title}: {told}"] if swap.arm or swap.why else []
    rungs, swaps = len(ladder.rungs), len(ladder.trained_swaps)
    if skipped := sum(not swap.arm and not swap.why for swap in ladder.swaps):
        lines.append(f"  the other order of {counted(skipped, 'pair')} of steps: left out by --swaps")
    many = f" on {sets} data sets" if sets > 1 else ""
    lines.append(
        f"{rungs} rungs and {swaps} in the other order, {counted(seeds, 'seed')} each{many}: "
        f"{(rungs + swaps) * seeds * sets} runs"
    )
    return lines
