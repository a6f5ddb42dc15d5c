"""The largest difference between the detections of PyTorch and those of an exported file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from densedet.core.array_boxes import pairwise_iou
from densedet.core.suppression import Suppression
from densedet.core.types import Detections, to_array

LIMIT = 1e-4
"""The largest difference that a file may show."""


@dataclass
class Difference:
    """What differs over some images.

    Attributes:
        images: their number.
        detections: of PyTorch, in all images.
        boxes: largest difference of a box's side, as a share of the image's longer side.
        scores: largest difference of a score.
        extra: largest difference of any other value, as a share of the largest value where that is above 1.
        alone: detections that one of the two has alone.
        margin: for these, the largest change of a score or an overlap that would have decided otherwise.
    """

    images: int = 0
    detections: int = 0
    boxes: float = 0.0
    scores: float = 0.0
    extra: float = 0.0
    alone: int = 0
    margin: float = 0.0

    @property
    def largest(self) -> float:
        """The largest of all differences."""
        return max(self.boxes, self.scores, self.extra, self.margin)

    def in_words(self) -> str:
        """Return a sentence."""
        alone = f", {self.alone} found by one of the two alone" if self.alone else ""
        return (
            f"largest difference to PyTorch {self.largest:.1e} (boxes {self.boxes:.1e} of the image's side, "
            f"scores {self.scores:.1e}{alone}) in {self.detections} detections of {self.images} images"
        )

    def add(
        self, ours: Detections, theirs: Detections, size_wh: tuple[int, int], how: Suppression | None
    ) -> None:
        """Compare the detections of an image.

        Args:
            ours: of PyTorch, boxes in pixels of an image of this size.
            theirs: of the file, in the same pixels.
            size_wh: (width, height) of the image.
            how: settings of the suppression that both went through, or None.
        """
        self.images += 1
        self.detections += len(ours)
        one, other = _Columns(ours), _Columns(theirs)
        at = {key: row for row, key in enumerate(other.keys)}
        pairs = [(row, at[key]) for row, key in enumerate(one.keys) if key in at]
        left, right = ([pair[side] for pair in pairs] for side in (0, 1))
        self.boxes = max(self.boxes, _largest(one.boxes[left] - other.boxes[right]) / max(size_wh))
        self.scores = max(self.scores, _largest(one.scores[left] - other.scores[right]))
        for name, values in ours.extra.items():
            first, second = to_array(values)[left], to_array(theirs.extra[name])[right]
            apart = _largest(np.nan_to_num(first.astype(np.float64) - second))
            self.extra = max(self.extra, apart / max(1.0, _largest(np.nan_to_num(first))))
        for here, there, matched in ((one, other, set(left)), (other, one, set(right))):
            for row in range(len(here.keys)):
                if row not in matched:
                    self.alone += 1
                    self.margin = max(self.margin, _margin(here, row, there, how))

    def add_arrays(self, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], side: int) -> None:
        """Compare the raw outputs of a batch: boxes (B,N,4) in an input of this longer side, scores (B,N,C),
        and others."""
        self.images += len(ours[0])
        self.detections += ours[1].shape[0] * ours[1].shape[1]
        self.boxes = max(self.boxes, _largest(ours[0] - theirs[0]) / side)
        self.scores = max(self.scores, _largest(ours[1] - theirs[1]))
        for first, second in zip(ours[2:], theirs[2:]):
            apart = _largest(np.nan_to_num(first.astype(np.float64) - second))
            self.extra = max(self.extra, apart / max(1.0, _largest(np.nan_to_num(first))))


class _Columns:
    """The detections of an image as arrays; ``keys`` are (anchor, label)."""

    def __init__(self, found: Detections) -> None:
        self.boxes = to_array(found.boxes).astype(np.float64)
        self.scores = to_array(found.scores).astype(np.float64)
        self.labels = to_array(found.labels)
        self.keys = list(zip(to_array(found.anchors).tolist(), self.labels.tolist()))


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0.0))


def _margin(here: _Columns, row: int, there: _Columns, how: Suppression | None) -> float:
    """Return by how much a detection that the other side lacks missed being lost here, too: how far its score
    is above the cut, or its overlap with a better detection below the limit."""
    if how is None:
        return float(here.scores[row])
    full = len(there.keys) >= how.max_detections
    cut = min(there.scores, default=how.score) if full else max(how.score, 0.0)
    margins = [abs(float(here.scores[row]) - float(cut))]
    better = there.scores >= here.scores[row] - LIMIT
    if not how.class_agnostic:
        better &= there.labels == here.labels[row]
    overlaps = pairwise_iou(here.boxes[row][None], there.boxes[better])[0]
    margins += np.abs(overlaps - how.iou).tolist()
    return min(margins)
