"""The images that cost most AP, and objects whose label may be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from densedet.core.judgement.analysis import image_scores
from densedet.core.judgement.judgement import Found, Judgement
from densedet.core.judgement.matching import Matches, average_precision, evaluated, match
from densedet.core.judgement.missed import thresholds_of

TRIED = 200
"""Images whose cost is computed; the others have a smaller first-order estimate."""
FAINT = 0.05
"""Best score of a candidate that reaches an object, below which nothing there looks like it."""

NO_OBJECT, OTHER_CLASS = "an object without a label", "a wrong class"
NOTHING_THERE = "a label without an object"
"""What a suspected label error would be."""


@dataclass(frozen=True)
class WorstImage:
    """An image with mistakes.

    Attributes:
        image: position in the judgement.
        cost: AP that would be gained were this image's objects all found and nothing else.
        found: objects that are found at the thresholds.
        missed: objects that are not.
        false_alarms: detections at the thresholds that find no object.
    """

    image: int
    cost: float
    found: int
    missed: int
    false_alarms: int


@dataclass(frozen=True)
class Suspect:
    """A label that may be wrong.

    Attributes:
        image: position in the judgement.
        kind: one of `NO_OBJECT`, `OTHER_CLASS` and `NOTHING_THERE`.
        detection: its position in `Judgement.found`; -1 where there is none.
        object: its position in `Judgement.truth`; -1 where there is none.
        score: of the detection; of `NOTHING_THERE`, the best score of any candidate that reaches the object.
        iou: of detection and object; 0 where one is missing.
    """

    image: int
    kind: str
    detection: int
    object: int
    score: float
    iou: float


def worst_images(
    judgement: Judgement,
    *,
    iou: float = 0.5,
    count: int = 12,
    threshold: float | Sequence[float] | None = None,
) -> tuple[float, list[WorstImage]]:
    """Return AP at an IoU, and the images that cost most of it, the worst first.

    An image's errors are mended by finding each of its objects with a score above all others and taking its
    other detections away. Costs of several images do not add up: precision is a curve of all of them.

    Args:
        judgement: of the detector.
        iou: from which on a detection finds an object.
        count: most images.
        threshold: score from which on a detection counts in the numbers of found and missed objects, as in
            `densedet.core.judgement.missed`. The cost knows no threshold.
    """
    matches = match(judgement, iou)
    curves = {int(label): _Curve(judgement, matches, int(label)) for label in _labels(judgement)}
    if not curves:
        return 0.0, []
    estimates = sum(curve.estimates(len(judgement)) for curve in curves.values())
    tried = np.argsort(-np.asarray(estimates), kind="stable")[:TRIED]
    costs = {
        int(image): sum(curve.mended(int(image)) - curve.ap for curve in curves.values()) / len(curves)
        for image in tried
    }
    worst = sorted((image for image, cost in costs.items() if cost > 1e-9), key=lambda one: -costs[one])
    scores = image_scores(judgement, threshold=threshold, iou=iou)
    rows = [
        WorstImage(
            image,
            float(costs[image]),
            int(scores.found[image]),
            int(scores.missed[image]),
            int(scores.false_alarms[image]),
        )
        for image in worst[:count]
    ]
    return float(np.mean([curve.ap for curve in curves.values()])), rows


def _labels(judgement: Judgement) -> np.ndarray:
    return np.unique(judgement.truth.labels[~judgement.truth.ignored])


class _Curve:
    """Detections of a class that count, best first.

    Args:
        judgement: of the detector.
        matches: at one IoU.
        label: the class, which has objects.
    """

    def __init__(self, judgement: Judgement, matches: Matches, label: int) -> None:
        found, truth = judgement.found, judgement.truth
        rows = np.flatnonzero(matches.counted & (found.labels == label))
        rows = rows[np.argsort(-found.scores[rows], kind="stable")]
        self.images, self.scores = found.image[rows], found.scores[rows]
        self.hits = matches.found_object[rows] >= 0
        objects = (truth.labels == label) & ~truth.ignored
        self.objects = np.bincount(truth.image[objects], minlength=len(judgement))
        self.total = int(objects.sum())
        self.ap = average_precision(self.scores, self.hits, self.total)

    def mended(self, image: int) -> float:
        """Return the AP of the class with the errors of an image mended."""
        other = self.images != image
        number = int(self.objects[image])
        if other.all() and not number:
            return self.ap
        scores = np.concatenate([np.full(number, np.inf), self.scores[other]])
        hits = np.concatenate([np.ones(number, dtype=bool), self.hits[other]])
        return average_precision(scores, hits, self.total)

    def estimates(self, images: int) -> np.ndarray:
        """Return (I,), about what the AP of the class would gain by each image.

        With t of the best k detections right, one false alarm less before the k-th, a right one, raises its
        precision t / k by about t / k^2. A missed object costs its share of the recall.
        """
        ranks = np.arange(1, len(self.hits) + 1)
        raised = self.hits * np.cumsum(self.hits) / ranks.astype(float) ** 2
        alarm = np.cumsum(raised[::-1])[::-1] * ~self.hits
        # A right detection could be among the first: its precision is 1 then.
        right = self.hits * (1 - np.cumsum(self.hits) / ranks)
        gain = np.bincount(self.images, weights=alarm + right, minlength=images)
        missed = self.objects - np.bincount(self.images[self.hits], minlength=images)
        return np.asarray((gain + missed) / self.total)


def suspects(
    judgement: Judgement,
    *,
    iou: float = 0.5,
    threshold: float | Sequence[float] | None = None,
) -> list[Suspect]:
    """Return labels that may be wrong, the surest first within each kind.

    Those are confident detections with no object (`NO_OBJECT`) and confident detections of another class than
    the object under them (`OTHER_CLASS`), the best one of each object, as hotcoco lists them; and, where the
    detector gives a trace, objects that no candidate with a score of `FAINT` reaches (`NOTHING_THERE`). All
    of them may as well be mistakes of the detector: somebody has to look.

    Args:
        judgement: of the detector.
        iou: from which on a detection finds an object.
        threshold: score from which on a detection is confident, as in `densedet.core.judgement.missed`.
    """
    found = judgement.found
    sure = np.flatnonzero(found.scores >= thresholds_of(judgement, threshold)[found.labels])
    surest = Found(found.image[sure], found.boxes[sure], found.scores[sure], found.labels[sure])
    left = replace(judgement, found=surest)
    listed = evaluated(left, [iou]).image_diagnostics(iou_thr=iou, score_thr=0.0)["label_errors"]
    rows = []
    for error in listed:
        row = int(sure[error["dt_id"] - 1])
        thing = -1 if error["gt_id"] is None else int(error["gt_id"]) - 1
        kind = NO_OBJECT if thing < 0 else OTHER_CLASS
        image, score = int(found.image[row]), float(found.scores[row])
        rows.append(Suspect(image, kind, row, thing, score, float(error["iou"])))
    rows.sort(key=lambda one: (one.kind, -one.score))
    first: dict[tuple[int, int], Suspect] = {}
    for one in rows:
        first.setdefault((one.object, one.detection if one.object < 0 else -1), one)
    evidence, truth = judgement.evidence, judgement.truth
    faint = evidence.traced & ~truth.ignored & ~evidence.filtered & (evidence.best_score < FAINT)
    order = np.flatnonzero(faint)
    order = order[np.argsort(evidence.best_score[order], kind="stable")]
    return list(first.values()) + [
        Suspect(
            int(truth.image[one]),
            NOTHING_THERE,
            -1,
            int(one),
            max(0.0, float(evidence.best_score[one])),
            0.0,
        )
        for one in order
    ]
