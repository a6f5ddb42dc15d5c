"""densedet's SQLite database: the content of a .db file, to look into and to change with SQL."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from densedet.core.errors import DataError
from densedet.core.sources import (
    APPLICATION_ID,
    COLUMNS,
    INDEXES,
    SCHEMA,
    VERSION,
    AnnotationTable,
    Faults,
    Guarded,
    Objects,
    Progress,
    RowIds,
    annotation_of,
    check_where_syntax,
    connect,
    corners,
    fill,
    is_side,
    matching,
    pack_names,
    packed_ids,
    positions_in,
    refused_with,
)
from densedet.plugins.sources._database import DatabaseSource
from densedet.plugins.sources._sqlite_rows import BOX, IMAGE, Boxes, image_usable, is_whole, read_boxes, shown

if TYPE_CHECKING:
    from densedet.core.types import Annotation

MAX_CLASSES = 1 << 16


class SQLiteSource(DatabaseSource):
    """Read a ``.sqlite`` file written by `densedet convert` and a folder of images.

    The tables images, boxes and classes (`densedet.core.annotations.sql.SCHEMA`) may be changed with any
    SQLite program: rows may be deleted, and columns added for a filter's ``where``. Each process opens the
    file once, read-only, and queries it for each image; a filter, `densedet check`, `densedet convert` and
    the start of a run read all of it at once (`table`). Images, and the boxes of an image, are in the order
    of their row ids.

    Values are checked as they are read. A box without width and height above 0 or outside its image is
    dropped, as in a JSON file. A value of another type than its column's, or a row that belongs to no image
    or class, stops training; `densedet convert` and `densedet check` leave it out and report it.

    Args:
        annotations: the .sqlite file; a relative path starts at ``root``.
        images: the folder that the file names are relative to; a relative path starts at ``root``.
        root: (wired) data.root, where relative paths start.

    Raises:
        DataError: the file or folder is missing, or the file is no such database, is damaged, is of another
            version or holds an impossible value.
    """

    layout: ClassVar[str] = "a .sqlite file that densedet convert wrote"
    suffixes: ClassVar[tuple[str, ...] | None] = (".sqlite", ".sqlite3")
    marks: ClassVar[dict[int, bytes]] = {0: b"SQLite format 3\0", 68: APPLICATION_ID.to_bytes(4, "big")}

    def __init__(self, *, annotations: str, images: str, root: str = ".") -> None:
        super().__init__(annotations=annotations, images=images, root=root)
        self._connection: Guarded | None = None
        self._process = 0
        self._images: np.ndarray | None = None
        self._classes: tuple[tuple[str, ...], tuple[int, ...], np.ndarray] | None = None
        self._rows: RowIds | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without connection and table: a worker queries the file itself.

        The table stays where rows were left out of it, because its positions are not the file's.
        """
        state = super().__getstate__() | {"_connection": None, "_process": 0}
        return state | {"_table": None, "_rows": None} if self.faults.strict else state

    def _open(self) -> Guarded:
        """Return this process's connection; one that came through a fork is left alone."""
        if self._connection is None or self._process != os.getpid():
            self._connection, self._process = connect(self.file), os.getpid()
        return self._connection

    def _query(self, statement: str, *values: Any) -> list[Any]:
        with refused_with(f"annotation database {self.file}"):
            return self._open().execute(statement, values).fetchall()

    def _refuse(self, kind: str, reason: str) -> None:
        """Refuse a row that cannot be used, where none may be left out."""
        raise DataError(f"annotation database {self.file}: {reason}")

    def _leave_out(self, kind: str, reason: str) -> None:
        """Treat a row that cannot be used as `faults` says."""
        self.faults.entry(kind, f"annotation database {self.file}: {reason}")

    # -- small questions --------------------

    def _class_table(self) -> tuple[tuple[str, ...], tuple[int, ...], np.ndarray]:
        """Return names, category ids, and the file's labels, which ascend and may have gaps."""
        if self._classes is None:
            rows = self._query(
                f"SELECT label, category_id, class FROM classes ORDER BY label LIMIT {MAX_CLASSES + 1}"
            )
            for row in rows:
                for column, value, wanted in zip(COLUMNS["classes"], row, (int, int, str)):
                    if type(value) is not wanted:
                        kind = "a whole number" if wanted is int else "a text"
                        place = f"table classes, row {shown(row[0])}"
                        self._refuse("class", f"{place}: {column} is {shown(value)}, not {kind}")
            names, ids = tuple(row[2] for row in rows), tuple(row[1] for row in rows)
            unique = len(set(names)) == len(names) and len(set(ids)) == len(ids)
            if len(rows) > MAX_CLASSES or not unique or "" in names:
                self._refuse(
                    "class",
                    "table classes: class and category_id must be unique, no class empty, and at most 65,536",
                )
            self._classes = names, ids, np.array([row[0] for row in rows], dtype=np.int64)
        return self._classes

    @property
    def classes(self) -> tuple[str, ...]:
        """Names; index = label."""
        return self._class_table()[0]

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The original file's id of each label."""
        return self._class_table()[1]

    @property
    def _whole(self) -> bool:
        """Whether queries go to the table, which was read or must be, since unusable rows are left out."""
        return self._table is not None or not self.faults.strict

    def _image_rows(self) -> np.ndarray:
        """Return int64 (I,), the row ids of the images, ascending."""
        if self._images is None:
            rows = [row[0] for row in self._query("SELECT image FROM images ORDER BY image")]
            if not all(map(is_whole, rows)):
                self._refuse("image", "table images: a row has no number: the file is damaged")
            self._images = np.array(rows, dtype=np.int64)
        return self._images

    @property
    def sizes(self) -> np.ndarray:
        """int (I,2): (width, height) of each image as displayed, in pixels."""
        if not self._whole:
            rows = self._query("SELECT width, height FROM images ORDER BY image")
            if all(is_side(side) for row in rows for side in row):
                return np.array(rows, dtype=np.int32).reshape(-1, 2)
        return self.table.sizes  # which names the row that is wrong

    def __len__(self) -> int:
        return len(self.table) if self._whole else len(self._image_rows())

    def annotation(self, index: int) -> Annotation:
        """Return the truth of image ``index``, 0..len-1, in source pixels."""
        if self._whole:
            return self.table.annotation(index)
        number, image_id, name, width, height = self._image(index)
        boxes = self._boxes(f"SELECT {BOX} FROM boxes WHERE image_row = ? ORDER BY box", self._refuse, number)
        labels, known = self._labels(boxes.label)
        for row in np.flatnonzero(~known).tolist():
            self._refuse("category", _without_class(boxes, row))
        limits = np.broadcast_to((width, height), (len(labels), 2))
        keep = Faults(strict=False).check_boxes(boxes.xywh, limits, None, lambda row: "")
        xywh, labels, flags, areas = boxes.xywh[keep], labels[keep], boxes.flags[keep], boxes.area[keep]
        return annotation_of(
            Objects(corners(xywh, np.array((width, height))), xywh, labels, flags, areas),
            image_id,
            name,
            width,
            height,
        )

    def image(self, index: int) -> str:
        """Return the path of image ``index``."""
        return (
            super().image(index) if self._whole else os.path.join(self.images_folder, self._image(index)[2])
        )

    def _image(self, index: int) -> tuple[int, int | str, str, int, int]:
        number = int(self._image_rows()[index])
        found = self._query(f"SELECT {IMAGE} FROM images WHERE image = ?", number)
        if not found:
            self._refuse(
                "image", f"table images lists row {number} and does not have it: the file is damaged"
            )
        image_usable(found[0], self._refuse)
        return found[0]  # type: ignore[no-any-return]

    def _boxes(self, statement: str, refuse: Callable[[str, str], None], *values: Any) -> Boxes:
        with refused_with(f"annotation database {self.file}"):
            return read_boxes(self._open().execute(statement, values), refuse)

    def _labels(self, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return labels 0..C-1 for the file's labels, and bool (N,) whether there is such a class."""
        return positions_in(self._class_table()[2], given)

    # -- everything --------------------

    def _read(self) -> AnnotationTable:
        images = self._usable_images()
        numbers = np.array([row[0] for row in images], dtype=np.int64)
        sizes = np.array([row[3:] for row in images], dtype=np.int32).reshape(-1, 2)
        ids = [row[1] for row in images]
        boxes = self._boxes(f"SELECT {BOX} FROM boxes ORDER BY box", self._leave_out)
        owners, owned = positions_in(numbers, boxes.image_row)
        labels, known = self._labels(boxes.label)
        usable = owned & known
        for row in np.flatnonzero(~usable).tolist():
            if known[row]:
                self._leave_out(
                    "image_id",
                    f"{_place(boxes, row)}: image_row is {boxes.image_row[row]}, which is not in table "
                    f"images",
                )
            else:
                self._leave_out("category", _without_class(boxes, row))
        rows = np.flatnonzero(usable)

        def place_of(position: int) -> str:
            row = rows[position]
            return f"{self.file}: annotation {boxes.annotation_id[row]} of image {ids[owners[row]]}"

        keep = rows[self.faults.check_boxes(boxes.xywh[rows], sizes, owners[rows], place_of)]
        keep = keep[np.argsort(owners[keep], kind="stable")]
        classes, category_ids, file_labels = self._class_table()
        self._rows = RowIds(file_labels, numbers, boxes.box[keep])
        names, name_offsets = pack_names([row[2] for row in images])
        return AnnotationTable(
            classes=classes,
            category_ids=category_ids,
            image_ids=packed_ids(ids),
            names=names,
            name_offsets=name_offsets,
            sizes=sizes,
            offsets=np.searchsorted(owners[keep], np.arange(len(images) + 1)).astype(np.int64),
            xywh=boxes.xywh[keep],
            labels=labels[keep].astype(np.uint16),
            flags=boxes.flags[keep],
            areas=boxes.area[keep],
            ids=boxes.annotation_id[keep],
            faults=self.faults,
        )

    def _usable_images(self) -> list[tuple[int, int | str, str, int, int]]:
        found = [
            row
            for row in self._query(f"SELECT {IMAGE} FROM images ORDER BY image")
            if image_usable(row, self._leave_out)
        ]
        seen: set[int | str] = set()
        images = []
        for row in found:
            if row[1] in seen:
                self._leave_out(
                    "image",
                    f"table images, row {row[0]}: image_id {shown(row[1])} occurs twice: image ids "
                    f"must be unique",
                )
            else:
                seen.add(row[1])
                images.append(row)
        return images

    def where_masks(self, expression: str) -> tuple[np.ndarray, np.ndarray]:
        """Query the file, so that columns that were added to it count.

        See `densedet.core.annotations.where.where_masks`.
        """
        check_where_syntax(expression)
        table = self.table
        assert self._rows is not None
        return matching(self._open(), expression, table, self._rows)

    def _digest(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        with open(self.file, "rb") as file:
            while chunk := file.read(1 << 22):
                digest.update(chunk)
        return digest.hexdigest()

    # -- format --------------------

    @classmethod
    def _write(
        cls, table: AnnotationTable, path: Path, split: str, faults: Faults, on_progress: Progress
    ) -> None:
        """Write one file. Nothing of a table is lost."""
        if len(table.classes) > MAX_CLASSES:
            raise DataError(f"{len(table.classes)} classes do not fit a database (65,536)")
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.executescript(
                f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA application_id = "
                f"{APPLICATION_ID};"
                f"PRAGMA user_version = {VERSION};" + SCHEMA
            )
            fill(connection, table)
            connection.executescript(INDEXES + "ANALYZE;")
        finally:
            connection.close()


def _place(boxes: Boxes, row: int) -> str:
    return f"table boxes, row {boxes.box[row]} (annotation {boxes.annotation_id[row]})"


def _without_class(boxes: Boxes, row: int) -> str:
    return f"{_place(boxes, row)}: label {boxes.label[row]} is not in table classes"
