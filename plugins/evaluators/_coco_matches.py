"""Matches of detections with the truth by COCO's rules, read off hotcoco's evaluation of each image."""

from __future__ import annotations

from collections.abc import Sequence

import hotcoco
import numpy as np

from densedet.core.sources import RECALLS_101, ClassMatches, MatchStore, mean_of_known
from densedet.plugins.evaluators._coco_lines import TWELVE

IMAGES_AT_ONCE = 500
"""hotcoco hands out the matches as lists of Python numbers: so many images' fit in some 200 MB."""


def coco_matches(
    truth: hotcoco.COCO,
    ids: np.ndarray,
    detections: np.ndarray,
    labels: Sequence[int],
    *,
    max_detections: int,
) -> MatchStore:
    """Match detections with the truth.

    Args:
        truth: with the evaluated images alone; a label's category id is one more.
        ids: int64 (I,), the id of each image, all different.
        detections: float64 (D,7), rows of image id, x, y, w, h, score, category id.
        labels: of the classes to keep.
        max_detections: most detections of an image and class that AP counts.
    """
    most = max(10, max_detections)  # AR10 counts 10, whatever AP counts
    position = np.full(int(ids.max(initial=0)) + 1, -1)
    position[ids] = np.arange(len(ids))
    image, label = position[detections[:, 0].astype(np.int64)], detections[:, 6].astype(np.int64) - 1
    # By class, image id and score: pycocotools' order of the detections of an image.
    order = np.lexsort((-detections[:, 5], detections[:, 0], label))
    place = _places(label[order] * len(ids) + image[order])
    order, place = order[place < most], place[place < most]
    found, image, label = detections[order], image[order], label[order]
    matched, ignored, objects = _judge(truth, ids, found, image, label, max(labels) + 1, most)
    parts = []
    for each in labels:
        rows = np.flatnonzero(label == each)
        rows = rows[np.argsort(-found[rows, 5], kind="stable")]
        judged = (matched[:, :, rows], ignored[:, :, rows], objects[each])
        parts.append(ClassMatches(image[rows], found[rows, 5], place[rows], *judged))
    return MatchStore(len(ids), parts, RECALLS_101, (1, 10, max_detections))


def _places(groups: np.ndarray) -> np.ndarray:
    """The place of each entry in its run of equal numbers, from 0."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))


def _judge(
    truth: hotcoco.COCO,
    ids: np.ndarray,
    found: np.ndarray,
    image: np.ndarray,
    label: np.ndarray,
    classes: int,
    most: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """matched (Z,T,D), ignored (Z,T,D), and the objects that count (C,Z,I).

    hotcoco sees the detections of those images and classes alone that have an object. The others are false,
    or ignored where their own area is out of the range.
    """
    evaluation = hotcoco.COCOeval(truth, truth.load_res([]), "bbox")
    ranges, thresholds = np.array(evaluation.params.area_rng), len(evaluation.params.iou_thrs)
    area = found[:, 3] * found[:, 4]
    outside = (area < ranges[:, :1]) | (area > ranges[:, 1:])
    matched = np.zeros((len(ranges), thresholds, len(found)), dtype=bool)
    ignored = np.repeat(outside[:, None], thresholds, axis=1)
    objects = np.zeros((classes, len(ranges), len(ids)), dtype=np.int64)
    size_of = {tuple(limits): number for number, limits in enumerate(ranges.tolist())}
    held = np.zeros((classes, len(ids)), dtype=bool)
    position = {number: place for place, number in enumerate(ids.tolist())}
    for annotation in truth.dataset["annotations"]:
        held[annotation["category_id"] - 1, position[annotation["image_id"]]] = True
    seen = np.flatnonzero(held[label, image])
    for start in range(0, len(ids), IMAGES_AT_ONCE):
        chunk = ids[start : start + IMAGES_AT_ONCE]
        rows = seen[np.isin(found[seen, 0], chunk)]
        evaluation = hotcoco.COCOeval(truth, truth.load_res(found[rows] if len(rows) else []), "bbox")
        parameters = evaluation.params
        parameters.max_dets, parameters.img_ids = [most], chunk.tolist()
        evaluation.params = parameters
        evaluation.evaluate()
        for entry in evaluation.eval_imgs:
            if entry is None or not held[entry["category_id"] - 1, position[entry["image_id"]]]:
                continue
            size, each = size_of[tuple(entry["aRng"])], entry["category_id"] - 1
            counted = len(entry["gtIgnore"]) - sum(entry["gtIgnore"])
            objects[each, size, position[entry["image_id"]]] = counted
            where = rows[np.array(entry["dtIds"], dtype=np.int64) - 1]
            matched[size][:, where] = entry["dtMatched"]
            ignored[size][:, where] = entry["dtIgnore"]
    return matched, ignored, objects


def number_names(classes: tuple[str, ...]) -> list[str]:
    """The names of COCO's twelve numbers and of AP and AP50 of each class, as recipes write them."""
    return [*TWELVE, *(f"classes.{name}.{key}" for name in classes for key in ("AP", "AP50"))]


def coco_resampled(store: MatchStore, weights: np.ndarray, classes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Compute COCO's twelve numbers and AP and AP50 of each class for each resample.

    Args:
        store: of the named classes, in their order.
        weights: (R,I), a weight for each image.
        classes: names.

    Returns:
        float64 (R,) by name ("AP", "classes.cat.AP50", ...); -1 where nothing counts.
    """
    precision, recall = store.measure(weights)
    half, three_quarters = 0, 5  # positions of IoU 0.5 and 0.75 in 0.5, 0.55 ... 0.95
    values = [mean_of_known(precision[:, :, 0], (1, 2))]
    values += [mean_of_known(precision[:, :, 0, t], 1) for t in (half, three_quarters)]
    values += [mean_of_known(precision[:, :, size], (1, 2)) for size in (1, 2, 3)]
    values += [mean_of_known(recall[:, :, 0, :, limit], (1, 2)) for limit in (0, 1, 2)]
    values += [mean_of_known(recall[:, :, size, :, 2], (1, 2)) for size in (1, 2, 3)]
    for label in range(len(classes)):
        values.append(mean_of_known(precision[:, label, 0], 1))
        values.append(mean_of_known(precision[:, label, 0, half : half + 1], 1))
    return dict(zip(number_names(classes), values))
