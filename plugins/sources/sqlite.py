"""densedet's SQLite database: the same content as the .db file, to look into and to change with SQL."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from densedet.core.annotation_sql import APPLICATION_ID, INDEXES, SCHEMA, VERSION, connect, fill, matching_rows, refused_with
from densedet.core.annotation_table import (
    CLIPPED,
    CROWD,
    IGNORE,
    MAX_SIDE,
    RULES,
    AnnotationTable,
    Objects,
    annotation_of,
    box_faults,
    corners,
    name_fault,
    pack_names,
)
from densedet.core.errors import DataError
from densedet.core.files import atomic_path
from densedet.core.table_builder import Faults
from densedet.core.table_source import TableSource, existing_file, existing_folder

if TYPE_CHECKING:
    from densedet.core.types import Annotation

MAX_CLASSES = 1 << 16
ROW = "x, y, w, h, area, label, crowd, ignored"
NUMBERS = np.dtype([(name, np.float64) for name in ROW.split(", ")])
KEYS = np.dtype([("box", np.int64), ("image_row", np.int64), ("annotation_id", np.int64)])


class Sqlite(TableSource):
    """A ``.sqlite`` file written by `densedet convert` and a folder of images.

    annotations: the file. images: the folder that its file names are relative to. Both relative to root, which is wired from data.root.

    Tables images, boxes and classes (`densedet.core.annotation_sql.SCHEMA`) may be changed with any SQLite program: rows deleted, columns
    added for a filter's ``where``. The file is opened read-only, once in each process, and queried for each image; a filter, `densedet check`
    and `densedet convert` read all of it at once (`table`). Images are in the order of their row ids, boxes of an image too.

    Values are checked as they are read. A box without width and height above 0 or outside its image is dropped, as in a JSON file.
    Raises DataError: file or folder missing, not such a database, damaged, of another version, or a value that cannot be.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".sqlite", ".sqlite3")

    def __init__(self, *, annotations: str, images: str, root: str = ".") -> None:
        base = Path(root).expanduser()
        self.file = existing_file("source sqlite", "annotations", base, annotations)
        self.files = (self.file,)
        super().__init__(existing_folder("source sqlite", "images", base, images))
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        self._rows: np.ndarray | None = None
        self._classes: tuple[tuple[str, ...], tuple[int, ...], np.ndarray] | None = None
        self._order = self._kept = np.zeros(0, np.int64)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_connection": None, "_process": 0, "_table": None, "_order": None, "_kept": None}

    def _open(self) -> sqlite3.Connection:
        """This process's connection; one that came through a fork is left alone."""
        if self._connection is None or self._process != os.getpid():
            self._connection, self._process = connect(self.file), os.getpid()
        return self._connection

    def _query(self, statement: str, *values: Any) -> list[Any]:
        with refused_with(f"annotation database {self.file}"):
            return self._open().execute(statement, values).fetchall()

    def _refuse(self, reason: str) -> DataError:
        return DataError(f"annotation database {self.file}: {reason}")

    # -- small questions -----------------------------------------------------------------------------------------------

    def _class_table(self) -> tuple[tuple[str, ...], tuple[int, ...], np.ndarray]:
        """(names, category ids, the file's labels, ascending: classes may have been deleted)."""
        if self._classes is None:
            rows = self._query(f"SELECT label, category_id, class FROM classes ORDER BY label LIMIT {MAX_CLASSES + 1}")
            for label, category_id, name in rows:
                if not (_whole(label) and _whole(category_id) and isinstance(name, str) and name):
                    raise self._refuse(
                        f"class {label} has category_id {category_id!r} and class {name!r}: a whole number and a text are wanted"
                    )
            names, ids = tuple(row[2] for row in rows), tuple(row[1] for row in rows)
            if len(rows) > MAX_CLASSES or len(set(names)) != len(names) or len(set(ids)) != len(ids):
                raise self._refuse("class names and category ids must be unique, and at most 65,536")
            self._classes = names, ids, np.array([row[0] for row in rows], dtype=np.float64)
        return self._classes

    def _labels_of_file(self) -> np.ndarray:
        return self._class_table()[2]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names; index = label."""
        return self._class_table()[0]

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The original file's id of each label."""
        return self._class_table()[1]

    def _image_rows(self) -> np.ndarray:
        """int64 (I,): row ids of the images, ascending."""
        if self._rows is None:
            rows = [row[0] for row in self._query("SELECT image FROM images ORDER BY image")]
            if not all(map(_whole, rows)):
                raise self._refuse("table images: a row's number is none: the file is damaged")
            self._rows = np.array(rows, dtype=np.int64)
        return self._rows

    def __len__(self) -> int:
        return len(self._image_rows())

    def annotation(self, index: int) -> Annotation:
        """The truth of image ``index``, 0..len-1, in source pixels."""
        if self._table is not None:
            return self._table.annotation(index)
        row = int(self._image_rows()[index])
        image_id, name, width, height = self._image(row)
        rows = self._boxes(f"SELECT {ROW} FROM boxes WHERE image_row = ? ORDER BY box", NUMBERS, row)
        xywh, labels, flags, areas = self._objects(rows)
        faults = box_faults(xywh, np.broadcast_to((width, height), (len(rows), 2)))
        if faults.any():
            keep = (faults == 0) | (faults == CLIPPED)
            xywh, labels, flags, areas = (column[keep] for column in (xywh, labels, flags, areas))
        return annotation_of(Objects(corners(xywh, np.array((width, height))), xywh, labels, flags, areas), image_id, name, width, height)

    def image(self, index: int) -> str:
        """The path of image ``index``."""
        return str(self.images_folder / self._image(int(self._image_rows()[index]))[1])

    def _image(self, row: int) -> tuple[int | str, str, int, int]:
        found = self._query("SELECT image_id, file_name, width, height FROM images WHERE image = ?", row)
        if not found:
            raise self._refuse(f"table images lists row {row} and does not have it: the file is damaged")
        self._check_image(row, *found[0])
        return found[0]  # type: ignore[no-any-return]

    def _check_image(self, row: int, image_id: Any, name: Any, width: Any, height: Any) -> None:
        if not _whole(image_id) and not isinstance(image_id, str):
            raise self._refuse(f"images row {row}: image_id is {image_id!r}, not a whole number or a text")
        fault = name_fault(name) if isinstance(name, str) else "is no text"
        if fault:
            raise self._refuse(f"images row {row}: file_name {str(name)[:80]!r} {fault}")
        if not (_whole(width) and _whole(height) and 0 < width < MAX_SIDE and 0 < height < MAX_SIDE):
            raise self._refuse(f"images row {row} ({name[:80]}) is {width!r} x {height!r} pixels: sides are whole numbers above 0")

    def _boxes(self, statement: str, dtype: np.dtype, *values: Any) -> np.ndarray:
        """Rows of numbers, straight from the cursor."""
        with refused_with(f"annotation database {self.file}"):
            cursor = self._open().execute(statement, values)
            try:
                return np.fromiter(cursor, dtype=dtype)
            except (TypeError, ValueError) as error:
                raise self._refuse(f"table boxes: a value is no number ({error})") from error

    def _objects(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """(xywh, labels, flags, areas) of rows of `NUMBERS`."""
        table = rows.view(np.float64).reshape(-1, ROW.count(",") + 1)
        known = self._labels_of_file()
        position = np.minimum(np.searchsorted(known, table[:, 5]), max(len(known) - 1, 0))
        if len(rows) and (not len(known) or (known[position] != table[:, 5]).any()):
            wrong = table[0, 5] if not len(known) else table[known[position] != table[:, 5], 5][0]
            raise self._refuse(f"table boxes: label {wrong:g} is not in table classes")
        xywh, areas = table[:, :4].copy(), table[:, 4]
        flags = (CROWD * (table[:, 6] != 0) + IGNORE * (table[:, 7] != 0)).astype(np.uint8)
        if not (np.isfinite(areas) & (areas >= 0)).all():
            areas = np.where(np.isfinite(areas) & (areas >= 0), areas, xywh[:, 2] * xywh[:, 3])
        return xywh, position, flags, areas

    # -- everything ----------------------------------------------------------------------------------------------------

    def _read(self) -> AnnotationTable:
        images = self._query("SELECT image, image_id, file_name, width, height FROM images ORDER BY image")
        for row in images:
            if not _whole(row[0]):
                raise self._refuse("table images: a row's number is none: the file is damaged")
            self._check_image(*row)
        ids = [row[1] for row in images]
        if len(set(ids)) != len(ids):
            raise self._refuse("an image_id occurs twice")
        image_rows = np.array([row[0] for row in images], dtype=np.int64)
        sizes = np.array([row[3:] for row in images], dtype=np.int32).reshape(-1, 2)
        order = "FROM boxes ORDER BY image_row, box"
        keys = self._boxes(f"SELECT box, image_row, annotation_id {order}", KEYS)
        xywh, labels, flags, areas = self._objects(self._boxes(f"SELECT {ROW} {order}", NUMBERS))
        owners = np.searchsorted(image_rows, keys["image_row"])
        orphan = np.append(image_rows, -1)[owners] != keys["image_row"]
        if orphan.any():
            row = keys[np.flatnonzero(orphan)[0]]
            raise self._refuse(
                f"table boxes: annotation {row['annotation_id']} is of image_row {row['image_row']}, which table images does not have"
            )
        faults = box_faults(xywh, sizes, owners)
        annotation_ids = keys["annotation_id"]
        for row in np.flatnonzero(faults).tolist():
            rule = RULES[int(faults[row])].format(*sizes[owners[row]].tolist()) + ("" if faults[row] == CLIPPED else " and was dropped")
            box = ", ".join(f"{v:g}" for v in xywh[row])
            sentence = (
                f"{self.file}: annotation {annotation_ids[row]} of image {ids[owners[row]]}: box [{box}] (x, y, width, height) {rule}"
            )
            self.faults.note("clipped" if faults[row] == CLIPPED else "box", sentence)
        keep = (faults == 0) | (faults == CLIPPED)
        self._order, self._kept = keys["box"], keep
        names, name_offsets = pack_names([row[2] for row in images])
        classes, category_ids, _ = self._class_table()
        return AnnotationTable(
            classes=classes,
            category_ids=category_ids,
            image_ids=np.array(ids, dtype=np.int64) if all(isinstance(i, int) for i in ids) else ids,
            names=names,
            name_offsets=name_offsets,
            sizes=sizes,
            offsets=np.searchsorted(owners[keep], np.arange(len(images) + 1)).astype(np.int64),
            xywh=xywh[keep],
            labels=labels[keep].astype(np.uint16),
            flags=flags[keep],
            areas=areas[keep],
            ids=annotation_ids[keep],
            sentences=list(self.faults.sentences),
            dropped=int((~keep).sum()),
            clipped=int((faults == CLIPPED).sum()),
        )

    def where_masks(self, expression: str) -> tuple[np.ndarray, np.ndarray]:
        """See `densedet.core.annotation_sql.where_masks`; runs in the file, so columns that were added to it count."""
        images, boxes = matching_rows(self._open(), expression)
        len(self.table)  # reads the order of the boxes
        image_mask = np.isin(self._image_rows(), images, assume_unique=True)
        return image_mask, np.isin(self._order, boxes, assume_unique=True)[self._kept]

    def _digest(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        with open(self.file, "rb") as file:
            while chunk := file.read(1 << 22):
                digest.update(chunk)
        return digest.hexdigest()

    # -- format --------------------------------------------------------------------------------------------------------

    @classmethod
    def recognise(cls, path: Path, split: str | None = None) -> dict[str, Any] | None:
        """By SQLite's mark and ours, whatever it is called."""
        if not path.is_file():
            return None
        with open(path, "rb") as file:
            head = file.read(100)
        if head[:16] != b"SQLite format 3\0" or head[68:72] != APPLICATION_ID.to_bytes(4, "big"):
            return None
        return {"annotations": str(path), "images": str(path.parent)}

    @classmethod
    def write(
        cls,
        table: AnnotationTable,
        path: Path,
        *,
        split: str = "train",
        faults: Faults | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """To a temporary name, then renamed. Nothing of a table is lost."""
        if len(table.classes) > MAX_CLASSES:
            raise DataError(f"{path}: {len(table.classes)} classes do not fit a database (65,536)")
        with atomic_path(path) as temporary:
            connection = sqlite3.connect(temporary, isolation_level=None)
            try:
                connection.executescript(
                    f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA application_id = {APPLICATION_ID};"
                    f"PRAGMA user_version = {VERSION};" + SCHEMA
                )
                fill(connection, table)
                connection.executescript(INDEXES + "ANALYZE;")
            finally:
                connection.close()


def _whole(value: Any) -> bool:
    return type(value) is int
