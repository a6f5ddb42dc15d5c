"""A comparison of runs as one HTML file that needs nothing beside it, and the same numbers as JSON."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from densedet.core.errors import sentence
from densedet.core.files import check_free, write_text
from densedet.core.report.charts import Series, bar_chart, color_of, line_chart
from densedet.core.report.comparison import class_names, compare
from densedet.core.report.pictures import write_run_pictures
from densedet.core.report.records import RunRecord, at_path, number, read_run
from densedet.core.text import json_text, say, visible

__all__ = ["RunRecord", "compare", "read_run", "write_report", "write_run_pictures"]

T = TypeVar("T")
PICTURE_BYTES = 1_500_000
"""Most bytes of all pictures of a report together, so that the file stays below 2 MB."""


def write_report(
    runs: Sequence[RunRecord],
    path: Path | str,
    *,
    title: str = "Comparison of detectors",
    sections: Sequence[str] = (),
) -> Path:
    """Write the report as an HTML file and, with the same stem, a JSON file of its numbers.

    Args:
        runs: at least one, in the order of the columns.
        path: the HTML file; its folder is made if need be.
        title: heading of the page.
        sections: HTML fragments of plug-ins, appended as they are.

    Returns:
        The path of the HTML file.

    Raises:
        UsageError: one of the two files is there already.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    path = Path(path)
    check_free(path, path.with_suffix(".json"))
    runs = _named_apart(runs)
    comparison = compare(runs)
    numbers = {
        "title": title,
        **comparison,
        "evaluations": [{"name": r.name, "points": r.evaluations} for r in runs],
        "summaries": [{"name": r.name, "folder": str(r.folder), **r.summary} for r in runs],
    }
    charts = _attempt("the charts", lambda: _charts(runs), comparison["warnings"])
    bars = _attempt("the bars", lambda: _class_bars(runs), comparison["warnings"])
    pictures = _attempt("the pictures", lambda: _pictures(runs), comparison["warnings"])
    environment = Environment(
        loader=PackageLoader("densedet.core.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    json = path.with_suffix(".json")
    write_text(json, json_text(numbers, indent=1, default=str), overwrite=False)
    try:
        html = environment.get_template("compare.html").render(
            title=title,
            **comparison,
            colors=[color_of(i) for i in range(len(runs))],
            charts=charts,
            bars=bars,
            pictures=pictures,
            min_score=next((number(run.pictures.get("min_score")) for run in runs if run.pictures), None),
            sections=list(sections),
        )
        write_text(path, html, overwrite=False)
    except KeyboardInterrupt:  # the same command again finds both names free
        json.unlink()
        raise
    return path


def _attempt(what: str, draw: Callable[[], T], warnings: list[str]) -> T | None:
    """Draw, or add a warning: numbers are worth more than their pictures."""
    try:
        return draw()
    except Exception as error:
        warnings.append(f"{what[0].upper()}{what[1:]} could not be drawn: {sentence(error)}.")
        say(f"warning: {warnings[-1]}", error=True)
        return None


def _named_apart(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Add the folder's name, and if that is not enough a number, to the names of runs of one recipe."""
    counts = Counter(run.name for run in runs)
    runs = [replace(r, name=f"{r.name}/{r.folder.resolve().name}") if counts[r.name] > 1 else r for r in runs]
    counts = Counter(run.name for run in runs)
    seen: Counter[str] = Counter()
    out = []
    for run in runs:
        seen[run.name] += 1
        out.append(replace(run, name=f"{run.name} ({seen[run.name]})") if counts[run.name] > 1 else run)
    return out


def _charts(runs: Sequence[RunRecord]) -> list[str]:
    """Return SVGs of the metric over time and steps, losses over steps, and precision over recall."""

    def lines(events: str, x: str, path: str) -> list[Series]:
        return [Series(r.name, list(_points(getattr(r, events), x, path)), i) for i, r in enumerate(runs)]

    def evaluated(x: str, metric: str) -> tuple[str, str, str, list[Series], bool]:
        return metric, x, metric, lines("evaluations", x, f"metrics.{metric}"), True

    metrics = list(dict.fromkeys([runs[0].metric, "AP", "AP50"]))
    validation = [Series(r.name, _validation_losses(r), i) for i, r in enumerate(runs)]
    curves = [Series(r.name, _precision_recall(r), i) for i, r in enumerate(runs)]
    losses = dict.fromkeys(n for r in runs for e in r.steps[-1:] for n in (e.get("losses") or {}))
    # title, horizontal axis, vertical axis, lines, whether each point is marked
    wanted: list[tuple[str, str, str, list[Series], bool]] = [
        *(evaluated("minutes", metric) for metric in metrics),
        evaluated("step", metrics[0]),
        ("training loss", "step", "training loss", lines("steps", "step", "loss"), False),
        *(
            (f"{n} loss", "step", f"{n} loss, training", lines("steps", "step", f"losses.{n}"), False)
            for n in losses
        ),
        ("validation loss", "step", "validation loss", validation, True),
        ("precision and recall", "recall", "mean precision at IoU 0.5", curves, False),
    ]
    drawn = [
        line_chart(series, title=title, x_label=x, y_label=y, marks=marks)
        for title, x, y, series, marks in wanted
    ]
    return [chart for chart in drawn if chart]


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


def _class_bars(runs: Sequence[RunRecord]) -> str:
    names = class_names(runs)
    series = [(r.name, [r.value(f"classes.{name}.AP") for name in names], i) for i, r in enumerate(runs)]
    return bar_chart(names[:40], series, title="AP per class")


def _pictures(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return, per image that any run drew, its truth and per run prediction and heat map as data URLs.

    They are made smaller, and then fewer, until all fit in `PICTURE_BYTES`.
    """
    drawn = [{str(row.get("image_id")): row for row in _picture_rows(run)} for run in runs]
    order = list(dict.fromkeys(image_id for rows in drawn for image_id in rows))[:6]
    for count, side, quality in ((6, 512, 85), (6, 448, 75), (4, 400, 70), (3, 320, 60), (1, 240, 50)):
        found = [_picture(image_id, runs, drawn, side, quality) for image_id in order[:count]]
        taken = sum(
            len(url)
            for image in found
            for url in [image["truth"], *(c[k] for c in image["cells"] for k in ("picture", "heatmap"))]
            if url
        )
        if taken <= PICTURE_BYTES:
            return found
    return []


def _picture_rows(run: RunRecord) -> list[dict[str, Any]]:
    rows = run.pictures.get("images")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _picture(
    image_id: str, runs: Sequence[RunRecord], drawn: Sequence[dict[str, Any]], side: int, quality: int
) -> dict[str, Any]:
    cells = []
    truth = None
    maps = [_open(run.folder, rows.get(image_id, {}).get("heatmap")) for run, rows in zip(runs, drawn)]
    # One factor for all runs: a level is as large under a head of three levels as under one of five.
    factor = min(1.0, 2 * side / max((heatmap.width for heatmap in maps if heatmap), default=1))
    for run, rows, heatmap in zip(runs, drawn, maps):
        row = rows.get(image_id, {})
        truth = truth or _data_url(_open(run.folder, row.get("truth")), side, quality)
        counts = [number(row.get(key)) for key in ("objects", "found", "wrong")]
        cells.append(
            {
                "name": run.name,
                "picture": _data_url(_open(run.folder, row.get("predictions")), side, quality),
                "heatmap": _data_url(heatmap, round(heatmap.width * factor) if heatmap else 0, quality),
                "heatmap_class": row.get("heatmap_class") or "",
                "counts": f"{counts[1]:g} of {counts[0]:g} found, {counts[2]:g} wrong"
                if None not in counts
                else "",
            }
        )
    return {"image_id": image_id, "truth": truth, "cells": cells}


def _open(folder: Path, name: Any) -> Image.Image | None:
    """Open a picture of the run folder; None where there is none that can be read."""
    # A run folder may come from a stranger, and the report may be sent on: nothing from outside the folder
    # goes into it.
    if not isinstance(name, str) or not (folder / name).resolve().is_relative_to(folder.resolve()):
        return None
    try:
        with Image.open(folder / name) as file:
            return file.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def _data_url(picture: Image.Image | None, width: int, quality: int) -> str | None:
    """Encode the picture, at most ``width`` wide, as JPEG."""
    if picture is None:
        return None
    if picture.width > width:
        picture = picture.resize(
            (width, max(1, round(picture.height * width / picture.width))), Image.Resampling.LANCZOS
        )
    data = io.BytesIO()
    # Full colour resolution: halved, thin coloured lines and letters blur.
    picture.save(data, "jpeg", quality=quality, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def _shown(value: Any) -> Any:
    """Make control characters of a text visible; HTML that is safe stays as it is."""
    return visible(value) if type(value) is str else value
