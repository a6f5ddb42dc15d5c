"""A comparison as one HTML file that needs nothing beside it, and the same numbers as JSON, Markdown and
CSV."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from densedet.core.errors import sentence
from densedet.core.files import check_free, write_text
from densedet.core.report.arms import Arm, Comparison
from densedet.core.report.breakdowns import (
    class_section,
    difference_section,
    error_section,
    missed_section,
    size_section,
)
from densedet.core.report.charts.chart import color_of
from densedet.core.report.comparison import compare, date_now, machines_of
from densedet.core.report.costs import cost_section
from densedet.core.report.curves import score_section, training_section
from densedet.core.report.environment import environment as environment_of
from densedet.core.report.environment import shown
from densedet.core.report.ladder import ladder_section, ladder_tables
from densedet.core.report.recipe_diff import recipe_diff
from densedet.core.report.records import RunRecord, number
from densedet.core.report.sections import Diff, Section
from densedet.core.report.sets import Overview
from densedet.core.report.summary_files import csv_text, markdown_text
from densedet.core.text import json_text, say

T = TypeVar("T")
PICTURE_BYTES = 1_500_000
"""Most bytes of all pictures of a report together."""
SHOWN = 6
"""Most images of a data set that are shown."""


def files_of(path: Path) -> list[Path]:
    """Return the files that make a report: the page, then those beside it."""
    return [path, *(path.with_suffix(ending) for ending in (".json", ".md", ".csv"))]


def write_report(
    comparisons: Sequence[Comparison],
    path: Path | str,
    *,
    title: str = "Comparison of detectors",
    sections: Sequence[str] = (),
    reach: float | None = None,
    sets: Overview | None = None,
) -> Path:
    """Write the report as an HTML file and, with the same stem, a JSON file of its numbers, a Markdown
    summary, and the table as CSV.

    Args:
        comparisons: one a data set; at least one arm each, in the order of the columns.
        path: the HTML file; its folder is made if need be.
        title: heading of the page.
        sections: HTML fragments of plug-ins, appended as they are.
        reach: value of the metric to which the minutes of training are told; None: that of the weakest arm.
        sets: what is told of all data sets together; None: there is one.

    Returns:
        The path of the HTML file.

    Raises:
        UsageError: one of the files is there already.
    """
    path = Path(path)
    check_free(*files_of(path))
    comparisons = [replace(one, arms=named_apart(one.arms)) for one in comparisons]
    blocks = [_block(one, reach, PICTURE_BYTES // len(comparisons)) for one in comparisons]
    told = [block["comparison"] for block in blocks]
    about = {
        "title": title,
        "date": date_now(),
        "machines": machines_of([run for one in comparisons for run in one.runs]),
    }
    numbers = {
        **about,
        **({} if sets is None else {"sets": sets.plain()}),
        "comparisons": [
            {
                **block["comparison"],
                "sections": [section.plain() for section in block["sections"]],
                "evaluations": [{"name": r.name, "points": r.evaluations} for r in one.runs],
                "summaries": [{"name": r.name, "folder": str(r.folder), **r.summary} for r in one.runs],
            }
            for one, block in zip(comparisons, blocks)
        ],
    }
    page, json_file, summary, table = files_of(path)
    html = _html(about, blocks, sections, json_file.name, sets)
    texts = {
        json_file: json_text(numbers, indent=1, default=str),
        summary: markdown_text(title, told, sets),
        table: csv_text(told, sets),
        page: html,
    }
    for file, text in texts.items():
        write_text(file, text, overwrite=False)
    return page


def _html(
    about: dict[str, Any],
    blocks: list[dict[str, Any]],
    sections: Sequence[str],
    json_name: str,
    sets: Overview | None,
) -> str:
    environment = environment_of("densedet.core.report")
    environment.filters["breakable"] = _breakable
    count = max(len(block["comparison"]["arms"]) for block in blocks)
    return environment.get_template("compare.html").render(
        **about,
        sets=sets,
        blocks=blocks,
        colors=[color_of(i) for i in range(count)],
        json_name=json_name,
        sections=list(sections),
    )


def _block(comparison: Comparison, reach: float | None, picture_bytes: int) -> dict[str, Any]:
    """Return what the page shows of one data set."""
    arms, told, ladder = comparison.columns, compare(comparison), comparison.ladder
    makers: dict[str, Callable[[], Section]] = {}
    if ladder is not None:
        makers["the ladder"] = partial(ladder_section, comparison, ladder)
        told["ladder"] = {
            **ladder.plain(),
            "tables": [table.plain() for table in ladder_tables(comparison, ladder)],
        }
    comparison = replace(comparison, arms=arms)
    makers |= {
        "the differences": lambda: difference_section(comparison),
        "the costs": lambda: cost_section(comparison, reach),
        "the curves": lambda: training_section(arms),
        "precision and F1": lambda: score_section(arms),
        "the classes": lambda: class_section(arms),
        "the errors": lambda: error_section(arms),
        "the sizes": lambda: size_section(arms),
        "the missed objects": lambda: missed_section(arms),
        "the recipes": lambda: diff_section(arms, ladder=ladder is not None),
    }
    found = [_attempt(what, partial(_drawn, make), told["warnings"]) for what, make in makers.items()]
    pictured = {arm.name: arm for arm in comparison.pictured_arms}
    shown = [replace(arm.shown or arm.runs[0], name=arm.name) for arm in pictured.values()]
    return {
        "comparison": told,
        "sections": [section for section in found if section],
        "pictures": _attempt("the pictures", lambda: _pictures(shown, picture_bytes), told["warnings"]),
        "pictured": comparison.pictured,
        "keys": [color_of(place) for place, arm in enumerate(arms) if arm.name in pictured],
        "min_score": next((number(run.pictures.get("min_score")) for run in shown if run.pictures), None),
    }


def _drawn(make: Callable[[], Section]) -> Section:
    """Make a section and draw its charts, here where a failure is noted."""
    section = make()
    for chart in section.charts:
        _ = chart.svg
    return section


def diff_section(arms: Sequence[Arm], *, ladder: bool = False) -> Section:
    """The difference of each arm's recipe from the first one's, or on a ladder from that below it."""
    section = Section("What differs in the recipes")
    for first, arm in pairwise(arms) if ladder else zip(repeat(arms[0]), arms[1:]):
        lines = recipe_diff(first.runs[0], arm.runs[0])
        if lines:
            section.diffs.append(Diff(f"from {first.name} to {arm.name}", lines))
        else:
            section.notes.append(f"{first.name} and {arm.name} share one recipe.")
    return section


def _attempt(what: str, draw: Callable[[], T], warnings: list[str]) -> T | None:
    """Draw, or add a warning: numbers are worth more than their pictures."""
    try:
        return draw()
    except Exception as error:
        warnings.append(f"{what[0].upper()}{what[1:]} could not be drawn: {sentence(error)}.")
        say(f"warning: {warnings[-1]}", error=True)
        return None


def named_apart(arms: Sequence[Arm]) -> list[Arm]:
    """Add the folder's name, and if that is not enough a number, to the names of arms that share one."""
    counts = Counter(arm.name for arm in arms)
    arms = [
        replace(arm, name=f"{arm.name}/{arm.runs[0].folder.resolve().name}") if counts[arm.name] > 1 else arm
        for arm in arms
    ]
    counts = Counter(arm.name for arm in arms)
    seen: Counter[str] = Counter()
    out = []
    for arm in arms:
        seen[arm.name] += 1
        out.append(replace(arm, name=f"{arm.name} ({seen[arm.name]})") if counts[arm.name] > 1 else arm)
    return out


def _pictures(runs: Sequence[RunRecord], most_bytes: int) -> list[dict[str, Any]]:
    """Return, per image that any run drew, its truth and per run prediction and heat map as data URLs.

    They are made smaller, and then fewer, until all fit in ``most_bytes``.
    """
    drawn = [{str(row.get("image_id")): row for row in _picture_rows(run)} for run in runs]
    order = list(dict.fromkeys(image_id for rows in drawn for image_id in rows))[:SHOWN]
    for count, side, quality in (
        (SHOWN, 512, 85),
        (SHOWN, 448, 75),
        (4, 400, 70),
        (3, 320, 60),
        (1, 240, 50),
    ):
        found = [_picture(image_id, runs, drawn, side, quality) for image_id in order[:count]]
        taken = sum(
            len(url)
            for image in found
            for url in [image["truth"], *(c[k] for c in image["cells"] for k in ("picture", "heatmap"))]
            if url
        )
        if taken <= most_bytes:
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
                "missed": _reasons(row.get("missed")),
            }
        )
    return {"image_id": image_id, "truth": truth, "cells": cells}


def _reasons(missed: Any) -> str:
    """Why objects of an image were missed, in words."""
    if not isinstance(missed, dict):
        return ""
    return ", ".join(f"{reason} ({count})" if count != 1 else str(reason) for reason, count in missed.items())


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


def _breakable(text: Any) -> Any:
    """Let a long name break after its underscores, slashes and dots."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([_/.])(?=[^\d\s])", r"\1<wbr>", str(escape(shown(text)))))
