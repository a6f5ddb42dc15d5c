"""All boxes of a source as a few NumPy arrays: no Python object per box, so worker processes share or copy them cheaply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from densedet.core.types import Annotation

MAX_SENTENCES = 1000
"""Sentences kept about faulty boxes; the counts go on."""

ROUNDING = 0.05
"""A box that leaves its image by no more than this many pixels was only rounded: clipped, not reported."""


@dataclass
class AnnotationTable:
    """I images, M boxes sorted by image.

    image_ids: int64 (I,), or a list where the file has other ids. names: UTF-8 bytes of all file names; name i is
    names[name_offsets[i]:name_offsets[i+1]]. sizes: int32 (I,2) (width, height). Boxes of image i are offsets[i]:offsets[i+1] of
    boxes float32 (M,4) xyxy source pixels, inside the image, labels int16, ignore and crowd bool, areas float32 (M,).
    sentences: what was dropped or clipped, at most `MAX_SENTENCES`; dropped, clipped: how many boxes.
    """

    image_ids: np.ndarray | list[int | str]
    names: np.ndarray
    name_offsets: np.ndarray
    sizes: np.ndarray
    offsets: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    sentences: list[str] = field(default_factory=list)
    dropped: int = 0
    clipped: int = 0

    def __len__(self) -> int:
        return len(self.sizes)

    def image_id(self, index: int) -> int | str:
        """As the file has it."""
        value = self.image_ids[index]
        return value if isinstance(value, (int, str)) else int(value)

    def name(self, index: int) -> str:
        """The file name as the file has it."""
        return self.names[self.name_offsets[index] : self.name_offsets[index + 1]].tobytes().decode("utf-8", "surrogatepass")

    def annotation(self, index: int) -> Annotation:
        """The truth of image ``index``; its tensors are copies."""
        part = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        return Annotation(
            boxes=torch.from_numpy(self.boxes[part].copy()),
            labels=torch.from_numpy(self.labels[part].astype(np.int64)),
            ignore=torch.from_numpy(self.ignore[part].copy()),
            crowd=torch.from_numpy(self.crowd[part].copy()),
            area=torch.from_numpy(self.areas[part].copy()),
            image_id=self.image_id(index),
            file_name=self.name(index),
            width=int(self.sizes[index, 0]),
            height=int(self.sizes[index, 1]),
        )


def pack_names(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """-> (uint8 bytes of all names, int64 offsets (I+1,)) for `AnnotationTable`."""
    encoded = [name.encode("utf-8", "surrogatepass") for name in names]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(name) for name in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets


@dataclass
class CheckedBoxes:
    """xyxy float64 (M,4) clipped to their images; keep: bool (M,), False where a box cannot be used; clipped: bool (M,);
    faults: (row, rule) of each box that is dropped or clipped, in order."""

    boxes: np.ndarray
    keep: np.ndarray
    clipped: np.ndarray
    faults: list[tuple[int, str]]


def check_boxes(xywh: np.ndarray, sizes: np.ndarray) -> CheckedBoxes:
    """COCO boxes float64 (M,4) x, y, width, height of images of sizes (M,2) (width, height), checked once and for all.

    Dropped: not finite, not wider or higher than 0, wholly outside the image, or nothing left in float32. Clipped: partly outside.
    """
    finite = np.isfinite(xywh).all(1)
    with np.errstate(invalid="ignore", over="ignore"):
        flat = finite & ~((xywh[:, 2] > 0) & (xywh[:, 3] > 0))
        raw = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        limit = np.concatenate([sizes, sizes], axis=1).astype(np.float64)
        boxes = np.minimum(np.maximum(raw, 0), limit)
        single = boxes.astype(np.float32)
        inside = (single[:, 2] > single[:, 0]) & (single[:, 3] > single[:, 1])
        moved = np.abs(boxes - raw).max(axis=1, initial=0) > ROUNDING
    keep = finite & ~flat & inside
    clipped = keep & moved
    faults = []
    for row in np.flatnonzero(~keep | clipped).tolist():
        if not finite[row]:
            faults.append((row, "is not finite and was dropped"))
        elif flat[row]:
            faults.append((row, "has no width or height above 0 and was dropped"))
        elif not keep[row]:
            faults.append((row, f"lies outside its image of {sizes[row, 0]} x {sizes[row, 1]} and was dropped"))
        else:
            faults.append((row, f"leaves its image of {sizes[row, 0]} x {sizes[row, 1]} and was clipped"))
    return CheckedBoxes(boxes, keep, clipped, faults)
