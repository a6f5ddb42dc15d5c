"""COCO's greedy matching of detections and objects, and the numbers that follow from it; by hotcoco."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import hotcoco
import numpy as np

from densedet.core.judgement.judgement import Judgement

EVERY_AREA = 1e10
RECALLS = np.linspace(0, 1, 101)
"""The recalls at which COCO reads precision."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Which detection found which object, at one IoU.

    A threshold on the scores needs no other matching: COCO goes through the detections best first, so that
    those above a threshold match as they do among all.

    Attributes:
        detection: int64 (G,), index of the detection that found each object; -1 where none did.
        found_object: int64 (D,), index of the object that each detection found; -1 where it found none.
        counted: bool (D,), False for detections beyond ``max_detections`` of their image and class, and for
            those on ignored objects.
        within: bool (D,), False for detections beyond ``max_detections`` alone.
    """

    detection: np.ndarray
    found_object: np.ndarray
    counted: np.ndarray
    within: np.ndarray


def match(judgement: Judgement, iou: float = 0.5, *, max_detections: int | None = None) -> Matches:
    """Match by COCO's rules.

    Args:
        judgement: detections and truth.
        iou: from which on a detection can find an object.
        max_detections: detections per image and class that count; None: those of the judgement.
    """
    evaluation = evaluated(judgement, [iou], max_detections=max_detections)
    return matches_of(judgement, evaluation)[0]


def matches_of(judgement: Judgement, evaluation: hotcoco.COCOeval) -> list[Matches]:
    """Return the matches of an evaluation at each of its IoUs, over all areas."""
    truth, found = judgement.truth, judgement.found
    result = [
        Matches(
            np.full(len(truth.image), -1),
            np.full(len(found.image), -1),
            np.zeros(len(found.image), dtype=bool),
            np.zeros(len(found.image), dtype=bool),
        )
        for _ in evaluation.params.iou_thrs
    ]
    ignored = np.append(truth.ignored, False)  # its last is that of no object, -1
    for cell in evaluation.eval_imgs:
        if not cell or cell["aRng"][1] != EVERY_AREA:
            continue
        rows = np.asarray(cell["dtIds"], dtype=np.int64) - 1
        for position, matches in enumerate(result):
            objects = np.asarray(cell["dtMatches"][position], dtype=np.int64) - 1
            matches.within[rows] = True
            matches.counted[rows] = ~np.asarray(cell["dtIgnore"][position], dtype=bool)
            matches.found_object[rows] = objects
            hits = (objects >= 0) & ~ignored[objects]
            matches.detection[objects[hits]] = rows[hits]
            matches.found_object[rows[(objects >= 0) & ~hits]] = -1
    return result


def evaluated(
    judgement: Judgement,
    ious: Sequence[float] | None = None,
    *,
    max_detections: int | None = None,
    pixels: str = "source",
    areas: np.ndarray | None = None,
    ranges: Sequence[tuple[float, float]] = ((0, EVERY_AREA),),
) -> hotcoco.COCOeval:
    """Return hotcoco's evaluation of a judgement, after ``evaluate`` and ``accumulate``.

    Args:
        judgement: detections and truth.
        ious: thresholds; None: COCO's ten.
        max_detections: per image and class; None: those of the judgement.
        pixels: "source", or "network" for boxes in pixels of the network's input.
        areas: float (G,), the areas that ``ranges`` go by; None: those of the truth in these pixels.
        ranges: of the areas, (from, to).
    """
    truth, detections = coco_objects(judgement, pixels=pixels, areas=areas)
    evaluation = hotcoco.COCOeval(truth, truth.load_res(detections if len(detections) else []), "bbox")
    parameters = evaluation.params
    if ious is not None:
        parameters.iou_thrs = [float(iou) for iou in ious]
    parameters.max_dets = [max_detections or judgement.max_detections]
    parameters.area_rng = [[float(low), float(high)] for low, high in ranges]
    parameters.area_rng_lbl = [f"range {number}" for number in range(len(ranges))]
    evaluation.params = parameters
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def coco_objects(
    judgement: Judgement, *, pixels: str = "source", areas: np.ndarray | None = None
) -> tuple[hotcoco.COCO, np.ndarray]:
    """Return a judgement's truth as hotcoco has it, and its detections as rows.

    Ids of images, objects and detections count from 1 in the judgement's order; a category's id is its
    label + 1.

    Args:
        judgement: detections and truth.
        pixels: "source", or "network" for boxes in pixels of the network's input.
        areas: float (G,), areas of the objects; None: those of the truth in these pixels.

    Returns:
        The truth, and float64 (D,7) rows of image id, x, y, w, h, score, category id.
    """
    truth, found = judgement.truth, judgement.found
    scale = judgement.scales_xy if pixels == "network" else np.ones((len(judgement), 2))
    if areas is None:
        areas = truth.areas * scale[truth.image].prod(axis=1)
    classes = [{"id": label + 1, "name": name} for label, name in enumerate(judgement.classes) if name]
    images = [
        {"id": number + 1, "width": int(width), "height": int(height)}
        for number, (width, height) in enumerate(judgement.sizes_wh)
    ]
    objects = hotcoco.COCO.from_arrays(
        images,
        classes,
        truth.image + 1,
        truth.labels + 1,
        _xywh(truth.boxes, scale[truth.image]),
        ids=np.arange(1, len(truth.image) + 1),
        area=np.asarray(areas, dtype=np.float64),
        iscrowd=truth.ignored.astype(np.int64),
    )
    rows = np.empty((len(found.image), 7))
    rows[:, 0], rows[:, 5], rows[:, 6] = found.image + 1, found.scores, found.labels + 1
    rows[:, 1:5] = _xywh(found.boxes.astype(np.float64), scale[found.image])
    return objects, rows


def _xywh(boxes: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """x, y, width, height of boxes (M,4) xyxy, times ``scale`` (M,2)."""
    return np.concatenate([boxes[:, :2] * scale, (boxes[:, 2:] - boxes[:, :2]) * scale], axis=1)


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the IoU of every pair of boxes, (M,4) and (K,4) xyxy: (M,K); 0 for empty boxes."""
    first, second = (boxes.astype(np.float64) for boxes in (first, second))
    corner = np.minimum(first[:, None, 2:], second[None, :, 2:]) - np.maximum(
        first[:, None, :2], second[None, :, :2]
    )
    shared = corner.clip(min=0).prod(axis=2)
    sizes = [(boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1) for boxes in (first, second)]
    return shared / np.maximum(sizes[0][:, None] + sizes[1][None, :] - shared, np.finfo(np.float64).tiny)


def average_precision(scores: np.ndarray, hits: np.ndarray, objects: int) -> float:
    """Return COCO's average precision at one IoU.

    Args:
        scores: (M,) of the detections that count.
        hits: bool (M,), whether each found an object.
        objects: number of objects.

    Returns:
        The mean of the precision at 101 recalls; -1 where there is no object.
    """
    if not objects:
        return -1.0
    if not len(scores):
        return 0.0
    order = np.argsort(-scores, kind="stable")
    true = np.cumsum(hits[order])
    precision = true / np.arange(1, len(order) + 1)
    precision = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(precision[np.searchsorted(true / objects, RECALLS, side="left")].mean())
