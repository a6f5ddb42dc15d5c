"""Scores from which on a detection of each class counts: those of the best F1, or of a wished precision or
recall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densedet.core.errors import UsageError
from densedet.core.judgement.judgement import Judgement
from densedet.core.judgement.matching import Matches, match

WISHES = ("f1", "precision", "recall")


@dataclass(frozen=True)
class Wish:
    """What thresholds are to reach.

    Attributes:
        goal: "f1" for the best F1; "precision" for the most recall at a precision of at least ``value``;
            "recall" for the most precision at a recall of at least ``value``.
        value: 0..1; None for "f1".
    """

    goal: str
    value: float | None = None

    @classmethod
    def parse(cls, text: str) -> Wish:
        """Read "f1", "precision=0.9" or "recall=0.8".

        Raises:
            UsageError: it is none of them.
        """
        goal, equals, number = text.strip().partition("=")
        if goal == "f1" and not equals:
            return cls("f1")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if goal not in ("precision", "recall") or not 0 < value <= 1:
            raise UsageError(
                f"thresholds {text!r}: write f1, precision=0.9 or recall=0.8 (above 0, at most 1)"
            )
        return cls(goal, value)

    def __str__(self) -> str:
        return "best F1" if self.value is None else f"{self.goal} of at least {self.value:g}"


@dataclass(frozen=True, eq=False)
class ScoreCurve:
    """Precision and recall of a class for each threshold that makes a difference, highest first.

    Attributes:
        scores: float64 (T,), the thresholds: the distinct scores of the detections.
        precision: float64 (T,), of the detections at or above each.
        recall: float64 (T,), of the class's objects; all 0 where there is none.
        f1: float64 (T,), their harmonic mean.
        objects: number of objects.
    """

    scores: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    objects: int


@dataclass(frozen=True)
class ClassThreshold:
    """The threshold of a class.

    Attributes:
        class_name: the class.
        score: from which on a detection counts; None where none could be found.
        precision: at this score; None where there is no score. So are the next two.
        recall: at this score.
        f1: at this score.
        objects: of the class, in the images.
        note: why there is no score, in a sentence; else "".
    """

    class_name: str
    score: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    objects: int
    note: str = ""


def score_curves(judgement: Judgement, matches: Matches | None = None) -> dict[str, ScoreCurve]:
    """Return precision, recall and F1 over the threshold for each named class.

    Args:
        judgement: of the detector.
        matches: at the wanted IoU; None: at IoU 0.5.
    """
    matches = match(judgement) if matches is None else matches
    return {name: curve_of(judgement, matches, label) for label, name in enumerate(judgement.classes) if name}


def curve_of(judgement: Judgement, matches: Matches, label: int | None) -> ScoreCurve:
    """Return the curve of one class, or of all classes together where ``label`` is None."""
    truth, found = judgement.truth, judgement.found
    objects = int((~truth.ignored & (True if label is None else truth.labels == label)).sum())
    rows = np.flatnonzero(matches.counted & (True if label is None else found.labels == label))
    order = rows[np.argsort(-found.scores[rows], kind="stable")]
    scores = found.scores[order].astype(np.float64)
    hits = np.cumsum(matches.found_object[order] >= 0)
    last = np.append(scores[1:] < scores[:-1], True)[: len(scores)]  # of equal scores: all or none count
    taken = np.arange(1, len(scores) + 1)[last]
    hits = hits[last]
    return ScoreCurve(
        scores=scores[last],
        precision=hits / taken,
        recall=hits / max(objects, 1),
        f1=2 * hits / (taken + objects),  # 2 TP / (2 TP + FP + FN)
        objects=objects,
    )


def find_thresholds(judgement: Judgement, wish: Wish) -> list[ClassThreshold]:
    """Find the threshold of each class at IoU 0.5, one a class in label order; equal ones give the highest
    score.

    Args:
        judgement: of the detector, on the images that the thresholds are found on.
        wish: what they are to reach.
    """
    curves = score_curves(judgement)
    empty = ClassThreshold("", None, None, None, None, 0, "it stands for no class")
    return [_of_class(name, curves[name], wish) if name else empty for name in judgement.classes]


def _of_class(name: str, curve: ScoreCurve, wish: Wish) -> ClassThreshold:
    if not curve.objects:
        return ClassThreshold(name, None, None, None, None, 0, "these images have no object of it")
    if not len(curve.scores):
        return ClassThreshold(name, None, None, None, None, curve.objects, "there is no detection of it")
    if not curve.recall[-1]:
        return ClassThreshold(name, None, None, None, None, curve.objects, "no detection of it is right")
    worth = curve.f1
    if wish.value is not None:
        bound, worth = (
            (curve.precision, curve.recall) if wish.goal == "precision" else (curve.recall, curve.precision)
        )
        reached = bound >= wish.value
        if not reached.any():
            note = f"its {wish.goal} is {bound.max():.3f} at most"
            return ClassThreshold(name, None, None, None, None, curve.objects, note)
        worth = np.where(reached, worth, -1)
    at = int(worth.argmax())
    return ClassThreshold(
        name,
        float(curve.scores[at]),
        float(curve.precision[at]),
        float(curve.recall[at]),
        float(curve.f1[at]),
        curve.objects,
    )
