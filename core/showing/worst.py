"""The images on which a detector costs most AP, and labels that may be wrong, with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from densedet.core.judgement.judgement import Judgement
from densedet.core.judgement.missed import thresholds_of
from densedet.core.judgement.worst import NO_OBJECT, OTHER_CLASS, Suspect, suspects, worst_images
from densedet.core.showing.judged import Drawn, cut_out, draw_judged, source_image, title_of
from densedet.core.showing.page import Block, Figure, Page, table
from densedet.core.text import counted


def worst_page(
    judgement: Judgement,
    source: Any,
    name: str,
    *,
    threshold: float | None = None,
    count: int = 12,
    pictures: bool = True,
) -> Page:
    """Show the images that cost most AP and labels that may be wrong.

    Args:
        judgement: of the detector.
        source: the judged images.
        name: of the detector, as the user gave it.
        threshold: score from which on a detection is drawn and confident; None: the judgement's own.
        count: most images, and most labels of each kind.
        pictures: False leaves the pictures out.
    """
    ap, worst = worst_images(judgement, iou=judgement.iou, count=count, threshold=threshold)
    doubtful = suspects(judgement, iou=judgement.iou, threshold=threshold)
    origin = judgement.thresholds_from if threshold is None else "given"
    scores = thresholds_of(judgement, threshold)
    lead = [
        f"{name}, on {counted(len(judgement), 'image')} of data.{judgement.split}: AP at IoU "
        f"{judgement.iou:g} is {ap:.3f}.",
        f"Detections are drawn from a score of {scores.min():.3g} on ({origin}); objects are dashed.",
    ]
    blocks = [_images_block(judgement, source, worst, scores, pictures)]
    kinds = dict.fromkeys([*(one.kind for one in doubtful)])
    for kind in kinds:
        rows = [one for one in doubtful if one.kind == kind]
        blocks.append(_suspects_block(judgement, source, kind, rows, count, pictures))
    if not doubtful:
        blocks.append(Block("Labels that may be wrong", ["None is suspected."]))
    values = {
        "checkpoint": name,
        "images": len(judgement),
        "iou": judgement.iou,
        "ap": ap,
        "worst": [{**asdict(one), "image_id": judgement.image_ids[one.image]} for one in worst],
        "suspects": [_plain(judgement, one) for one in doubtful],
    }
    return Page(f"The worst images of {judgement.recipe_name}", lead, blocks, values)


def _images_block(
    judgement: Judgement, source: Any, worst: Sequence[Any], thresholds: np.ndarray, pictures: bool
) -> Block:
    truth, found = judgement.truth, judgement.found
    block = Block(
        "Images that cost most AP",
        [
            "The cost of an image is the AP that would be gained were all of its objects found, with the "
            "best scores, and nothing else. The costs of several images do not add up."
        ],
        least=26,
    )
    rows = []
    for one in worst:
        rows.append(
            (title_of(judgement, one.image), f"{one.cost:.4f}", one.found, one.missed, one.false_alarms)
        )
        image = source_image(source, int(judgement.indices[one.image])) if pictures else None
        if image is not None:
            objects = (truth.image == one.image) & ~truth.ignored
            fires = (found.image == one.image) & (found.scores >= thresholds[found.labels])
            layers = [
                Drawn(truth.boxes[objects], truth.labels[objects]),
                Drawn(found.boxes[fires], found.labels[fires], found.scores[fires]),
            ]
            caption = (
                f"{title_of(judgement, one.image)} costs {one.cost:.4f} AP: {one.missed} missed, "
                f"{counted(one.false_alarms, 'false alarm')}, {one.found} found"
            )
            picture = draw_judged(image, layers, judgement.classes)
            block.figures.append(Figure(f"worst_{int(judgement.indices[one.image])}", picture, caption))
    if rows:
        block.tables.append(table(("image", "cost", "found", "missed", "false alarms"), rows))
    else:
        block.notes = ["No image costs any."]
    return block


def _suspects_block(
    judgement: Judgement, source: Any, kind: str, rows: Sequence[Suspect], count: int, pictures: bool
) -> Block:
    told = {
        NO_OBJECT: "Confident detections where no object is labelled.",
        OTHER_CLASS: "Confident detections of another class than the object's.",
    }.get(kind, "Objects on which no candidate of their class has a score worth naming.")
    more = f" The first {count} of {len(rows)} are shown." if len(rows) > count else ""
    block = Block(
        f"Suspected: {kind}",
        [f"{told}{more} Each may as well be a mistake of the detector: look at it."],
    )
    lines = []
    for number, one in enumerate(rows[:count]):
        plain = _plain(judgement, one)
        told_class = (plain["detected"], plain["labelled"])
        title = title_of(judgement, one.image)
        lines.append((title, *told_class, f"{one.score:.3f}", f"{one.iou:.2f}" if one.iou else None))
        image = source_image(source, int(judgement.indices[one.image])) if pictures else None
        if image is not None:
            caption = f"{title}: " + _words(one, *told_class)
            picture = cut_out(image, _layers(judgement, one), judgement.classes)
            block.figures.append(Figure(f"{kind}_{number}", picture, caption))
    block.tables.append(table(("image", "detected", "labelled", "score", "IoU"), lines))
    block.least = 16
    return block


def _words(one: Suspect, detected: str | None, labelled: str | None) -> str:
    if one.kind == NO_OBJECT:
        return f"{detected} with {one.score:.2f}, and no object there"
    if one.kind == OTHER_CLASS:
        return f"labelled {labelled}, detected as {detected} with {one.score:.2f} (IoU {one.iou:.2f})"
    return f"labelled {labelled}, and the best score there is {one.score:.3f}"


def _layers(judgement: Judgement, one: Suspect) -> list[Drawn]:
    truth, found, layers = judgement.truth, judgement.found, []
    if one.object >= 0:
        rows = [one.object]
        layers.append(Drawn(truth.boxes[rows], truth.labels[rows]))
    if one.detection >= 0:
        rows = [one.detection]
        layers.append(Drawn(found.boxes[rows], found.labels[rows], found.scores[rows]))
    return layers


def _plain(judgement: Judgement, one: Suspect) -> dict[str, Any]:
    """Return a suspect as plain values that JSON can hold."""
    truth, found, classes = judgement.truth, judgement.found, judgement.classes
    detected, labelled = one.detection >= 0, one.object >= 0
    return {
        "kind": one.kind,
        "image_id": judgement.image_ids[one.image],
        "file_name": judgement.file_names[one.image],
        "detected": classes[found.labels[one.detection]] if detected else None,
        "labelled": classes[truth.labels[one.object]] if labelled else None,
        "detection_box": found.boxes[one.detection].tolist() if detected else None,
        "object_box": truth.boxes[one.object].tolist() if labelled else None,
        "score": one.score,
        "iou": one.iou,
    }
