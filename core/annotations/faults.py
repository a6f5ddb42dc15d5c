"""What is wrong with an annotation input: one check of boxes and one counter for all formats.

No torch here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from densedet.core.errors import DataError
from densedet.core.text import counted

MAX_SENTENCES = 1000
"""Sentences kept about faults; the counts go on."""

ROUNDING = 0.05
"""A box that leaves its image by no more than this many pixels was only rounded: clipped, not reported."""

CHUNK = 1 << 16
"""Boxes checked at a time: the temporary arrays stay in the processor's cache."""

TINY = 1e-30
"""Wider than this is wider than 0 in float32 too."""

BOX_KINDS = {
    "unreadable": "with a value that cannot be read",
    "columns": "with a wrong number of columns",
    "no_box": "without four numbers",
    "out_of_range": "with numbers outside 0..1",
    "not_finite": "not finite",
    "inverted": "drawn from right to left or upwards",
    "flat": "without width or height",
    "outside": "outside their image",
    "category": "of no known class",
    "image_id": "of no known image",
    "flag": "with a flag that is not 0 or 1",
    "annotation_id": "with an id that is no whole number",
    "reported": "left out by the source itself",
}
"""{kind of fault for which a box is left out: words behind a number of boxes}."""

IMAGE_KINDS = {
    "image": "that cannot be used",
    "list": "listed without a file",
    "format": "of a format that cannot be read here",
}
"""The same for images."""

REPEATED_KINDS = {"same_id": "annotation id", "same_name": "file name"}
"""{kind of what is given more than once and kept: what it is}."""

NOT_FINITE, INVERTED, FLAT, OUTSIDE, CLIPPED = range(1, 6)
"""What `box_faults` finds: not finite; a width or height below 0; one of 0; nothing of it lies in the image
(in float32); partly outside."""

RULES = {
    NOT_FINITE: ("not_finite", "is not finite and was dropped"),
    INVERTED: (
        "inverted",
        "is drawn from right to left or upwards (its width or height is below 0) and was dropped",
    ),
    FLAT: ("flat", "has no width or height above 0 and was dropped"),
    OUTSIDE: ("outside", "lies outside its image of {} x {} and was dropped"),
    CLIPPED: ("clipped", "leaves its image of {} x {} and was clipped"),
}
"""{what `box_faults` finds: (kind, end of a sentence)}."""


class Faults:
    """Collect what is wrong in an input, by kind.

    Args:
        strict: True to refuse an input with an entry that contradicts it (`refuse`), as a source for training
            does; False to leave the entry out and record it, as checking and converting do. Boxes that are
            not finite, flat or outside their image are left out and recorded in any case.
        on_fault: called with every sentence, also with those beyond the `MAX_SENTENCES` that are kept.

    Attributes:
        sentences: the sentences that are kept.
        counts: {kind: number}; kinds are those of `BOX_KINDS`, `IMAGE_KINDS` and `REPEATED_KINDS`, "clipped",
            and others for what is only worth knowing.
    """

    def __init__(self, *, strict: bool = True, on_fault: Callable[[str], None] | None = None) -> None:
        self.strict = strict
        self.on_fault = on_fault
        self.clear()

    def clear(self) -> None:
        """Forget everything, before an input is read anew."""
        self.sentences: list[str] = []
        self.counts: Counter[str] = Counter()
        self._untold = 0  # counted without a sentence that is kept
        self._first = ""
        self._refused: Counter[str] = Counter()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"on_fault": None}

    def entry(self, kind: str, sentence: str, *, count: int = 1) -> None:
        """Record entries that cannot be used and are left out; a strict `refuse` raises for them."""
        self._first = self._first or sentence
        self._refused[kind] += count
        self.note(kind, f"{sentence}; left out", count=count)

    def note(self, kind: str, sentence: str, *, count: int = 1) -> None:
        """Record something that the user should know."""
        self.counts[kind] += count
        if len(self.sentences) < MAX_SENTENCES:
            self.sentences.append(sentence)
        else:
            self._untold += count
        if self.on_fault is not None:
            self.on_fault(sentence)

    def check_boxes(
        self,
        xywh: np.ndarray,
        sizes: np.ndarray,
        owners: np.ndarray | None,
        place_of: Callable[[int], str],
    ) -> np.ndarray:
        """Check boxes against their images, and record those that are dropped or clipped.

        Args:
            xywh: float64 (M,4) x, y, width, height in pixels.
            sizes: (width, height) of each box's image (M,2), or with ``owners`` of all images (I,2).
            owners: (M,), the image of each box, or None.
            place_of: gives the beginning of a sentence for a position in ``xywh``.

        Returns:
            bool (M,): which boxes can be used.
        """
        found = box_faults(xywh, sizes, owners)
        wrong = np.flatnonzero(found)
        told = wrong if self.on_fault is not None else wrong[: max(MAX_SENTENCES - len(self.sentences), 0)]
        for row in told.tolist():
            kind, rule = RULES[int(found[row])]
            size = sizes[row if owners is None else owners[row]].tolist()
            box = ", ".join(f"{value:g}" for value in xywh[row].tolist())
            self.note(kind, f"{place_of(row)}: box [{box}] (x, y, width, height) {rule.format(*size)}")
        for fault, count in enumerate(np.bincount(found[wrong[len(told) :]], minlength=1).tolist()):
            if count:
                self.counts[RULES[fault][0]] += count
                self._untold += count
        return (found == 0) | (found == CLIPPED)

    def refuse(self) -> None:
        """Raise DataError where the collector is strict and `entry` recorded something."""
        more = sum(self._refused.values()) - 1
        if not self.strict or more < 0:
            return
        if not more:
            raise DataError(self._first)
        kinds = BOX_KINDS | {kind: f"as images {text}" for kind, text in IMAGE_KINDS.items()}
        raise DataError(
            f"{self._first}; {more:,} more cannot be used (in all {_listed(self._refused, kinds)}): densedet "
            f"check data lists them, densedet convert writes a copy without them"
        )

    @property
    def dropped_boxes(self) -> int:
        """Boxes, or lines that should hold one, that were left out."""
        return sum(self.counts[kind] for kind in BOX_KINDS)

    @property
    def left_out_images(self) -> int:
        """Images that were left out."""
        return sum(self.counts[kind] for kind in IMAGE_KINDS)

    @property
    def clipped_boxes(self) -> int:
        """Boxes that were clipped to their image."""
        return self.counts["clipped"]

    def numbers(self) -> dict[str, Any]:
        """Return {"dropped_boxes", "clipped_boxes", "left_out_images", "faults": {kind: number}}."""
        return {
            "dropped_boxes": self.dropped_boxes,
            "clipped_boxes": self.clipped_boxes,
            "left_out_images": self.left_out_images,
            "faults": dict(sorted(self.counts.items())),
        }

    def words(self) -> str:
        """Return the numbers as they are printed; see `fault_words`."""
        return fault_words(self.counts)

    def told(self) -> list[str]:
        """Return the sentences that were kept, and one about the number of those that were not."""
        return [*self.sentences, *([f"... and {self._untold} more"] if self._untold else [])]


def fault_words(counts: Mapping[str, int]) -> str:
    """Return {kind: number} in words, "" where nothing was left out, clipped or repeated."""
    parts = []
    for what, kinds in (("box", BOX_KINDS), ("image", IMAGE_KINDS)):
        total = sum(counts.get(kind, 0) for kind in kinds)
        if total:
            parts.append(f"{counted(total, what)} left out ({_listed(counts, kinds)})")
    if counts.get("clipped"):
        parts.append(f"{counted(counts['clipped'], 'box')} clipped")
    for kind, what in REPEATED_KINDS.items():
        if counts.get(kind):
            parts.append(f"{counted(counts[kind], what)} given more than once")
    return ", ".join(parts)


def _listed(counts: Mapping[str, int], kinds: dict[str, str]) -> str:
    """Return "3 without four numbers, 1 of no known class"."""
    return ", ".join(f"{counts[kind]:,} {text}" for kind, text in kinds.items() if counts.get(kind))


def box_faults(xywh: np.ndarray, sizes: np.ndarray, owners: np.ndarray | None = None) -> np.ndarray:
    """Check boxes against the images that they belong to.

    Args:
        xywh: float64 (M,4) x, y, width, height in pixels.
        sizes: (width, height) of each box's image (M,2), or with ``owners`` of all images (I,2).
        owners: (M,), the image of each box.

    Returns:
        uint8 (M,): 0 for a sound box, `NOT_FINITE`, `INVERTED`, `FLAT` or `OUTSIDE` for one that cannot be
        used, `CLIPPED` for one that can, once clipped.
    """
    found = np.zeros(len(xywh), dtype=np.uint8)
    for start in range(0, len(xywh), CHUNK):
        part = slice(start, start + CHUNK)
        limits = sizes[part] if owners is None else sizes[owners[part]]
        _faults_of(xywh[part], limits, found[part])
    return found


def _all_sound(columns: np.ndarray, sizes: np.ndarray) -> bool:
    """Return whether all boxes are well inside their images, and wide enough to stay so in float32.

    Most files pass this quick check.
    """
    x, y, w, h = columns
    right, bottom = x + w, y + h
    sound = (x >= 0) & (y >= 0) & (right <= sizes[:, 0]) & (bottom <= sizes[:, 1])
    sound &= (w > np.maximum(right * 2.0**-22, TINY)) & (h > np.maximum(bottom * 2.0**-22, TINY))
    return bool(sound.all())


def _faults_of(xywh: np.ndarray, sizes: np.ndarray, found: np.ndarray) -> None:
    with np.errstate(invalid="ignore", over="ignore"):
        columns = np.ascontiguousarray(xywh.T)
        if _all_sound(columns, sizes):
            return
        # In float32, as boxes are later; sums and products of such numbers do not overflow in float64.
        numbers = np.vstack([columns, columns[2] * columns[3]]).astype(np.float32)
        finite = np.isfinite(numbers).all(0)
        flat = ~((columns[2] > 0) & (columns[3] > 0))
        inverted = (columns[2] < 0) | (columns[3] < 0)
        inside = np.ones(len(xywh), dtype=bool)
        moved = np.zeros(len(xywh), dtype=bool)
        for axis in (0, 1):
            limit = sizes[:, axis].astype(np.float64)
            start, end = columns[axis], columns[axis] + columns[axis + 2]
            low, high = np.minimum(np.maximum(start, 0), limit), np.minimum(np.maximum(end, 0), limit)
            inside &= high.astype(np.float32) > low.astype(np.float32)
            moved |= (low - start > ROUNDING) | (end - high > ROUNDING) | (start - low > ROUNDING)
    found[moved] = CLIPPED
    found[~inside] = OUTSIDE
    found[flat] = FLAT
    found[inverted] = INVERTED
    found[~finite] = NOT_FINITE
