"""Sections of curves: metrics and losses while training, precision over recall, F1 over the score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from densedet.core.mappings import at_path
from densedet.core.report.arms import Analysis, Arm
from densedet.core.report.charts.chart import Chart
from densedet.core.report.charts.lines import Points, Series, line_chart, over_seeds
from densedet.core.report.records import RunRecord, number
from densedet.core.report.sections import Section, charts_of

BANDS = "A line is the mean of an arm's seeds, its band goes from the least to the largest of them."


def training_section(arms: Sequence[Arm], *, brief: bool = False) -> Section:
    """Charts of the metric over time and steps, and of the losses over steps; of the metric over time and
    the whole loss alone where they are to be ``brief``."""

    def lines(points_of: Callable[[RunRecord], Points]) -> list[Series]:
        return [over_seeds(a.name, [points_of(r) for r in a.runs], i) for i, a in enumerate(arms)]

    def metric(x: str, name: str) -> Chart | None:
        series = lines(lambda run: list(_points(run.evaluations, x, f"metrics.{name}")))
        return line_chart(series, title=f"{name} against {x}", x_label=x, y_label=name, marks=True)

    def loss(name: str, path: str) -> Chart | None:
        series = lines(lambda run: list(_points(run.steps, "step", path)))
        return line_chart(series, title=name, x_label="step", y_label=name)

    if brief:
        return Section(
            "Curves", [], charts_of(metric("minutes", arms[0].metric), loss("training loss", "loss"))
        )
    runs = [run for arm in arms for run in arm.runs]
    losses = dict.fromkeys(n for r in runs for e in r.steps[-1:] for n in (e.get("losses") or {}))
    metrics = list(dict.fromkeys([arms[0].metric, "AP", "AP50"]))
    notes = [BANDS] if any(len(arm.runs) > 1 for arm in arms) else []
    notes.append(
        "Compare losses of the same kind only: a focal loss and a cross entropy have different scales. "
        "Minutes are those of the training loop, without evaluation."
    )
    return Section(
        "Curves",
        notes,
        charts_of(
            *(metric("minutes", name) for name in metrics),
            metric("step", metrics[0]),
            loss("training loss", "loss"),
            *(loss(f"{name} loss, training", f"losses.{name}") for name in losses),
            line_chart(
                lines(_validation_losses),
                title="validation loss",
                x_label="step",
                y_label="validation loss",
                marks=True,
            ),
        ),
    )


def score_section(arms: Sequence[Arm]) -> Section:
    """Charts of precision over recall, F1 over the score, and calibration, at the end of training."""
    precision = [
        over_seeds(arm.name, [_precision_recall(run) for run in arm.runs], place)
        for place, arm in enumerate(arms)
    ]
    f1 = [over_seeds(arm.name, [_even(a) for a in arm.analyses], place) for place, arm in enumerate(arms)]
    calibrated = [Series(arm.name, _pooled(arm.analyses), place) for place, arm in enumerate(arms)]
    section = Section(
        "Precision, F1 and calibration",
        [
            "All at IoU 0.5. Precision is the mean of the classes; F1 counts the objects of all classes "
            "together."
        ],
        charts_of(
            line_chart(
                precision,
                title="precision and recall",
                x_label="recall",
                y_label="mean precision",
                square=True,
            ),
            line_chart(
                f1,
                title="F1 over the score",
                x_label="score from which on detections count",
                y_label="F1",
                square=True,
            ),
            line_chart(
                calibrated,
                title="calibration",
                x_label="mean score of the detections",
                y_label="share that is right",
                marks=True,
                square=True,
                diagonal=True,
            ),
        ),
    )
    best = [(arm.name, max(_even_mean(arm), key=lambda row: row[1])) for arm in arms if _even_mean(arm)]
    if best:
        told = ", ".join(f"{name} {value:.3f} at score {score:.2f}" for name, (score, value) in best)
        section.notes.append(f"Best F1: {told}.")
    errors = [(a.name, [e for n in a.analyses if (e := n.calibration_error) is not None]) for a in arms]
    told = ", ".join(f"{name} {sum(values) / len(values):.3f}" for name, values in errors if values)
    if told:
        section.notes.append(
            f"Calibration: on the thin line, a score is the share of such detections that are right. The "
            f"mean distance from it, weighted by the detections (expected calibration error): {told}."
        )
    return section


def _points(events: Sequence[dict[str, Any]], x: str, path: str) -> Iterator[tuple[float, float]]:
    """Yield (step or minutes, the number at ``path``) of each event that has both."""
    key, unit = ("step", 1) if x == "step" else ("seconds", 60)
    for event in events:
        place, value = number(event.get(key)), number(at_path(event, path))
        if place is not None and value is not None:
            yield place / unit, value


def _validation_losses(run: RunRecord) -> list[tuple[float, float]]:
    """Return (step, sum of the losses) of each evaluation."""
    points = []
    for event in run.evaluations:
        losses = (event.get("metrics") or {}).get("losses")
        values = [number(v) for v in losses.values()] if isinstance(losses, dict) else []
        step = number(event.get("step"))
        if values and step is not None and None not in values:
            points.append((step, sum(v for v in values if v is not None)))
    return points


def _precision_recall(run: RunRecord) -> list[tuple[float, float]]:
    """Return (recall, mean precision over classes) of the last evaluation, at evenly spread recalls 0..1."""
    curves = next(
        (
            c
            for e in reversed(run.evaluations)
            if isinstance(c := (e.get("metrics") or {}).get("curves"), dict) and c
        ),
        {},
    )
    rows = [row for row in curves.values() if isinstance(row, list) and len(row) > 1]
    rows = [row for row in rows if len(row) == len(rows[0])]
    if not rows:
        return []
    last = len(rows[0]) - 1
    return [(i / last, sum(max(0.0, float(row[i])) for row in rows) / len(rows)) for i in range(last + 1)]


SCORES = np.linspace(0.0, 1.0, 101)
"""Where the lines of F1 are read."""


def _even(analysis: Analysis) -> list[tuple[float, float]]:
    """Return F1 at each of `SCORES`: that of the lowest threshold which is not below it, else 0."""
    if not analysis.f1:
        return []
    scores, values = np.array(sorted(analysis.f1)).T
    place = np.searchsorted(scores, SCORES, side="left")
    read = np.append(values, 0.0)[place]
    return list(zip(SCORES.tolist(), read.tolist()))


def _even_mean(arm: Arm) -> list[tuple[float, float]]:
    lines = [line for analysis in arm.analyses if (line := _even(analysis))]
    if not lines:
        return []
    return [
        (score, float(np.mean([line[i][1] for line in lines]))) for i, score in enumerate(SCORES.tolist())
    ]


def _pooled(analyses: Sequence[Analysis]) -> list[tuple[float, float]]:
    """Return (mean score, share of true detections) of the bins of all seeds, those of a place together."""
    bins: dict[int, list[tuple[float, float, int]]] = {}
    for analysis in analyses:
        for score, share, count in analysis.calibration:
            bins.setdefault(min(9, int(score * 10)), []).append((score, share, count))
    points = []
    for _, rows in sorted(bins.items()):
        total = sum(count for *_, count in rows)
        points.append(tuple(sum(row[k] * row[2] for row in rows) / total for k in (0, 1)))
    return [(x, y) for x, y in points]
