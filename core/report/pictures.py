"""A few fixed validation images of a run as pictures: truth, predictions, and the class head's score maps.

The engine writes them into the run folder (`write_run_pictures`), the TensorBoard writer shows the same ones
while a run goes on, and the comparison puts those of several runs side by side.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from densedet.core import boxes as box_functions
from densedet.core.files import make_folder, write_text
from densedet.core.report.drawing import draw_boxes, drawn_name
from densedet.core.report.heatmaps import score_map_panel
from densedet.core.text import json_text, say
from densedet.core.types import Batch, Detections, Explanation

MIN_SCORE = 0.3
"""Detections below this score are neither drawn nor counted in pictures."""
MAPS_IN_A_ROW = 2
"""Levels in a row of a heat map, so that those of two detectors fit beside each other."""


def valid_image(batch: Batch, index: int) -> Tensor:
    """(ch,h,w): image ``index`` of the batch without its padding."""
    height, width = (int(v) for v in batch.valid_hw[index])
    return batch.images[index, :, :height, :width]


def truth_labels(batch: Batch, index: int) -> Tensor:
    """int64 (G',): the labels of the image's real objects; -1 where one is ignored."""
    valid = batch.valid[index]
    return torch.where(batch.ignore[index], -1, batch.labels[index])[valid]


def truth_picture(batch: Batch, index: int, classes: Sequence[str]) -> Image.Image:
    """The image with its objects, dashed; ignored ones are grey."""
    valid = batch.valid[index]
    extra, keypoints = {}, tuple(n for n, extra in batch.extras.items() if extra.kind == "keypoints")
    for name, values in batch.extra.items():
        known = batch.extra_known[name][index][valid]
        missing = ~known.view(-1, *[1] * (values.ndim - 2))
        extra[name] = values[index][valid].float().masked_fill(missing, 0 if name in keypoints else math.nan)
    return draw_boxes(
        valid_image(batch, index),
        batch.boxes[index][valid],
        truth_labels(batch, index),
        None,
        classes,
        style="dashed",
        extra=extra,
        keypoints=keypoints,
    )


def prediction_picture(
    batch: Batch, index: int, detections: Detections, classes: Sequence[str], *, min_score: float = MIN_SCORE
) -> Image.Image:
    """The image with what was found in it, from ``min_score`` up."""
    image = valid_image(batch, index)
    return draw_boxes(
        image,
        detections.boxes,
        detections.labels,
        detections.scores,
        classes,
        min_score=min_score,
        extra=detections.extra,
        keypoints=detections.keypoints,
    )


def heatmap_picture(
    explanation: Explanation, batch: Batch, index: int, label: int, classes: Sequence[str]
) -> Image.Image:
    """The score maps of class ``label``, 0..C-1, over the image, one panel per level, the objects of that
    class dashed."""
    maps = [level[index, label] for level in explanation.score_maps()]
    boxes = batch.boxes[index][batch.valid[index]][truth_labels(batch, index) == label]
    return score_map_panel(
        batch.images[index],
        maps,
        drawn_name(label, classes),
        strides=[level.stride for level in explanation.levels],
        size=tuple(batch.valid_hw[index].tolist()),
        boxes=boxes,
        label=label,
        columns=MAPS_IN_A_ROW,
    )


def shown_classes(batch: Batch, count: int) -> list[int]:
    """The ``count`` labels that occur most often in the batch, most frequent first; depends on the batch
    alone. May be fewer."""
    counts = Counter(
        label for i in range(len(batch)) for label in truth_labels(batch, i).tolist() if label >= 0
    )
    return [label for label, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:count]]


def tally(
    batch: Batch, index: int, detections: Detections, *, min_score: float = MIN_SCORE, iou: float = 0.5
) -> dict[str, int]:
    """{"objects", "found", "wrong"} of one image. Best detections first, each takes the free object of its
    class that it overlaps most (IoU at least ``iou``); the rest are wrong unless they overlap an ignored
    object that much."""
    boxes = batch.boxes[index][batch.valid[index]].cpu().float()
    labels = truth_labels(batch, index).cpu()
    keep = detections.scores.cpu() >= min_score
    order = detections.scores.cpu()[keep].argsort(descending=True, stable=True)
    found_boxes, found_labels = (
        detections.boxes.cpu().float()[keep][order],
        detections.labels.cpu()[keep][order],
    )
    overlaps = box_functions.pairwise_iou(found_boxes, boxes)
    free = labels >= 0
    found = wrong = 0
    for overlap, label in zip(overlaps, found_labels):
        own = torch.where(free & (labels == label), overlap, torch.zeros_like(overlap))
        if len(own) and float(own.max()) >= iou:
            free[own.argmax()] = False
            found += 1
        elif not bool(((labels < 0) & (overlap >= iou)).any()):
            wrong += 1
    return {"objects": int((labels >= 0).sum()), "found": found, "wrong": wrong}


def write_run_pictures(
    folder: Path,
    batch: Batch,
    detections: Sequence[Detections],
    explanation: Explanation | None,
    classes: Sequence[str],
    *,
    min_score: float = MIN_SCORE,
    limit: int = 6,
) -> Path:
    """Write pictures of the first ``limit`` images of a batch to ``folder``/pictures and their list to
    ``folder``/pictures.json.

    batch: the same validation images for every run that is to be compared. detections: one per image, in
    pixels of the batch's images.
    explanation: of the same batch, or None where the detector has none; then there are no heat maps. Each
    heat map shows a class of its image, the one that was shown least before. Returns the path of
    pictures.json: ``{"min_score", "classes", "images": [{"image_id", "truth", "predictions", "heatmap",
    "heatmap_class", "objects", "found", "wrong"}]}``, paths relative to the folder, heatmap null where there
    is none.
    """
    folder = Path(folder)
    make_folder(folder / "pictures", "move what is there away")
    shown: Counter[int] = Counter()
    rows: list[dict[str, Any]] = []
    unwritten: list[str] = []
    for index in range(min(limit, len(batch))):
        row: dict[str, Any] = {
            "image_id": batch.image_ids[index],
            **tally(batch, index, detections[index], min_score=min_score),
        }
        pictures = {
            "truth": truth_picture(batch, index, classes),
            "predictions": prediction_picture(batch, index, detections[index], classes, min_score=min_score),
        }
        row["heatmap"] = row["heatmap_class"] = None
        if explanation is not None:
            present = sorted(set(truth_labels(batch, index).tolist()) - {-1}) or [0]
            label = min(present, key=lambda value: shown[value])
            shown[label] += 1
            pictures["heatmap"] = heatmap_picture(explanation, batch, index, label, classes)
            row["heatmap_class"] = classes[label]
        for kind, picture in pictures.items():
            row[kind] = f"pictures/{index}_{kind}.png"
            try:
                picture.save(folder / row[kind], compress_level=4)  # optimize takes ten times as long
            except OSError as error:
                unwritten.append(f"{folder / row[kind]}: {error.strerror or error}")
                row[kind] = None
        rows.append(row)
    if unwritten:
        say(
            f"warning: {len(unwritten)} pictures could not be written, the first is {unwritten[0]}",
            error=True,
        )
    path = folder / "pictures.json"
    write_text(path, json_text({"min_score": min_score, "classes": list(classes), "images": rows}, indent=1))
    return path
