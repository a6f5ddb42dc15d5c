"""From the entries of a file, one at a time, to an `AnnotationTable`; faults become sentences.

No torch here.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections import Counter
from operator import itemgetter

import numpy as np

from densedet.core.annotations.faults import Faults
from densedet.core.annotations.table import (
    CROWD,
    IGNORE,
    AnnotationTable,
    is_side,
    name_fault,
    pack_names,
    packed_ids,
    positions_in,
)
from densedet.core.errors import DataError
from densedet.core.text import counted

NO_ID = -(1 << 63)
"""An annotation without an id of its own; it gets one in `TableBuilder.finish`."""


class TableBuilder:
    """Collect classes, images and boxes in any order; `finish` checks them and orders the boxes by image.

    It takes about 80 bytes for a box and 200 for an image.

    Args:
        origin: the file that entries come from, for sentences. Set the attribute anew for another file.
        faults: collects what is wrong; None makes a strict collector.
    """

    def __init__(self, origin: str, faults: Faults | None = None) -> None:
        self.origin = origin
        self.faults = Faults() if faults is None else faults
        self.categories: dict[int, str] = {}
        self._codes: dict[int | str, int] = {}
        self._images: dict[int | str, int] = {}
        self._names: list[str] = []
        self._sizes = array("i")
        self._owners, self._labels, self._ids = array("q"), array("q"), array("q")
        self._xywh, self._areas = array("d"), array("d")
        self._flags = array("B")
        self._origins: list[tuple[int, str]] = []
        self._named: list[int | str] = []

    def add_class(self, category_id: int, name: str) -> None:
        """Add a class. Raises DataError unless its id and name are new, and there is a name."""
        if not -(1 << 63) <= category_id < 1 << 63:
            raise DataError(f"{self.origin}: category id {category_id} does not fit in 64 bits")
        if category_id in self.categories:
            raise DataError(
                f"{self.origin}: category id {category_id} occurs twice "
                f"({self.categories[category_id]!r} and {name!r})"
            )
        if not name:
            raise DataError(f"{self.origin}: category {category_id} has an empty name: give it one")
        for other, known in self.categories.items():
            if known == name:
                raise DataError(
                    f"{self.origin}: categories {other} and {category_id} are both called {name!r}: "
                    f"rename one of them"
                )
        self.categories[category_id] = name

    def add_image(self, image_id: int | str, name: str, width: int, height: int) -> bool:
        """Add an image.

        Args:
            image_id: unique among the images.
            name: file name relative to the folder of images, "/" between folders.
            width: in pixels, as displayed.
            height: in pixels, as displayed.

        Returns:
            Whether the image can be used.
        """
        fault = name_fault(name)
        if image_id in self._images:
            self.faults.entry(
                "image",
                f"{self.origin}: image id {image_id!r} occurs twice; image ids must be unique, also "
                f"over joined files",
            )
        elif fault is not None:
            self.faults.entry("image", f"{self.origin}: image {image_id}: file_name {name[:80]!r} {fault}")
        elif not (is_side(width) and is_side(height)):
            self.faults.entry(
                "image",
                f"{self.origin}: image {image_id} ({name[:80]}) is {width} x {height} pixels: sides "
                f"must be above 0",
            )
        else:
            self._images[image_id] = len(self._names)
            self._names.append(name)
            self._sizes.extend((width, height))
            return True
        return False

    def add_box(
        self,
        image_id: int | str,
        category_id: int,
        box: tuple[float, float, float, float] | list[float],
        *,
        area: float = math.nan,
        crowd: bool = False,
        ignore: bool = False,
        id: int = NO_ID,
    ) -> None:
        """Add a box, whose image and class may be added later.

        Args:
            image_id: the image.
            category_id: the class.
            box: x, y, width, height in source pixels, the image's top left corner at 0, 0.
            area: NaN stands for width * height.
            crowd: COCO's iscrowd.
            ignore: whether the object neither counts nor hurts.
            id: the annotation's id; `NO_ID` gets one in `finish`.
        """
        if not self._origins or self._origins[-1][1] != self.origin:
            self._origins.append((len(self._flags), self.origin))
        self._owners.append(self._codes.setdefault(image_id, len(self._codes)))
        self._labels.append(category_id)
        self._ids.append(id)
        self._xywh.extend(box)
        self._areas.append(area)
        self._flags.append(CROWD * crowd | IGNORE * ignore)

    @property
    def images(self) -> int:
        """Number of images so far."""
        return len(self._names)

    @property
    def boxes(self) -> int:
        """Number of boxes so far."""
        return len(self._flags)

    def finish(self) -> AnnotationTable:
        """Make the table, and empty the builder. Labels follow the ascending category ids.

        Raises:
            DataError: an entry contradicts the file, and the faults are strict.
        """
        category_ids = tuple(sorted(self.categories))
        sizes = (
            np.frombuffer(self._sizes, dtype=np.int32).reshape(-1, 2)
            if self._names
            else np.zeros((0, 2), np.int32)
        )
        owners = self._positions(_column(self._owners, np.int64))
        labels, known = positions_in(np.array(category_ids, dtype=np.int64), _column(self._labels, np.int64))
        xywh = _column(self._xywh, np.float64).reshape(-1, 4)
        usable = (owners >= 0) & known
        self._named = list(self._codes)
        for row in np.flatnonzero(~usable).tolist():
            self._orphan(row, category_ids)
        rows = np.flatnonzero(usable)
        order = rows[
            self.faults.check_boxes(xywh[rows], sizes, owners[rows], lambda row: self._place(int(rows[row])))
        ]
        self._note_repeated()
        self.faults.refuse()
        order = order[np.argsort(owners[order], kind="stable")]
        names, name_offsets = pack_names(self._names)
        table = AnnotationTable(
            classes=tuple(self.categories[i] for i in category_ids),
            category_ids=category_ids,
            image_ids=packed_ids(list(self._images)),
            names=names,
            name_offsets=name_offsets,
            sizes=sizes.copy(),
            offsets=np.searchsorted(owners[order], np.arange(len(sizes) + 1)).astype(np.int64),
            xywh=xywh[order],
            labels=labels[order].astype(np.uint16 if len(category_ids) <= 1 << 16 else np.int64),
            flags=_column(self._flags, np.uint8)[order],
            areas=_areas(_column(self._areas, np.float64)[order], xywh[order]),
            ids=_numbered(_column(self._ids, np.int64)[order]),
            faults=self.faults,
        )
        self.__init__(self.origin, self.faults)  # type: ignore[misc]
        return table

    def _positions(self, codes: np.ndarray) -> np.ndarray:
        """Return the image of each box, -1 where there is no image of its id."""
        table = np.array([self._images.get(image_id, -1) for image_id in self._codes], dtype=np.int64)
        return table[codes] if len(codes) else codes

    def _note_repeated(self) -> None:
        """Note annotation ids that a file gives more than once, and file names of several images. Both are
        kept: boxes belong to their image whatever their id is, and images are told apart by their ids."""
        bounds = [*(start for start, _ in self._origins), len(self._ids)]
        for (start, origin), end in zip(self._origins, bounds[1:]):
            ids, counts = np.unique(_column(self._ids, np.int64)[start:end], return_counts=True)
            same = ids[(counts > 1) & (ids != NO_ID)].tolist()
            if same:
                self.faults.note(
                    "same_id",
                    f"{origin}: {counted(len(same), 'annotation id')} given more than once ({same[0]}, "
                    f"for one): "
                    f"every box is kept, but pycocotools takes the last of an id for all of them",
                    count=len(same),
                )
        if len(set(self._names)) < len(self._names):
            names = [name for name, count in Counter(self._names).items() if count > 1]
            self.faults.note(
                "same_name",
                f"{self.origin}: {counted(len(names), 'file name')} given more than once "
                f"({names[0][:80]}, for one): "
                f"each entry is an image of its own, in which the objects of the others are background",
                count=len(names),
            )

    def _place(self, row: int) -> str:
        start, origin = self._origins[bisect_right(self._origins, row, key=itemgetter(0)) - 1]
        number = (
            f"annotation {self._ids[row]}"
            if self._ids[row] != NO_ID
            else f"annotation number {row - start + 1}"
        )
        image_id = self._named[self._owners[row]]
        position = self._images.get(image_id)
        name = "" if position is None or self._names[position] == image_id else f" ({self._names[position]})"
        return f"{origin}: {number} of image {image_id}{name}"

    def _orphan(self, row: int, category_ids: tuple[int, ...]) -> None:
        if self._labels[row] not in category_ids:
            self.faults.entry(
                "category",
                f"{self._place(row)}: 'category_id' is {self._labels[row]}, not the id of one of its "
                f"categories",
            )
        else:
            self.faults.entry(
                "image_id", f"{self._place(row)}: 'image_id' is not the id of an image of this file"
            )


def _column(values: array, dtype: type) -> np.ndarray:
    return np.frombuffer(values, dtype=dtype) if len(values) else np.zeros(0, dtype)


def _areas(given: np.ndarray, xywh: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(given) & (given >= 0), given, xywh[:, 2] * xywh[:, 3])


def _numbered(ids: np.ndarray) -> np.ndarray:
    """Number the annotations without an id on from the largest id."""
    lacking = ids == NO_ID
    if lacking.any():
        start = 1 if lacking.all() else int(ids[~lacking].max()) + 1
        ids = ids.copy()
        ids[lacking] = start + np.arange(int(lacking.sum()))
    return ids
