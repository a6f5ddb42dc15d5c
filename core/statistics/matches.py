"""Matches of one detector's detections with the truth, and average precision for any weight per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

CHUNK = 1 << 18
"""Most detections times resamples of an intermediate array: 2 MB, which a processor's cache holds."""

MOST_COPIES = 100
"""Copies of an image up to which ties within the image are ranked exactly."""

RECALLS_101 = np.linspace(0.0, 1.0, 101)
"""COCO's recall thresholds."""

RECALLS_11 = np.arange(11) / 10
"""The recall thresholds of PASCAL VOC 2007."""


@dataclass(frozen=True)
class ClassMatches:
    """Detections of one class in all images, best first, and how each was judged.

    Z size ranges, T IoU thresholds, D detections, I images. Detections of equal score stand in the order in
    which the metric ranks them: by image, and within an image by their place.

    Attributes:
        image: int64 (D,), position of the detection's image, 0..I-1.
        score: float64 (D,), falling.
        place: int64 (D,), place among the detections of its image and class, from 0.
        matched: bool (Z,T,D), True where an object was found.
        ignored: bool (Z,T,D), True where the detection neither counts nor hurts.
        objects: int64 (Z,I), objects that count in each image.
    """

    image: np.ndarray
    score: np.ndarray
    place: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    objects: np.ndarray

    @cached_property
    def hits(self) -> np.ndarray:
        """bool (Z,T,D), True for the detections that count as true."""
        hits: np.ndarray = self.matched & ~self.ignored
        return hits

    @cached_property
    def blocks(self) -> np.ndarray:
        """int64 (D,), the number of the detection's block: detections of one image and score."""
        new = np.ones(len(self.image), dtype=bool)
        new[1:] = (np.diff(self.image) != 0) | (np.diff(self.score) != 0)
        return np.cumsum(new) - 1

    @cached_property
    def tied(self) -> np.ndarray:
        """bool (D,), True in the blocks that hold both true and false detections.

        Where an image is drawn k times, such a block comes k times, one after the other: true, false, true,
        false is another curve than true, true, false, false.
        """
        if not len(self.image) or self.blocks[-1] + 1 == len(self.blocks):
            return np.zeros(len(self.image), dtype=bool)
        starts = np.flatnonzero(np.diff(self.blocks, prepend=-1))
        true = np.add.reduceat(self.hits, starts, axis=2, dtype=np.int64) > 0
        false = np.add.reduceat(~self.matched & ~self.ignored, starts, axis=2, dtype=np.int64) > 0
        mixed = np.asarray((true & false).any(axis=(0, 1)))
        return mixed[self.blocks]

    def copies(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the order of detections in which tied blocks come ``most`` times.

        Args:
            most: most copies of an image.

        Returns:
            Two arrays int64 (E,): the position of each entry's detection in 0..D-1, and the copy of the image
            that the entry belongs to, from 0; -1 where it stands for all copies.
        """
        rows = np.arange(len(self.image))
        if most <= 1 or not self.tied.any():
            return rows, np.full(len(rows), -1)
        times = np.where(self.tied, most, 1)
        rows = np.repeat(rows, times)
        copy = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
        order = np.lexsort((rows, copy, self.blocks[rows]))
        return rows[order], np.where(self.tied[rows], copy, -1)[order]


class Measures(NamedTuple):
    """Metrics of R resamples; NaN where a resample has no object that counts.

    Attributes:
        precision: float64 (R,C,Z,T), average precision of each class, size range and IoU threshold.
        recall: float64 (R,C,Z,T,L), recall with at most ``limits`` detections of an image and class.
    """

    precision: np.ndarray
    recall: np.ndarray


@dataclass(frozen=True)
class MatchStore:
    """Matches of all classes, for metrics of any resample of the images.

    An image's weight is the number of times that it was drawn, or any other number that is not negative. Only
    true detections move the recall, and precision is highest just after one. So the curve is needed there
    alone, and the false detections enter as one cumulative sum of weights per class.

    Attributes:
        images: number of images, I.
        classes: matches of each class.
        recalls: recall thresholds at which the precision is averaged; None: the area under the curve.
        limits: numbers of detections of an image and class for the recall. Average precision counts as many
            as the last one; the store may hold more.
    """

    images: int
    classes: Sequence[ClassMatches]
    recalls: np.ndarray | None
    limits: tuple[int, ...]

    def measure(self, weights: np.ndarray) -> Measures:
        """Compute average precision and recall of each resample.

        Args:
            weights: (R,I), at least 0 and finite. An image of weight k counts as k images with the same
                detections and objects, which follow one another in the order of the images. That is exact
                for whole weights, where detections of one image tie up to `MOST_COPIES`; for others the last
                copy has the rest of the weight.

        Raises:
            ValueError: the weights have another shape, or are negative or not finite.
        """
        weights = np.asarray(weights, dtype=np.float64)
        if weights.ndim != 2 or weights.shape[1] != self.images:
            raise ValueError(f"weights have the shape (resamples, {self.images}), not {weights.shape}")
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise ValueError("weights are finite and not negative")
        parts = [self._measure_class(each, weights) for each in self.classes]
        return Measures(np.stack([p for p, _ in parts], axis=1), np.stack([r for _, r in parts], axis=1))

    def _measure_class(self, matches: ClassMatches, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Average precision (R,Z,T) and recall (R,Z,T,L) of one class."""
        sizes, thresholds = matches.matched.shape[:2]
        objects = weights @ matches.objects.T.astype(np.float64)
        precision = np.zeros((len(weights), sizes, thresholds))
        recall = np.zeros((*precision.shape, len(self.limits)))
        most = min(int(np.ceil(weights.max(initial=0))), MOST_COPIES)
        rows, copy = matches.copies(most)
        if len(rows):
            curves = [
                [_Curve.of(matches, rows, self.limits[-1], size, t) for t in range(thresholds)]
                for size in range(sizes)
            ]
            step = max(1, CHUNK // len(rows))
            for start in range(0, len(weights), step):
                part = slice(start, start + step)
                drawn = np.take(weights[part], matches.image[rows], axis=1)
                if (copy >= 0).any():
                    rest = np.where((copy == most - 1) | (copy < 0), np.inf, 1.0)
                    drawn = np.clip(drawn - np.maximum(copy, 0), 0.0, rest)
                for size in range(sizes):
                    self._measure_size(
                        curves[size], drawn, objects[part, size], precision[part, size], recall[part, size]
                    )
        nothing = objects <= 0
        precision[nothing] = np.nan
        recall[nothing] = np.nan
        return precision, recall

    def _measure_size(
        self,
        curves: list[_Curve],
        drawn: np.ndarray,
        objects: np.ndarray,
        precision: np.ndarray,
        recall: np.ndarray,
    ) -> None:
        """Write average precision (N,T) and recall (N,T,L) of a size range of a class.

        Args:
            curves: of each IoU threshold.
            drawn: (N,E), the weight of each entry in each resample.
            objects: (N,), the weight of the objects that count.
            precision: to write to.
            recall: to write to.
        """
        counted = np.flatnonzero(curves[0].base)
        seen = np.zeros((len(drawn), len(counted) + 1))
        np.cumsum(np.take(drawn, counted, axis=1), axis=1, out=seen[:, 1:])
        up_to = np.cumsum(curves[0].base)
        total = np.maximum(objects, 1e-300)[:, None]
        for t, curve in enumerate(curves):
            for position, limit in enumerate(self.limits[:-1]):
                found = np.take(drawn, curve.found[curve.place < limit], axis=1).sum(axis=1)
                recall[:, t, position] = found / total[:, 0]
            if not len(curve.hits):
                continue
            true = np.cumsum(np.take(drawn, curve.hits, axis=1), axis=1)
            recall[:, t, -1] = true[:, -1] / total[:, 0]
            counting = np.take(seen, up_to[curve.hits], axis=1)
            if len(curve.changes):
                extra = np.cumsum(drawn[:, curve.changes] * curve.signs, axis=1)
                before = np.searchsorted(curve.changes, curve.hits, side="right")
                counting[:, before > 0] += extra[:, before[before > 0] - 1]
            counting += np.spacing(1)  # as pycocotools does; it divides 0 by 0 to 0
            precision[:, t] = _area(true / counting, true / total, self.recalls)


class _Curve(NamedTuple):
    """Entries of a class for one size range and IoU threshold.

    Attributes:
        base: bool (E,), entries that count at the last threshold; the same for all thresholds.
        found: positions of all true entries.
        place: of ``found`` among the detections of their image.
        hits: positions of the true entries that average precision counts.
        changes: positions of entries that count here and not in ``base``, or the other way round.
        signs: 1 and -1 for these.
    """

    base: np.ndarray
    found: np.ndarray
    place: np.ndarray
    hits: np.ndarray
    changes: np.ndarray
    signs: np.ndarray

    @classmethod
    def of(cls, matches: ClassMatches, rows: np.ndarray, most: int, size: int, threshold: int) -> _Curve:
        """The entries ``rows`` of a class; average precision counts ``most`` of an image."""
        place = matches.place[rows]
        base = ~matches.ignored[size, -1, rows] & (place < most)
        counts = ~matches.ignored[size, threshold, rows] & (place < most)
        true = matches.hits[size, threshold, rows]
        found, changes = np.flatnonzero(true), np.flatnonzero(base != counts)
        signs = np.where(counts[changes], 1.0, -1.0)
        return cls(base, found, place[found], np.flatnonzero(true & counts), changes, signs)


def _area(precision: np.ndarray, recall: np.ndarray, recalls: np.ndarray | None) -> np.ndarray:
    """Average the precision of curves (N,P) given at their true detections: (N,)."""
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    if recalls is not None:
        recall = np.searchsorted(recalls, recall, side="right") / len(recalls)
    # Each true detection adds the recall, or the thresholds, that it reaches first.
    added = best[:, 0] * recall[:, 0]
    return added + np.einsum("np,np->n", best[:, 1:], recall[:, 1:] - recall[:, :-1])


def mean_of_known(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Average over axes without the entries that are NaN; -1 where all are, as COCO writes it."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), -1.0)
