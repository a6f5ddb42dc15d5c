"""Why a detector misses objects: tables of the reasons, and pictures of the objects."""

from __future__ import annotations

from typing import Any

import numpy as np

from densedet.core.judgement.judgement import Judgement
from densedet.core.judgement.missed import Box, Missed, MissedObjects
from densedet.core.report.sections import Table
from densedet.core.showing.judged import Drawn, cut_out, source_image, title_of
from densedet.core.showing.page import Block, Figure, Page, table

WORST = 12
"""Classes that the table lists."""


def missed_page(
    judgement: Judgement,
    found: MissedObjects,
    source: Any,
    name: str,
    *,
    thresholds_from: str,
    count: int = 8,
    pictures: bool = True,
) -> Page:
    """Show the missed objects, each with the reason.

    Args:
        judgement: of the detector.
        found: its missed objects.
        source: the judged images.
        name: of the detector, as the user gave it.
        thresholds_from: where the thresholds come from, in words.
        count: most pictures of each reason.
        pictures: False leaves the pictures out.
    """
    low, high = min(found.thresholds), max(found.thresholds)
    scores = f"{low:.3g}" if low == high else f"{low:.3f} to {high:.3f}"
    title = (
        f"{name} misses {len(found.missed)} of {found.objects} objects in {len(judgement)} images of "
        f"data.{judgement.split}"
    )
    lead = [
        f"(IoU {found.iou:g}, score threshold {scores}: {thresholds_from}; at most {found.max_detections} "
        f"detections of a class in an image)"
    ]
    blocks = [Block("", [], [_by_size(found), _by_class(judgement, found)])] if found.missed else []
    if pictures:
        blocks += [_pictures(judgement, found, source, reason, count) for reason in found.counts()]
    about = {"checkpoint": name, "images": len(judgement), "thresholds_from": thresholds_from}
    return Page(title, lead, blocks, {**about, **found.to_dict()})


def _by_size(found: MissedObjects) -> Table:
    """Return a table of the reasons by COCO's sizes."""
    sizes = found.by_size()
    rows = [
        (reason, count, *(row.get(reason, 0) for row in sizes.values()))
        for reason, count in found.counts().items()
    ]
    return table(("reason", "all", *sizes), rows)


def _by_class(judgement: Judgement, found: MissedObjects) -> Table:
    """Return a table of the classes of which most objects are missed."""
    truth, rows = judgement.truth, []
    classes = sorted(found.by_class().items(), key=lambda row: -sum(row[1].values()))
    for name, reasons in classes[:WORST]:
        objects = int(((truth.labels == judgement.classes.index(name)) & ~truth.ignored).sum())
        listed = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
        rows.append((name, sum(reasons.values()), objects, listed))
    if len(classes) > WORST:
        rows.append((f"{len(classes) - WORST} classes more", "", "", "--json lists each object"))  # type: ignore[arg-type]
    return table(("class", "missed", "of", "reasons"), rows)


def _pictures(judgement: Judgement, found: MissedObjects, source: Any, reason: str, count: int) -> Block:
    """Return pictures of the largest of the objects that are missed for one reason."""
    rows = sorted((one for one in found.missed if one.reason == reason), key=lambda one: -one.area)
    more = f" The largest {count} of {len(rows)} are shown." if len(rows) > count else ""
    block = Block(
        f"{reason[0].upper()}{reason[1:]}",
        [f"The missed object is dashed; what the reason names is solid.{more}"],
        least=16,
    )
    for number, one in enumerate(rows[:count]):
        image = source_image(source, int(judgement.indices[one.image]))
        if image is not None:
            caption = f"{title_of(judgement, one.image)}, {one.class_name}: {one.detail}"
            caption += f"; to undo: {one.undo}" if one.undo else ""
            picture = cut_out(image, _layers(judgement, one), judgement.classes)
            block.figures.append(Figure(f"{reason}_{number}", picture, caption))
    return block


def _layers(judgement: Judgement, one: Missed) -> list[Drawn]:
    def drawn(box: Any, name: str, score: float | None = None) -> Drawn:
        label = np.array([judgement.classes.index(name)])
        return Drawn(np.array([box]), label, None if score is None else np.array([score]))

    named: list[Box] = [box for box in (one.at, one.by) if box is not None]
    return [drawn(one.box, one.class_name), *(drawn(b.box, b.class_name, b.score) for b in named)]
