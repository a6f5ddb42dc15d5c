"""All boxes of a source as a few NumPy columns, which files map and processes share. No torch here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from densedet.core.annotations.faults import Faults

if TYPE_CHECKING:
    from densedet.core.types import Annotation

MAX_SIDE = 1 << 24
"""Larger image sides are refused: pixel positions beyond are no longer exact in float32."""

CROWD, IGNORE = 1, 2
"""Bits of ``flags``."""


class Objects(NamedTuple):
    """The boxes of one image. G may be 0.

    Attributes:
        boxes: float32 (G,4) xyxy in source pixels, clipped to the image.
        xywh: float64 (G,4) x, y, width, height as the file has them.
        labels: int64 (G,), 0..C-1.
        flags: uint8 (G,) of `CROWD` and `IGNORE`.
        areas: float64 (G,) in pixels.
    """

    boxes: np.ndarray
    xywh: np.ndarray
    labels: np.ndarray
    flags: np.ndarray
    areas: np.ndarray


@dataclass
class AnnotationTable:
    """All annotations of a source: I images, M boxes in the order of their images, C classes.

    Attributes:
        classes: names, index = label.
        category_ids: the file's id of each class.
        image_ids: int64 (I,), or a list where a file's ids are texts.
        names: uint8, UTF-8 of all file names one after the other. Each lies below the image folder ("/"
            between folders, no "..", no drive, no NUL).
        name_offsets: int64 (I+1,); names[name_offsets[i]:name_offsets[i+1]] is the name of image i.
        sizes: int32 (I,2) (width, height) as displayed, 1..`MAX_SIDE` - 1.
        offsets: int64 (I+1,); image i has the boxes offsets[i]:offsets[i+1].
        xywh: float64 (M,4) x, y, width, height in source pixels exactly as the file has them: finite, width
            and height above 0, overlapping the image.
        labels: integers (M,), 0..C-1.
        flags: uint8 (M,) of `CROWD` and `IGNORE`.
        areas: float64 (M,), finite, by which COCO sorts sizes.
        ids: int64 (M,), the file's annotation ids.
        faults: what was wrong when the annotations were read.
        scores: float64 (M,) in 0..1 of detections that are written as proposals; None: the boxes are truth.
    """

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_ids: np.ndarray | list[int | str]
    names: np.ndarray
    name_offsets: np.ndarray
    sizes: np.ndarray
    offsets: np.ndarray
    xywh: np.ndarray
    labels: np.ndarray
    flags: np.ndarray
    areas: np.ndarray
    ids: np.ndarray
    faults: Faults = field(default_factory=Faults)
    scores: np.ndarray | None = None

    def __post_init__(self) -> None:
        # A .db file's are uint32: NumPy makes uint64 of their sums, and floats of these and an int.
        self.offsets, self.name_offsets = (
            np.asarray(column, dtype=np.int64) for column in (self.offsets, self.name_offsets)
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def image_id(self, index: int) -> int | str:
        """Return the id of image ``index`` as the file has it."""
        value = self.image_ids[index]
        return value if isinstance(value, (int, str)) else int(value)

    def name(self, index: int) -> str:
        """Return the file name of image ``index`` as the file has it."""
        return (
            self.names[self.name_offsets[index] : self.name_offsets[index + 1]]
            .tobytes()
            .decode("utf-8", "surrogatepass")
        )

    def objects(self, index: int) -> Objects:
        """Return the boxes of image ``index``; columns other than ``boxes`` are views."""
        part = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        xywh = self.xywh[part]
        return Objects(
            corners(xywh, self.sizes[index]), xywh, self.labels[part], self.flags[part], self.areas[part]
        )

    def annotation(self, index: int) -> Annotation:
        """Return the truth of image ``index``, 0..I-1; its tensors are copies."""
        width, height = self.sizes[index].tolist()
        return annotation_of(self.objects(index), self.image_id(index), self.name(index), width, height)

    def truth(self, index: int) -> Annotation:
        """Return the truth of image ``index``, 0..I-1, as arrays; torch is not imported."""
        width, height = self.sizes[index].tolist()
        return truth_of_objects(self.objects(index), self.image_id(index), self.name(index), width, height)

    def owners(self) -> np.ndarray:
        """Return int64 (M,), the image of each box."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def select(self, images: np.ndarray, boxes: np.ndarray | None = None) -> AnnotationTable:
        """Return a table of some images and some of their boxes.

        Args:
            images: ascending positions.
            boxes: bool (M,), which boxes are kept; None keeps all of those images.
        """
        counts = np.diff(self.offsets)
        chosen = np.zeros(len(self), dtype=bool)
        chosen[images] = True
        keep = np.repeat(chosen, counts)
        if boxes is not None:
            keep &= boxes
        left = np.zeros(len(self) + 1, dtype=np.int64)
        np.cumsum(np.add.reduceat(np.append(keep, False), self.offsets[:-1]) * (counts > 0), out=left[1:])
        offsets = np.append(0, np.cumsum(np.diff(left)[images]))
        lengths = np.diff(self.name_offsets)
        return AnnotationTable(
            classes=self.classes,
            category_ids=self.category_ids,
            image_ids=self.image_ids[images]
            if isinstance(self.image_ids, np.ndarray)
            else [self.image_ids[i] for i in images.tolist()],
            names=self.names[np.repeat(chosen, lengths)],
            name_offsets=np.append(0, np.cumsum(lengths[images])),
            sizes=self.sizes[images],
            offsets=offsets,
            faults=self.faults,
            scores=None if self.scores is None else self.scores[keep],
            **{name: getattr(self, name)[keep] for name in ("xywh", "labels", "flags", "areas", "ids")},
        )


def equal_tables(one: AnnotationTable, other: AnnotationTable) -> list[str]:
    """Return the names of the columns in which two tables differ."""
    return [
        f.name
        for f in fields(AnnotationTable)
        if f.name != "faults" and not _same(getattr(one, f.name), getattr(other, f.name))
    ]


def _same(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return type(one) is type(other) and one == other


def annotation_of(objects: Objects, image_id: int | str, name: str, width: int, height: int) -> Annotation:
    """Return an `Annotation` with tensors of its own."""
    return with_tensors(truth_of_objects(objects, image_id, name, width, height))


def truth_of_objects(objects: Objects, image_id: int | str, name: str, width: int, height: int) -> Annotation:
    """Return an `Annotation` with arrays of its own, without torch."""
    from densedet.core.types import Annotation

    columns: dict[str, Any] = {
        "boxes": objects.boxes,
        "labels": objects.labels.astype(np.int64),
        "ignore": objects.flags != 0,
        "crowd": (objects.flags & CROWD) != 0,
        "area": objects.areas.copy(),
        "xywh": objects.xywh.copy(),
    }
    return Annotation(**columns, image_id=image_id, file_name=name, width=width, height=height)


def with_tensors(truth: Annotation) -> Annotation:
    """Return an `Annotation` of arrays with tensors on the same memory."""
    import torch

    columns: dict[str, Any] = {
        name: None if getattr(truth, name) is None else torch.from_numpy(getattr(truth, name))
        for name in ("boxes", "labels", "ignore", "crowd", "area", "xywh")
    }
    return replace(truth, **columns)


def corners(xywh: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Turn float64 (G,4) x, y, width, height into float32 (G,4) xyxy, clipped to (width, height) ``size``."""
    boxes = np.array(xywh)
    boxes[:, 2:] += boxes[:, :2]
    pairs = boxes.reshape(-1, 2)
    np.maximum(pairs, 0, out=pairs)
    np.minimum(pairs, size, out=pairs)
    return boxes.astype(np.float32)


def pack_names(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the uint8 bytes of all names and int64 (I+1,) offsets, for an `AnnotationTable`."""
    encoded = [name.encode("utf-8", "surrogatepass") for name in names]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(name) for name in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets


def name_fault(name: str) -> str | None:
    """Return what is wrong with an image's file name ("leaves the image folder", on any system), or None."""
    if name and name[0] != "/" and not any(odd in name for odd in (":", "\\", "\0", "..")):
        return None  # most names, a hundred times as fast
    windows = PureWindowsPath(name)
    if not name:
        return "is empty"
    if "\0" in name:
        return "holds a NUL byte"
    if PurePosixPath(name).is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        return "leaves the image folder: names must lie below it"
    return None


def is_side(value: object) -> bool:
    """Return whether a value can be the width or height of an image."""
    return type(value) is int and 0 < value < MAX_SIDE


def packed_ids(ids: Sequence[int | str]) -> np.ndarray | list[int | str]:
    """Return image ids as `AnnotationTable` holds them: int64 (I,) where all fit, else a list."""
    plain = all(isinstance(i, int) and -(1 << 63) <= i < 1 << 63 for i in ids)
    return np.array(ids, dtype=np.int64) if plain else list(ids)


def image_ids_of(stems: Sequence[str]) -> list[int]:
    """Return the names' own numbers (139 for 000139.jpg) where all are numbers and differ, or else 1..I."""
    if all(re.fullmatch("[0-9]{1,18}", stem) for stem in stems):
        own = [int(stem) for stem in stems]
        if len(set(own)) == len(own):
            return own
    return list(range(1, len(stems) + 1))


def positions_in(ascending: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Look values up in an ascending array.

    Returns:
        int64 (N,): the position of each value, arbitrary where it is not there; bool (N,): whether it is.
    """
    if not len(ascending):
        return np.zeros(len(values), np.int64), np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return at, ascending[at] == values
