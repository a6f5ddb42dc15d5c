"""A comparison of runs as plain values: table, sentences, warnings, differences of the recipes. The report
prints them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from densedet.core.mappings import at_path
from densedet.core.report.arms import Arm, Comparison, class_names
from densedet.core.report.charts.bars import Value
from densedet.core.report.records import RunRecord, number
from densedet.core.text import short

UNEQUAL = 1.10
"""Budgets or costs that differ by more than this factor get a warning."""


@dataclass(frozen=True)
class Row:
    """One row of the comparison table: the key in summary.json, its format, and whether a larger value is
    better (True, False, or None where neither is).

    Attributes:
        key: key in summary.json, or a dotted path into the metrics.
        label: text in the first column.
        form: format of the numbers, see `write_number`.
        better: True where a larger value is better, False where a smaller one is, None where neither is.
        note: explanation beside the label.
    """

    key: str
    label: str
    form: str
    better: bool | None = None
    note: str = ""


COCO_ROWS = (
    Row(
        "AP",
        "AP",
        "share",
        True,
        "COCO's average precision at the end of the run, mean over IoU 0.50 to 0.95",
    ),
    Row("AP50", "AP50", "share", True, "at IoU 0.50"),
    Row("AP75", "AP75", "share", True, "at IoU 0.75"),
)
COST_ROWS = (
    Row("parameters", "parameters", "count", False),
    Row("macs", "multiply-adds (MACs) per image", "count", False, "often called FLOPs in papers"),
    Row("flops", "FLOPs per image", "count", False, "2 per multiply-add"),
    Row("images_per_second", "training, images/s", "rate", True),
    Row(
        "predict_images_per_second",
        "prediction, images/s",
        "rate",
        True,
        "network, decoding and NMS; images already in memory",
    ),
    Row("peak_memory_mb", "peak memory, MB", "mb", False, "of the training process, imports included"),
    Row("gpu_peak_memory_mb", "peak GPU memory, MB", "mb", False, "held by torch's allocator"),
    Row("minutes", "training time, minutes", "minutes"),
    Row("steps", "optimizer steps", "whole"),
    Row("epochs", "epochs", "plain"),
    Row("images_seen", "images seen", "whole"),
    Row("seed", "seed", "plain"),
)


def compare(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as plain values: runs, rows, whether the arms are ranked, words, warnings,
    differences."""
    arms, runs = comparison.columns, comparison.runs
    return {
        "name": comparison.name,
        "arms": [{"name": arm.name, "seeds": len(arm.runs)} for arm in arms],
        "runs": [
            {"name": r.name, "folder": str(r.folder), "status": str(r.summary.get("status") or "no summary")}
            for r in runs
        ],
        "rows": table_rows(comparison),
        "ranked": not obstacles(runs),
        "interval": interval_words(arms),
        "words": summary_words(comparison),
        "warnings": [*warnings_of(arms), *comparison.notes],
        "differences": recipe_differences([arm.runs[0] for arm in arms]),
    }


def interval_words(arms: Sequence[Arm]) -> str:
    """Say what the ranges in the table are; "" where there is none."""
    if any(arm.intervals for arm in arms):
        return "the 95 % interval; where a row has none, from the least to the largest seed"
    return "from the least to the largest seed" if any(len(arm.runs) > 1 for arm in arms) else ""


def date_now() -> str:
    """Return the time in words, for headings."""
    return datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")


def table_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the rows of the table: key, label and note, and per arm the value (None where unknown), its
    ends, its text, and whether it is the best.

    No arm is the best of a cost where all are equal, of a quality where chance is not ruled out
    (`Comparison.distinct`), or of anything where the arms do not compare (`obstacles`).
    """
    arms = comparison.columns
    metric, larger = arms[0].metric, arms[0].higher_is_better
    note = "highest" if larger else "lowest"
    rules = {at_path(run.recipe, "evaluate.evaluator.name") for arm in arms for run in arm.runs}
    by_coco = rules <= {"coco", None}
    rows = [
        *([] if metric in {row.key for row in COCO_ROWS} else [Row(metric, short(metric), "share", larger)]),
        *(row if by_coco else replace(row, note="") for row in COCO_ROWS),
        *(Row(f"classes.{name}.AP", f"AP of {short(name)}", "share") for name in class_names(arms)),
        Row(
            "best_value",
            f"best {short(metric)} while training",
            "share",
            None,
            f"{note} of all evaluations, which flatters: it was picked on these images",
        ),
        *COST_ROWS,
    ]
    distinct = comparison.distinct if not obstacles(comparison.runs) else ()
    ranked = not obstacles(comparison.runs)
    return [_row(row, arms, ranked, distinct if row.key == metric else None) for row in rows]


def table_text(comparison: Comparison) -> str:
    """Return the table for a terminal, with a * behind the best of a row. Rows without a number are left
    out."""
    rows = [row for row in table_rows(comparison) if any(value is not None for value in row["values"])]
    cells = [
        [short(row["label"]), *(t + (" *" if best else "  ") for t, best in zip(row["texts"], row["best"]))]
        for row in rows
    ]
    table = [["", *(f"{short(arm.name)}  " for arm in comparison.columns)], *cells]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
        ).rstrip()
        for line in table
    ]
    return "\n".join([*lines, *told_lines(comparison)])


def told_lines(comparison: Comparison) -> list[str]:
    """Return what the table shows, and the warnings, for a terminal."""
    return [
        *summary_words(comparison),
        *(f"warning: {text}" for text in warnings_of(comparison.columns)),
    ]


def _row(row: Row, arms: Sequence[Arm], ranked: bool, distinct: Sequence[str] | None) -> dict[str, Any]:
    """A row of the table. ``distinct``: the arms that are best by more than chance, for a quality; None for
    costs."""
    found = [arm.ranged(row.key) if row.form == "share" else Value(arm.value(row.key)) for arm in arms]
    values = [each.value for each in found]
    texts = [_cell(arm, row, each) for arm, each in zip(arms, found)]
    known = [value for value in values if value is not None]
    sure = are_sure(arms, row.key)
    best = [False] * len(values)
    if distinct is not None:
        best = [arm.name in distinct for arm in arms]
    # The best is found among the written numbers: in three decimals 0.4002 is not better than 0.4001.
    elif ranked and row.better is not None and row.form != "share" and len(known) > 1 and sure:
        plain = [write_number(value, row.form) for value in values]
        top = write_number(max(known) if row.better else min(known), row.form)
        best = [text == top and len(set(plain) - {"–"}) > 1 for text in plain]
    return {
        "key": row.key,
        "label": row.label,
        "note": row.note,
        "values": values,
        "lows": [each.low for each in found],
        "highs": [each.high for each in found],
        "texts": texts,
        "best": best,
    }


def _cell(arm: Arm, row: Row, value: Value) -> str:
    """The text of a cell: the number, its range, and what makes it doubtful."""
    if row.key == "seed":
        return ", ".join(write_number(seed, row.form) for seed in arm.values(row.key)) or "–"
    text = write_number(value.value, row.form)
    if value.value is not None and value.low is not None and value.high is not None:
        text += f" ({write_number(value.low, row.form)} to {write_number(value.high, row.form)})"
    measured = arm.measured.get(row.key)
    return text if measured is None or measured.reliable else f"{text} (unreliable)"


def write_number(value: float | None, form: str) -> str:
    """Write a number for people.

    Args:
        value: the number; None is written "–".
        form: "share" 0.512, "count" 1.23 M, "rate" 120, "mb" 812, "minutes" 3.5, "whole" 1,200, "plain" 7.
    """
    if value is None:
        return "–"
    if form == "share":
        return f"{value:.3f}"
    if form == "count":
        units = ((1e9, " G"), (1e6, " M"), (1e3, " k"))
        size, unit = next(((s, u) for s, u in units if abs(value) >= s), (1, ""))
        return f"{value / size:.3g}{unit}" if abs(value / size) < 999.5 else f"{value / size:,.0f}{unit}"
    if form == "rate":
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    if form == "minutes":
        return f"{value:.1f}" if value >= 0.95 else f"{value:.2f}"
    return f"{value:,.0f}" if form in ("mb", "whole") else f"{value:g}"


def summary_words(comparison: Comparison) -> list[str]:
    """Return what the table shows, in sentences: first which arm is better, then the costs."""
    arms = comparison.columns
    ratios = [
        *_ratio(
            arms,
            "predict_images_per_second",
            "{large} predicts {factor:.1f} times as many images per second as {small}.",
        ),
        *_ratio(arms, "macs", "{large} takes {factor:.1f} times the multiply-adds of {small} for an image."),
        *_ratio(arms, "peak_memory_mb", "{large} takes {factor:.1f} times the memory of {small} to train."),
    ]
    if obstacles(comparison.runs):
        return [UNRANKED, *ratios]
    if comparison.verdicts:
        return [*comparison.verdicts, *ratios]
    metric, larger = arms[0].metric, arms[0].higher_is_better
    known = [(value, arm) for arm in arms if (value := arm.value(metric)) is not None]
    known.sort(key=lambda pair: -pair[0] if larger else pair[0])
    if not known:
        return ["No run has been evaluated yet, so there is nothing to rank."]
    (value, best), *others = known
    if len(arms) == 1:
        words = [f"{best.name} reaches {metric} {value:.3f}{_also(best)}."]
    elif not others:
        words = [f"Only {best.name} has been evaluated: {metric} {value:.3f}{_also(best)}."]
    else:
        words = [_gap(metric, value, best, *others[0]), _doubt(arms)]
    return [*words, *ratios]


def _doubt(arms: Sequence[Arm]) -> str:
    """Say what a difference without an interval is worth."""
    if all(len(arm.runs) == 1 for arm in arms):
        return (
            "Each is one run: whether a difference of this size would show again with another seed, "
            "these runs cannot tell."
        )
    seeds = ", ".join(f"{arm.name} {len(arm.runs)}" for arm in arms)
    return f"These are means over seeds ({seeds}), without an interval for their difference."


def _gap(metric: str, value: float, best: Arm, second_value: float, second: Arm) -> str:
    gap = abs(value - second_value)
    if gap < 0.0005:
        return f"{best.name} and {second.name} reach the same {metric}, {value:.3f}."
    return (
        f"{best.name} reaches {metric} {value:.3f}{_also(best)}; {second.name} follows with "
        f"{second_value:.3f}{_also(second)}, {gap:.3f} {'less' if value > second_value else 'more'}."
    )


def _also(arm: Arm) -> str:
    value = arm.value("AP50")
    return f" (AP50 {value:.3f})" if value is not None else ""


def _ratio(arms: Sequence[Arm], key: str, sentence: str) -> list[str]:
    """The sentence about the largest and the smallest cost, where it is sure that they differ."""
    if not are_sure(arms, key):
        return []
    known = sorted(((value, arm.name) for arm in arms if (value := arm.value(key))), key=lambda pair: pair[0])
    if len(known) < 2 or known[-1][0] / known[0][0] < UNEQUAL:
        return []
    return [sentence.format(large=known[-1][1], small=known[0][1], factor=known[-1][0] / known[0][0])]


SPEEDS = {
    "images_per_second": "The training speed",
    "predict_images_per_second": "The prediction speed",
}
"""Costs that are measured in turns, by their key."""


def are_sure(arms: Sequence[Arm], key: str) -> bool:
    """Whether a cost of the arms may be compared: a speed only where it was measured in turns, reliably. What
    each run has measured by itself depends on what the machine did meanwhile."""
    return all(arm.measured[key].reliable if key in arm.measured else key not in SPEEDS for arm in arms)


UNRANKED = "The runs are not ranked: the warnings say why."

CONTENT = {
    f"{split}.{of}": f"the {what} of the {images} images"
    for split, images in (("train", "training"), ("val", "validation"))
    for of, what in (("names", "names"), ("truth", "boxes"), ("pixels", "pixels"))
}
"""{key of a summary's fingerprints: words} of what is the same where the same images and boxes lie on another
disk."""
DATA = (
    "data.root",
    "data.train",
    "data.val",
    "data.holdout",
    "data.holdout_seed",
    "data.filter",
    "data.val_filter",
    "data.input_size_wh",
    "data.color",
    "data.classes",
)
"""Paths of a recipe on which the meaning of a run's numbers depends."""

PLACES = ("data.root", "data.train", "data.val")
"""Those of them that may differ where the images and boxes are known to be the same."""


def obstacles(runs: Sequence[RunRecord]) -> list[str]:
    """Return sentences on why the runs cannot be ranked, none where they can: they differ in data,
    evaluation, metric or budget, or one did not use its budget."""
    if len(runs) < 2:
        return []
    found = []
    same = _same_content(runs)
    paths = [path for path in DATA if _differ(runs, path) and not (same and path in PLACES)]
    drawn = [run for run in runs if at_path(run.recipe, "data.holdout")]
    drawn = [run for run in drawn if at_path(run.recipe, "data.holdout_seed") is None]
    if drawn and _differ(runs, "train.seed"):
        paths.append("train.seed")  # it draws the images that are held out
    if paths:
        found.append(
            f"The runs do not share the same data ({', '.join(paths)} differ{'s' * (len(paths) == 1)})."
        )
    elif len({tuple(r.class_names()) for r in runs if r.class_names()}) > 1:
        found.append("The runs were evaluated on different classes.")
    elif other := [words for of, words in CONTENT.items() if _content_differs(runs, of)]:
        found.append(f"The data were changed between the runs: {', '.join(other)}.")
    if _differ(runs, "evaluate.evaluator"):
        found.append("The runs were evaluated by different rules (evaluate.evaluator differs).")
    if len({(run.metric, run.higher_is_better) for run in runs}) > 1:
        found.append("The runs go by different metrics.")
    budgets = [at_path(run.recipe, "train.budget") for run in runs]
    minutes = any(isinstance(budget, dict) and budget.get("minutes") for budget in budgets)
    if _differ(runs, "train.budget"):
        given = ", ".join(f"{run.name} {_budget_words(budget)}" for run, budget in zip(runs, budgets))
        found.append(f"The runs have different budgets: {given}.")
    elif minutes and _machines_differ(runs):
        found.append("The runs had the same minutes on different machines.")
    elif any(budgets) and not minutes and _unequal(runs, "images_seen"):
        found.append("The runs have seen different numbers of images.")
    return found + _unfinished(runs)


def _budget_words(budget: Any) -> str:
    """Write a budget: "10 steps"."""
    given = budget if isinstance(budget, dict) else {}
    return ", ".join(f"{value:g} {unit}" for unit, value in given.items() if number(value)) or "unknown"


def _same_content(runs: Sequence[RunRecord]) -> bool:
    """Whether all fingerprints of the runs' data are known and the same."""
    told = [[at_path(run.summary, f"fingerprints.{of}") for of in CONTENT] for run in runs]
    train, val = told[0][: len(CONTENT) // 2], told[0][len(CONTENT) // 2 :]
    return all(train) and (all(val) or not any(val)) and all(one == told[0] for one in told)


def _unfinished(runs: Sequence[RunRecord]) -> list[str]:
    found = []
    for run in runs:
        status, reason = run.summary.get("status"), run.summary.get("reason")
        if status != "done":
            why = f"{status}{f': {reason}' if reason else ''}" if status else "it has no summary.json"
            found.append(
                f"{run.name} did not use its whole budget ({why}): its numbers are those of its last "
                f"evaluation."
            )
    return found


def _unequal(runs: Sequence[RunRecord | Arm], key: str) -> bool:
    """Whether a number of the runs differs by more than the factor `UNEQUAL`."""
    known = [value for run in runs if (value := run.value(key)) is not None]
    return len(known) > 1 and max(known) > min(known) * UNEQUAL


def _machines_differ(runs: Sequence[RunRecord]) -> bool:
    return len(machines_of([run for run in runs if run.summary.get("machine")])) > 1


def warnings_of(arms: Sequence[Arm]) -> list[str]:
    """Return sentences on what makes the comparison unfair: unequal costs or machines, and `obstacles`."""
    found = []
    for key, what, form in (
        ("minutes", "training time differs", "minutes"),
        ("steps", "the number of optimizer steps differs", "whole"),
        ("images_seen", "the number of images seen differs", "whole"),
        ("flops", "the arithmetic per image (FLOPs) differs", "count"),
    ):
        if _unequal(arms, key):
            known = [(value, arm.name) for arm in arms if (value := arm.value(key)) is not None]
            detail = ", ".join(f"{name} {write_number(value, form)}" for value, name in known)
            found.append(
                f"{what[0].upper()}{what[1:]} by more than 10 %: "
                f"{detail}{' minutes' if key == 'minutes' else ''}."
            )
    runs = Comparison(list(arms)).runs
    found += [f"{run.name}: {told}." for run in runs for told in run.damaged]
    found += obstacles(runs) if len(runs) > 1 else _unfinished(runs)
    if _machines_differ(runs):
        found.append("The runs come from different machines: their speed and memory do not compare.")
    for key, label in SPEEDS.items():
        shaky = [arm.name for arm in arms if key in arm.measured and not arm.measured[key].reliable]
        if shaky:
            found.append(
                f"{label} of {', '.join(shaky)} is unreliable: its rounds differ by more than 10 %, or there "
                f"is one. Measure again while nothing else runs."
            )
    return found


def _differ(runs: Sequence[RunRecord], path: str) -> bool:
    """Whether what stands at a dotted path is not the same in all runs that have a recipe."""
    found = [at_path(run.recipe, path) for run in runs if run.recipe]
    return len({json.dumps(value, sort_keys=True, default=str) for value in found}) > 1


def _content_differs(runs: Sequence[RunRecord], of: str) -> bool:
    """Whether a fingerprint of the runs' data, one of `CONTENT`, is not the same wherever it is known."""
    found = (at_path(run.summary, f"fingerprints.{of}") for run in runs)
    return len({str(told) for told in found if told}) > 1


def recipe_differences(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return the dotted paths at which the recipes differ, each with a text per run.

    Returns:
        ``[{"path": ..., "texts": [...]}]``; the text is "–" where a recipe lacks the path. Lists are compared
        as a whole.
    """
    if len(runs) < 2:
        return []
    flat = [_flat(run.recipe) for run in runs]
    paths = list(dict.fromkeys(path for values in flat for path in values))
    # A part's arguments follow its name, though another recipe may have brought them in later.
    paths.sort(key=lambda path: [(key != "name", key) for key in path.split(".")])
    return [
        {"path": p, "texts": texts}
        for p in paths
        if len(set(texts := [values.get(p, "–") for values in flat])) > 1
    ]


def _flat(value: Any, path: str = "") -> dict[str, str]:
    if isinstance(value, dict) and value:
        return {
            key: text
            for name, inner in value.items()
            for key, text in _flat(inner, f"{path}.{name}" if path else str(name)).items()
        }
    return (
        {path: value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)}
        if path
        else {}
    )


def machines_of(runs: Sequence[RunRecord]) -> list[str]:
    """Return each machine once, in words."""
    texts = []
    for run in runs:
        machine = run.summary.get("machine")
        if isinstance(machine, dict) and machine:
            texts.append(
                ", ".join(
                    f"{key}: {value}"
                    for key, value in machine.items()
                    if isinstance(value, str | int | float)
                )
            )
        elif isinstance(machine, str) and machine:
            texts.append(machine)
    return list(dict.fromkeys(texts)) or ["–"]
