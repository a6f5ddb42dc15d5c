"""COCO's greedy matching of detections and objects, and hotcoco's evaluation of a judgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import hotcoco
import numpy as np
import torch

from densedet.core.boxes import pairwise_iou
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
    return Matching(judgement, lowest=iou).at(iou, max_detections=max_detections)


class Matching:
    """Matches a judgement's detections and objects at several IoUs, or with several sets of objects.

    hotcoco hands its matches out as one Python dict per image and class, which takes half a minute for
    COCO's validation images; this takes a second. All cells of an image and a class are matched together,
    their best detections first, then the second ones, and so on.

    Args:
        judgement: detections and truth.
        lowest: smallest IoU that `at` will be asked for.
    """

    def __init__(self, judgement: Judgement, *, lowest: float = 0.5) -> None:
        truth, found, classes = judgement.truth, judgement.found, len(judgement.classes)
        self.judgement, self.lowest = judgement, lowest
        cells = found.image * classes + found.labels
        order = np.lexsort((-found.scores, cells))  # stable: equal scores stay in their order
        starts = np.searchsorted(cells[order], cells[order])
        self.rank = np.empty(len(cells), dtype=np.int64)
        self.rank[order] = np.arange(len(cells)) - starts
        # Pairs of a detection and an object of its image and class.
        own = truth.image * classes + truth.labels
        by_cell = np.argsort(own, kind="stable")
        first, last = (np.searchsorted(own[by_cell], cells, side=side) for side in ("left", "right"))
        count = last - first
        self.rows = np.repeat(np.arange(len(cells)), count)
        place = np.arange(len(self.rows)) - np.repeat(np.cumsum(count) - count, count)
        self.objects = by_cell[np.repeat(first, count) + place]
        self.overlap = _overlap(
            found.boxes[self.rows], truth.boxes[self.objects], truth.ignored[self.objects]
        )
        near = self.overlap >= min(lowest, 1 - 1e-10)
        self.rows, self.objects, self.overlap = self.rows[near], self.objects[near], self.overlap[near]

    def at(
        self, iou: float, *, max_detections: int | None = None, inside: np.ndarray | None = None
    ) -> Matches:
        """Return the matches at an IoU.

        Args:
            iou: from which on a detection can find an object, at least ``lowest``.
            max_detections: per image and class; None: those of the judgement.
            inside: bool (G,), objects that count; the others are ignored. None: all.
        """
        truth, found = self.judgement.truth, self.judgement.found
        within = self.rank < (max_detections or self.judgement.max_detections)
        counts = ~truth.ignored if inside is None else ~truth.ignored & inside
        taken = np.zeros(len(truth.image), dtype=bool)
        partner = np.full(len(found.image), -1)
        usable = (self.overlap >= min(iou, 1 - 1e-10)) & within[self.rows]
        rows, objects, overlap = self.rows[usable], self.objects[usable], self.overlap[usable]
        # The pairs of a detection follow one another: ignored objects first, then by IoU, the best last.
        order = np.lexsort((objects, overlap, counts[objects], rows, self.rank[rows]))
        rows, objects = rows[order], objects[order]
        ranks = self.rank[rows]
        ends = np.flatnonzero(np.diff(ranks, append=-1))
        for start, end in zip([0, *(ends[:-1] + 1).tolist()], (ends + 1).tolist()):
            free = np.flatnonzero(truth.ignored[objects[start:end]] | ~taken[objects[start:end]]) + start
            best = free[np.diff(rows[free], append=-1) != 0]
            partner[rows[best]] = objects[best]
            taken[objects[best]] = True
        hits = (partner >= 0) & np.append(counts, False)[partner]
        detection = np.full(len(truth.image), -1)
        detection[partner[hits]] = np.flatnonzero(hits)
        counted = within & ((partner < 0) | hits)
        return Matches(detection, np.where(hits, partner, -1), counted, within)


def _overlap(boxes: np.ndarray, objects: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """IoU of each pair of boxes (M,4) xyxy: (M,). On a crowd, the share of the first box that lies on it."""
    boxes = boxes.astype(np.float64)
    corner = np.minimum(boxes[:, 2:], objects[:, 2:]) - np.maximum(boxes[:, :2], objects[:, :2])
    shared = corner.clip(min=0).prod(axis=1)
    area = (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1)
    other = (objects[:, 2:] - objects[:, :2]).clip(min=0).prod(axis=1)
    whole = np.where(crowd, area, area + other - shared)
    return shared / np.maximum(whole, np.finfo(np.float64).tiny)


def evaluated(
    judgement: Judgement,
    ious: Sequence[float] | None = None,
    *,
    pixels: str = "source",
    ranges: Sequence[tuple[float, float]] = ((0, EVERY_AREA),),
) -> hotcoco.COCOeval:
    """Return hotcoco's evaluation of a judgement, after ``evaluate`` and ``accumulate``.

    Args:
        judgement: detections and truth.
        ious: thresholds; None: COCO's ten.
        pixels: "source", or "network" for boxes in pixels of the network's input.
        ranges: of the areas, (from, to).
    """
    truth, detections = coco_objects(judgement, pixels=pixels)
    evaluation = hotcoco.COCOeval(truth, truth.load_res(detections if len(detections) else []), "bbox")
    parameters = evaluation.params
    if ious is not None:
        parameters.iou_thrs = [float(iou) for iou in ious]
    parameters.max_dets = [judgement.max_detections]
    parameters.area_rng = [[float(low), float(high)] for low, high in ranges]
    parameters.area_rng_lbl = [f"range {number}" for number in range(len(ranges))]
    evaluation.params = parameters
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def coco_objects(judgement: Judgement, *, pixels: str = "source") -> tuple[hotcoco.COCO, np.ndarray]:
    """Return a judgement's truth as hotcoco has it, and its detections as rows.

    Ids of images, objects and detections count from 1 in the judgement's order; a category's id is its
    label + 1.

    Args:
        judgement: detections and truth.
        pixels: "source", or "network" for boxes in pixels of the network's input.

    Returns:
        The truth, and float64 (D,7) rows of image id, x, y, w, h, score, category id.
    """
    truth, found = judgement.truth, judgement.found
    scale = judgement.scales_xy if pixels == "network" else np.ones((len(judgement), 2))
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
        area=truth.areas * scale[truth.image].prod(axis=1),
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
    return pairwise_iou(*(torch.from_numpy(boxes.astype(np.float64)) for boxes in (first, second))).numpy()


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
