"""Why a detector misses an object: one reason for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from densedet.core.errors import UsageError
from densedet.core.judgement.judgement import Judgement
from densedet.core.judgement.matching import Matches, match, overlaps
from densedet.core.types import Fate

NO_ANCHOR = "no anchor reached it in training"
IGNORED = "ignored in training"
WRONG_CLASS = "wrong class"
LOW_SCORE = "score below the threshold"
CUT = "cut by top-k"
REMOVED = "removed by NMS"
TAKEN = "taken by another object"
TOO_FAR = "too far off"
NOTHING = "nothing fires"
UNKNOWN = "unknown: the detector gives no trace"

REASONS = (NO_ANCHOR, IGNORED, WRONG_CLASS, LOW_SCORE, CUT, REMOVED, TAKEN, TOO_FAR, NOTHING, UNKNOWN)
"""All reasons, in the order in which they are tried."""

NEAR = 0.1
"""IoU from which on a detection that finds nothing is an attempt at an object (TIDE, Bolya et al. 2020)."""

SIZES = (("small", 0.0, 32.0**2), ("medium", 32.0**2, 96.0**2), ("large", 96.0**2, float("inf")))
"""COCO's size classes: name, from and to in square source pixels."""


@dataclass(frozen=True)
class Box:
    """A detection or candidate that a reason names.

    Attributes:
        box: x1, y1, x2, y2 in source pixels.
        class_name: its class.
        score: its score.
        iou: its IoU with the missed object.
    """

    box: tuple[float, float, float, float]
    class_name: str
    score: float
    iou: float


@dataclass(frozen=True)
class Missed:
    """An object that no detection finds.

    Attributes:
        image: position in the judgement.
        image_id: the source's.
        file_name: the source's.
        object: position in `Judgement.truth`.
        box: x1, y1, x2, y2 in source pixels.
        class_name: its class.
        area: in square source pixels, as the source gives it.
        reason: one of `REASONS`.
        detail: a sentence with the numbers.
        undo: what brings the object back, or shows its next obstacle, in words.
        score: score of the candidate or detection that the reason is about, or None.
        iou: its IoU with the object, or None.
        at: that candidate or detection, or None.
        by: what removed it: the better candidate of "removed by NMS", or None.
    """

    image: int
    image_id: int | str
    file_name: str
    object: int
    box: tuple[float, float, float, float]
    class_name: str
    area: float
    reason: str
    detail: str
    undo: str
    score: float | None = None
    iou: float | None = None
    at: Box | None = None
    by: Box | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return asdict(self)


@dataclass(frozen=True)
class MissedObjects:
    """All objects that a detector misses, each with its reason.

    Attributes:
        objects: objects that count.
        missed: those that no detection finds, in the judgement's order.
        thresholds: score of each class from which on a detection counts.
        iou: from which on a detection finds an object.
        max_detections: per image and class.
    """

    objects: int
    missed: tuple[Missed, ...]
    thresholds: tuple[float, ...]
    iou: float
    max_detections: int

    def counts(self) -> dict[str, int]:
        """Return the number of missed objects for each reason that occurs, in the order of `REASONS`."""
        found = Counter(one.reason for one in self.missed)
        return {reason: found[reason] for reason in REASONS if found[reason]}

    def by_class(self) -> dict[str, dict[str, int]]:
        """Return {class: {reason: number}} of the classes of which objects are missed."""
        return self._table({one.class_name for one in self.missed}, lambda one: one.class_name)

    def by_size(self) -> dict[str, dict[str, int]]:
        """Return {size: {reason: number}} for COCO's sizes of which objects are missed."""
        found = self._table([name for name, _, _ in SIZES], lambda one: size_of(one.area))
        return {name: row for name, row in found.items() if row}

    def _table(self, keys: Any, key_of: Any) -> dict[str, dict[str, int]]:
        ordered = sorted(keys) if isinstance(keys, set) else keys
        counted = Counter((key_of(one), one.reason) for one in self.missed)
        return {
            key: {reason: counted[key, reason] for reason in REASONS if counted[key, reason]}
            for key in ordered
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {
            "objects": self.objects,
            "missed": len(self.missed),
            "iou": self.iou,
            "max_detections": self.max_detections,
            "thresholds": list(self.thresholds),
            "reasons": self.counts(),
            "classes": self.by_class(),
            "sizes": self.by_size(),
            "list": [one.to_dict() for one in self.missed],
        }


def size_of(area: float) -> str:
    """Return COCO's size class of an area in square source pixels."""
    return next(name for name, low, high in SIZES if low <= area < high)


def missed_objects(
    judgement: Judgement,
    *,
    threshold: float | Sequence[float] | None = None,
    max_detections: int | None = None,
) -> MissedObjects:
    """Find the objects that a detector misses, and one reason for each.

    An object is missed where COCO's matching gives it no detection of its class at or above the threshold,
    among the best ``max_detections`` of its image and class, with an IoU of at least `Judgement.iou`. A
    candidate or detection *reaches* an object where its class is the object's and the IoU is that large. The
    first of these that holds is the reason:

    1. `NO_ANCHOR`: the recipe's matcher gives the object no positive anchor, and ignores none on it.
    2. `IGNORED`: the object is below the training's filter; or it has no positive anchor, and anchors on it
       are ignored in training.
    3. `WRONG_CLASS`: a detection of another class at or above its threshold, which finds no object of its
       own, covers it with such an IoU.
    4. `LOW_SCORE`: a detection finds it, but below the threshold.
    5. `CUT` and 6. `REMOVED`: a candidate at or above the threshold reaches it; top-k, or the limit on
       detections, cut the best of them (5), or a better candidate removed it (6).
    7. `TAKEN`: a detection at or above the threshold reaches it, but another object has it.
    8. `TOO_FAR`: a detection of its class at or above the threshold, which finds no object, has an IoU of at
       least `NEAR` with it; or no candidate reaches it, whatever its score.
    9. `NOTHING`: the candidates that reach it are below the threshold, or below the postprocess's own score.

    `UNKNOWN` stands for 9, and for all that depends on candidates, where the detector gives no trace.

    Args:
        judgement: of the detector.
        threshold: score from which on a detection counts, for all classes or one a class; None: the
            judgement's own, those of `densedet predict`.
        max_detections: per image and class; None: those of the judgement.
    """
    thresholds = thresholds_of(judgement, threshold)
    limit = max_detections or judgement.max_detections
    matches = match(judgement, judgement.iou, max_detections=limit)
    truth = judgement.truth
    counts = ~truth.ignored
    scores = np.where(matches.detection >= 0, _at(judgement.found.scores, matches.detection), -1.0)
    lost = np.flatnonzero(counts & (scores < thresholds[truth.labels]))
    explain = _Explanation(judgement, matches, thresholds)
    return MissedObjects(
        objects=int(counts.sum()),
        missed=tuple(explain(int(position)) for position in lost),
        thresholds=tuple(thresholds.tolist()),
        iou=judgement.iou,
        max_detections=limit,
    )


def thresholds_of(judgement: Judgement, threshold: float | Sequence[float] | None) -> np.ndarray:
    """Return float32 (C,), the score of each class from which on a detection counts.

    Raises:
        UsageError: it is no score, or there are not as many as classes.
    """
    given = judgement.thresholds if threshold is None else threshold
    values = np.asarray(given, dtype=np.float64)
    if values.ndim == 0:
        values = np.full(len(judgement.classes), float(values))
    if values.shape != (len(judgement.classes),):
        raise UsageError(f"{len(values)} thresholds for {len(judgement.classes)} classes: give one a class")
    if not ((values >= 0) & (values <= 1)).all():
        raise UsageError(f"a threshold of {values.min() if values.min() < 0 else values.max()} is no score")
    return values.astype(np.float32)  # as the scores are, so that equal ones compare equal


def _at(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """``values`` at positions, of which -1 gives 0."""
    return np.append(values, values.dtype.type(0))[positions]


class _Verdict(NamedTuple):
    """The reason of one object; see `Missed` for the fields."""

    reason: str
    detail: str
    undo: str = ""
    at: Box | None = None
    by: Box | None = None
    score: float | None = None
    iou: float | None = None


class _Explanation:
    """Finds the reason of one object after the other.

    Args:
        judgement: of the detector.
        matches: of its detections, at the judgement's IoU.
        thresholds: float32 (C,).
    """

    def __init__(self, judgement: Judgement, matches: Matches, thresholds: np.ndarray) -> None:
        self.judgement, self.matches, self.thresholds = judgement, matches, thresholds
        found = judgement.found
        self.starts = np.searchsorted(found.image, np.arange(len(judgement) + 1))
        self.fires = found.scores >= thresholds[found.labels]
        self.idle = self.fires & matches.counted & (matches.found_object < 0)

    def __call__(self, position: int) -> Missed:
        """Return the missed object at ``position`` of the truth."""
        truth, judgement = self.judgement.truth, self.judgement
        image = int(truth.image[position])
        verdict = self._verdict(position)
        at = verdict.at
        return Missed(
            image=image,
            image_id=judgement.image_ids[image],
            file_name=judgement.file_names[image],
            object=position,
            box=_corners(truth.boxes[position]),
            class_name=judgement.classes[int(truth.labels[position])],
            area=float(truth.areas[position]),
            reason=verdict.reason,
            detail=verdict.detail,
            undo=verdict.undo,
            score=verdict.score if at is None else at.score,
            iou=verdict.iou if at is None else at.iou,
            at=at,
            by=verdict.by,
        )

    def _verdict(self, position: int) -> _Verdict:
        self._look_at(position)
        evidence, own = self.judgement.evidence, int(self.matches.detection[position])
        threshold = float(self.thresholds[self.judgement.truth.labels[position]])
        if evidence.filtered[position] or evidence.positives[position] == 0:
            return self._untrained(position)
        other = self._nearest(position, self.idle, of_class=False)
        if other is not None:
            text = f"it is found as {other.class_name} with {other.score:.3f} (IoU {other.iou:.2f})"
            return _Verdict(WRONG_CLASS, text, "count detections of any class", other)
        if own >= 0:
            at = self._box(position, own)
            text = f"it is found with {at.score:.3f}, the threshold is {threshold:.3f}"
            return _Verdict(LOW_SCORE, text, f"lower the threshold to {at.score:.4f}", at)
        cut = self._nearest(position, self.fires & ~self.matches.within)
        if cut is not None:
            text = f"the detection with {cut.score:.3f} is beyond the most that count in an image and class"
            return _Verdict(CUT, text, "raise max_detections", cut)
        if evidence.traced[position] and evidence.lost_score[position] >= threshold:
            return self._lost(position)
        taken = self._nearest(position, self.fires & (self.matches.found_object >= 0))
        if taken is not None:
            text = f"the detection with {taken.score:.3f} (IoU {taken.iou:.2f}) has found another object"
            return _Verdict(TAKEN, text, "take the other object away", taken)
        far = self._nearest(position, self.idle, iou=NEAR)
        if far is not None:
            text = f"the detection with {far.score:.3f} has an IoU of {far.iou:.2f} with it"
            return _Verdict(TOO_FAR, text, f"ask for an IoU of {far.iou:.2f}", far)
        if not evidence.traced[position]:
            return _Verdict(UNKNOWN, "no detection is near")
        return self._silent(position, threshold)

    def _look_at(self, position: int) -> None:
        """Find the detections of an object's image, and their IoUs with it."""
        truth, found = self.judgement.truth, self.judgement.found
        image = int(truth.image[position])
        self.rows = np.arange(self.starts[image], self.starts[image + 1])
        self.overlap = overlaps(truth.boxes[position][None], found.boxes[self.rows])[0]

    def _untrained(self, position: int) -> _Verdict:
        """The reason of an object that training leaves out."""
        evidence = self.judgement.evidence
        if evidence.filtered[position]:
            return _Verdict(IGNORED, "data.filter takes it out of training", "loosen data.filter")
        ignored = int(evidence.ignored_anchors[position])
        undo = "add anchors of its size, or loosen the matcher"
        if ignored > 0:
            return _Verdict(IGNORED, f"no anchor is positive, {ignored} on it are ignored", undo)
        return _Verdict(NO_ANCHOR, "the matcher gives it no anchor", undo)

    def _lost(self, position: int) -> _Verdict:
        """The reason of an object that a candidate reaches which is no detection."""
        evidence, name = self.judgement.evidence, self.judgement.classes
        truth = self.judgement.truth
        box = evidence.lost_box[position]
        at = Box(
            _corners(box),
            name[int(truth.labels[position])],
            float(evidence.lost_score[position]),
            self._iou(position, box),
        )
        text = f"its candidate with {at.score:.3f} (IoU {at.iou:.2f})"
        fate, label = int(evidence.lost_fate[position]), int(evidence.by_label[position])
        if fate == Fate.CUT_BY_TOP_K:
            return _Verdict(CUT, f"{text} is not among the top_k", "raise top_k", at)
        if fate == Fate.CUT_BY_MAX_DETECTIONS:
            return _Verdict(CUT, f"{text} is beyond max_detections", "raise max_detections", at)
        if label < 0:
            return _Verdict(REMOVED, f"{text} was removed", "loosen NMS", at)
        better = evidence.by_box[position]
        by = Box(
            _corners(better), name[label], float(evidence.by_score[position]), self._iou(position, better)
        )
        text = f"{text} was removed by {by.class_name} with {by.score:.3f} (IoU {by.iou:.2f} with the object)"
        return _Verdict(REMOVED, text, "loosen NMS", at, by)

    def _silent(self, position: int, threshold: float) -> _Verdict:
        """The reason of an object near which no detection is."""
        evidence = self.judgement.evidence
        score, iou = float(evidence.best_score[position]), float(evidence.best_iou[position])
        if score < 0:
            text = f"the nearest candidate has an IoU of {iou:.2f} with it"
            return _Verdict(TOO_FAR, text, f"ask for an IoU of {iou:.2f}", iou=iou)
        text = f"the best candidate has {score:.4f}, the threshold is {threshold:.3f}"
        undo = f"lower the threshold and the postprocess's score to {score:.4f}"
        return _Verdict(NOTHING, text, undo, score=score)

    def _nearest(
        self, position: int, among: np.ndarray, *, of_class: bool = True, iou: float | None = None
    ) -> Box | None:
        """The detection of the best score that has an IoU of at least ``iou`` with an object.

        Args:
            position: of the object.
            among: bool (D,), which detections are looked at.
            of_class: True: detections of the object's class; False: those of others.
            iou: None: the judgement's.
        """
        truth, found = self.judgement.truth, self.judgement.found
        wanted = self.overlap >= (self.judgement.iou if iou is None else iou)
        rows = self.rows[wanted]
        rows = rows[among[rows] & ((found.labels[rows] == truth.labels[position]) == of_class)]
        return self._box(position, int(rows[found.scores[rows].argmax()])) if len(rows) else None

    def _box(self, position: int, detection: int) -> Box:
        found = self.judgement.found
        box = found.boxes[detection]
        name = self.judgement.classes[int(found.labels[detection])]
        return Box(_corners(box), name, float(found.scores[detection]), self._iou(position, box))

    def _iou(self, position: int, box: np.ndarray) -> float:
        return float(overlaps(self.judgement.truth.boxes[position][None], box[None])[0, 0])


def _corners(box: np.ndarray) -> tuple[float, float, float, float]:
    left, top, right, bottom = (round(float(value), 2) for value in box)
    return left, top, right, bottom
