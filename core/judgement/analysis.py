"""What a judgement tells beyond AP: kinds of errors, confusion, calibration, curves, sizes, images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from densedet.core.errors import UsageError
from densedet.core.judgement.judgement import Found, Judgement
from densedet.core.judgement.matching import (
    Matches,
    Matching,
    average_precision,
    evaluated,
    match,
)
from densedet.core.judgement.missed import thresholds_of
from densedet.core.judgement.thresholds import ScoreCurve, curve_of

INFINITE = float("inf")
SOURCE_EDGES = (0.0, 32.0, 96.0, INFINITE)
"""COCO's sizes: roots of areas in pixels of the source."""
NETWORK_EDGES = (0.0, 8.0, 16.0, 32.0, 64.0, INFINITE)
"""Roots of areas in pixels of the network's input, about the strides of its levels."""
COCO_IOUS = tuple(np.linspace(0.5, 0.95, 10).tolist())


@dataclass(frozen=True)
class ErrorTypes:
    """Kinds of errors by TIDE (Bolya et al. 2020), at one IoU.

    Attributes:
        gains: {kind: AP50 that the repair of these errors would gain}, of "Cls", "Loc", "Both", "Dupe",
            "Bkg" and "Miss", and of all false positives, "FP", and all false negatives, "FN".
        counts: {kind: number}; "FP" and "FN" have none.
        ap: the AP at this IoU.
    """

    gains: dict[str, float]
    counts: dict[str, int]
    ap: float


@dataclass(frozen=True, eq=False)
class Confusion:
    """What was taken for what.

    Attributes:
        matrix: int64 (K+1,K+1), rows are the truth, columns the detections; the last of each is background.
        classes: names of the K classes.
    """

    matrix: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True)
class CalibrationBin:
    """Detections of one range of scores.

    Attributes:
        low: of the range.
        high: of the range.
        detections: number; the next two are 0 where there is none.
        score: their mean score.
        right: share that found an object.
    """

    low: float
    high: float
    detections: int
    score: float
    right: float


@dataclass(frozen=True)
class Calibration:
    """How far scores are shares of right detections.

    Attributes:
        error: expected calibration error, the mean of |score - right| over the detections; None where there
            is none. So is the next.
        largest: the largest |score - right| of a bin.
        bins: from score 0 to 1.
        classes: {class: its expected calibration error}.
    """

    error: float | None
    largest: float | None
    bins: tuple[CalibrationBin, ...]
    classes: dict[str, float]


@dataclass(frozen=True)
class SizeRange:
    """How well objects of a range of sizes are found.

    Attributes:
        low: of the range, in pixels.
        high: of the range, not in it; infinite in the last.
        middle: median of the objects' sizes, or of the range where there is none.
        objects: that count.
        ap: over the IoUs, None where there is no object. So are the next two.
        ap50: at the first IoU.
        recall: share of the objects that any detection finds at the first IoU.
    """

    low: float
    high: float
    middle: float
    objects: int
    ap: float | None
    ap50: float | None
    recall: float | None


@dataclass(frozen=True, eq=False)
class ImageScores:
    """What a detector gets right in each image, at one threshold and IoU 0.5.

    Attributes:
        found: int64 (I,), objects that are found.
        missed: int64 (I,), objects that are not.
        false_alarms: int64 (I,), detections that find no object.
        f1: float64 (I,), 2 found / (2 found + missed + false alarms); 1 where all three are 0.
        found_objects: bool (G,), whether each object of the truth is found.
    """

    found: np.ndarray
    missed: np.ndarray
    false_alarms: np.ndarray
    f1: np.ndarray
    found_objects: np.ndarray


@dataclass(frozen=True)
class Disagreement:
    """An image on which two detectors differ.

    Attributes:
        image: position in both judgements.
        image_id: the source's.
        file_name: the source's.
        only_first: objects that only the first finds.
        only_second: objects that only the second finds.
        false_alarms: of the first and of the second.
        f1: of the first and of the second.
    """

    image: int
    image_id: int | str
    file_name: str
    only_first: int
    only_second: int
    false_alarms: tuple[int, int]
    f1: tuple[float, float]


def error_types(judgement: Judgement, *, iou: float = 0.5, background: float = 0.1) -> ErrorTypes:
    """Return TIDE's kinds of errors.

    Args:
        judgement: of the detector.
        iou: from which on a detection finds an object.
        background: IoU with every object below which a detection lies on background.
    """
    told = evaluated(judgement, [iou]).tide_errors(pos_thr=iou, bg_thr=background)
    return ErrorTypes(dict(told["delta_ap"]), dict(told["counts"]), float(told["ap_base"]))


def confusion(
    judgement: Judgement, *, threshold: float | Sequence[float] | None = None, iou: float = 0.5
) -> Confusion:
    """Return what was taken for what, matched over all classes.

    Args:
        judgement: of the detector.
        threshold: score from which on a detection counts, as in `densedet.core.judgement.missed`. One on an
            ignored object does not count.
        iou: from which on a detection can find an object.
    """
    found = judgement.found
    keep = found.scores >= thresholds_of(judgement, threshold)[found.labels]
    keep &= match(judgement, iou).counted  # hotcoco takes those on ignored objects for false alarms
    left = Found(found.image[keep], found.boxes[keep], found.scores[keep], found.labels[keep])
    told = evaluated(replace(judgement, found=left), [iou]).confusion_matrix(
        iou_thr=iou, max_det=len(left.image)
    )
    return Confusion(np.asarray(told["matrix"], dtype=np.int64), tuple(told["cat_names"]))


def calibration(judgement: Judgement, *, bins: int = 10, iou: float = 0.5) -> Calibration:
    """Return how far scores are shares of right detections, in bins of equal width."""
    told = evaluated(judgement, [iou]).calibration(n_bins=bins, iou_threshold=iou)
    rows = tuple(
        CalibrationBin(
            float(row["bin_lower"]),
            float(row["bin_upper"]),
            int(row["count"]),
            float(row["avg_confidence"]),
            float(row["avg_accuracy"]),
        )
        for row in told["bins"]
    )
    any_there = told["num_detections"] > 0
    return Calibration(
        error=float(told["ece"]) if any_there else None,
        largest=float(told["mce"]) if any_there else None,
        bins=rows,
        classes={name: float(value) for name, value in told["per_category"].items()},
    )


def pooled_curve(judgement: Judgement, matches: Matches | None = None) -> ScoreCurve:
    """Return precision, recall and F1 over one threshold for all classes, which are counted together; matches
    as in `densedet.core.judgement.thresholds.score_curves`."""
    return curve_of(judgement, match(judgement) if matches is None else matches, None)


def f1_over_score(judgement: Judgement, *, points: int = 101) -> list[tuple[float, float]]:
    """Return (threshold, F1 of all classes together) for evenly spaced thresholds from 0 to 1."""
    curve = pooled_curve(judgement)
    grid = np.linspace(0, 1, points)
    # The scores fall: those at or above a threshold are the first ones.
    taken = np.searchsorted(-curve.scores, -grid, side="right")
    values = np.append(0.0, curve.f1)[taken]
    return list(zip(grid.tolist(), values.tolist()))


def precision_recall(judgement: Judgement, *, iou: float = 0.5) -> dict[str, list[float]]:
    """Return {class: precision at 101 recalls from 0 to 1}, of the classes that have objects."""
    evaluation = evaluated(judgement, [iou])
    assert evaluation.eval is not None
    precision = np.asarray(evaluation.eval["precision"])[0, :, :, 0, 0]  # (101, K)
    names = [name for name in judgement.classes if name]
    return {name: precision[:, k].tolist() for k, name in enumerate(names) if (precision[:, k] >= 0).any()}


def by_size(
    judgement: Judgement,
    *,
    pixels: str = "source",
    measure: str = "side",
    edges: Sequence[float] | None = None,
    ious: Sequence[float] = COCO_IOUS,
) -> list[SizeRange]:
    """Return how well objects of different sizes are found.

    Objects of another size are ignored, and so are detections of another size that find nothing, as COCO
    does for its sizes.

    Args:
        judgement: of the detector.
        pixels: "source", or "network" for pixels of the network's input.
        measure: "side" for the root of the area, or "height" of the box.
        edges: of the ranges, rising; None: `SOURCE_EDGES` or `NETWORK_EDGES` for sides, and for heights five
            ranges with about as many objects each.
        ious: IoUs from which on a detection finds an object.
    """
    truth, found = judgement.truth, judgement.found
    scale = judgement.scales_xy if pixels == "network" else np.ones((len(judgement), 2))
    if measure == "side":
        sizes = np.sqrt(truth.areas * scale[truth.image].prod(axis=1))
        detected = np.sqrt(_sides(found.boxes).prod(axis=1) * scale[found.image].prod(axis=1))
        edges = edges or (SOURCE_EDGES if pixels == "source" else NETWORK_EDGES)
    else:
        sizes = _sides(truth.boxes)[:, 1] * scale[truth.image, 1]
        detected = _sides(found.boxes)[:, 1] * scale[found.image, 1]
        edges = edges or _even_edges(sizes[~truth.ignored])
    matching = Matching(judgement, lowest=min(ious))
    return [_in_range(matching, sizes, detected, low, high, ious) for low, high in pairwise(edges)]


def _sides(boxes: np.ndarray) -> np.ndarray:
    """Width and height of boxes (M,4) xyxy: float64 (M,2)."""
    return (boxes[:, 2:].astype(np.float64) - boxes[:, :2]).clip(min=0)


def _even_edges(sizes: np.ndarray, ranges: int = 5) -> tuple[float, ...]:
    """Edges of ranges with about as many of ``sizes`` each, in whole pixels; fewer where many are equal."""
    if not len(sizes):
        return (0.0, INFINITE)
    inner = np.unique(np.round(np.quantile(sizes, np.linspace(0, 1, ranges + 1)[1:-1])))
    return (0.0, *inner[inner > 0].tolist(), INFINITE)


def _in_range(
    matching: Matching,
    sizes: np.ndarray,
    detected: np.ndarray,
    low: float,
    high: float,
    ious: Sequence[float],
) -> SizeRange:
    """Evaluate the objects of one range.

    Args:
        matching: of the detector's detections.
        sizes: (G,) of the objects.
        detected: (D,) of the detections.
        low: of the range.
        high: of the range, not in it.
        ious: as in `by_size`.
    """
    judgement = matching.judgement
    truth, found = judgement.truth, judgement.found
    inside = (sizes >= low) & (sizes < high)
    here = (detected >= low) & (detected < high)
    counted = inside & ~truth.ignored
    objects = int(counted.sum())
    if not objects:
        middle = low if high == INFINITE else (low + high) / 2
        return SizeRange(low, high, middle, 0, None, None, None)
    values = np.full((len(ious), len(judgement.classes)), np.nan)
    recall = 0.0
    for number, iou in enumerate(ious):
        matches = matching.at(iou, inside=inside)
        hits = matches.found_object >= 0
        rows = matches.counted & (hits | here)
        if number == 0:
            recall = float((matches.detection[counted] >= 0).mean())
        for label in np.unique(truth.labels[counted]):
            mine = rows & (found.labels == label)
            number_of = int((counted & (truth.labels == label)).sum())
            values[number, label] = average_precision(found.scores[mine], hits[mine], number_of)
    middle = float(np.median(sizes[counted]))
    ap, ap50 = float(np.nanmean(values)), float(np.nanmean(values[0]))
    return SizeRange(low, high, middle, objects, ap, ap50, recall)


def image_scores(
    judgement: Judgement, *, threshold: float | Sequence[float] | None = None, iou: float = 0.5
) -> ImageScores:
    """Return what is right in each image.

    Args:
        judgement: of the detector.
        threshold: score from which on a detection counts, as in `densedet.core.judgement.missed`.
        iou: from which on a detection finds an object.
    """
    truth, found = judgement.truth, judgement.found
    fires = found.scores >= thresholds_of(judgement, threshold)[found.labels]
    matches = match(judgement, iou)
    fires &= matches.counted
    seen = (matches.detection >= 0) & np.append(fires, False)[matches.detection] & ~truth.ignored

    def per_image(images: np.ndarray) -> np.ndarray:
        return np.bincount(images, minlength=len(judgement))

    hits = per_image(truth.image[seen])
    missed = per_image(truth.image[~seen & ~truth.ignored])
    alarms = per_image(found.image[fires & (matches.found_object < 0)])
    total = 2 * hits + missed + alarms
    return ImageScores(hits, missed, alarms, np.where(total > 0, 2 * hits / np.maximum(total, 1), 1.0), seen)


def disagreements(
    first: Judgement,
    second: Judgement,
    *,
    count: int = 12,
    threshold: float | Sequence[float] | None = None,
    iou: float = 0.5,
) -> list[Disagreement]:
    """Return the images on which two detectors differ most.

    Those come first of which most objects are found by one of the two alone; among equal ones, those whose
    numbers of false alarms differ most. Images on which the two agree are left out.

    Args:
        first: a judgement.
        second: another of the same images and classes.
        count: most images.
        threshold: as in `image_scores`; None: each judgement's own.
        iou: from which on a detection finds an object.

    Raises:
        UsageError: they are of other images or objects.
    """
    if first.image_ids != second.image_ids or not np.array_equal(first.truth.boxes, second.truth.boxes):
        raise UsageError("the two judgements are of other images or objects: judge both on one set")
    one, other = (image_scores(judged, threshold=threshold, iou=iou) for judged in (first, second))
    images = first.truth.image
    only = [
        np.bincount(images[a.found_objects & ~b.found_objects], minlength=len(first))
        for a, b in ((one, other), (other, one))
    ]
    alarms = np.abs(one.false_alarms - other.false_alarms)
    order = np.lexsort((np.arange(len(first)), -alarms, -(only[0] + only[1])))
    return [
        Disagreement(
            image=int(image),
            image_id=first.image_ids[image],
            file_name=first.file_names[image],
            only_first=int(only[0][image]),
            only_second=int(only[1][image]),
            false_alarms=(int(one.false_alarms[image]), int(other.false_alarms[image])),
            f1=(float(one.f1[image]), float(other.f1[image])),
        )
        for image in order[:count]
        if only[0][image] + only[1][image] + alarms[image]
    ]
