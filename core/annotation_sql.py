"""Annotations in SQLite: the schema, connections that can only read, and ``where``. No torch here.

A database comes from a stranger as likely as an image does, and a ``where`` from a recipe that somebody sent. So every connection is
opened read-only and immutable, an authorizer admits nothing but reading this schema's tables and a list of harmless functions, and a
statement is stopped after a number of steps that no honest one needs.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from densedet.core.annotation_table import CROWD, IGNORE, AnnotationTable
from densedet.core.errors import DataError, DensedetError
from densedet.core.table_source import table_of
from densedet.registry import suggest

APPLICATION_ID = 0x44446574
"""PRAGMA application_id: "DDet"."""

VERSION = 1
"""PRAGMA user_version."""

SCHEMA = """
CREATE TABLE classes(label INTEGER PRIMARY KEY, category_id INTEGER NOT NULL, class TEXT NOT NULL UNIQUE);
CREATE TABLE images(image INTEGER PRIMARY KEY, image_id NOT NULL, file_name TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL);
CREATE TABLE boxes(box INTEGER PRIMARY KEY, image_row INTEGER NOT NULL, label INTEGER NOT NULL, annotation_id INTEGER NOT NULL,
    x REAL NOT NULL, y REAL NOT NULL, w REAL NOT NULL, h REAL NOT NULL, area REAL NOT NULL, crowd INTEGER NOT NULL, ignored INTEGER NOT NULL);
"""
INDEXES = """
CREATE INDEX boxes_of_image ON boxes(image_row);
CREATE INDEX boxes_of_label ON boxes(label, image_row);
CREATE VIEW objects AS SELECT * FROM images LEFT JOIN boxes ON image_row = image LEFT JOIN classes USING (label);
"""
"""The view is for people who open the file in a shell; nothing here reads it."""

COLUMNS = {
    "classes": ("label", "category_id", "class"),
    "images": ("image", "image_id", "file_name", "width", "height"),
    "boxes": ("box", "image_row", "label", "annotation_id", "x", "y", "w", "h", "area", "crowd", "ignored"),
}
JOIN = "classes JOIN boxes ON boxes.label = classes.label JOIN images ON images.image = boxes.image_row"
"""Images with boxes."""

ALONE = "images LEFT JOIN (SELECT * FROM boxes LIMIT 0) AS boxes LEFT JOIN (SELECT * FROM classes LIMIT 0) AS classes"
"""Images without boxes, all columns of which are NULL; `UNBOXED` says which they are."""

UNBOXED = "NOT EXISTS (SELECT 1 FROM boxes AS other WHERE other.image_row = images.image)"
FUNCTIONS = frozenset(
    [
        "abs",
        "avg",
        "coalesce",
        "count",
        "glob",
        "ifnull",
        "iif",
        "instr",
        "length",
        "like",
        "likelihood",
        "likely",
        "lower",
        "ltrim",
        "max",
        "min",
        "nullif",
        "replace",
        "round",
        "rtrim",
        "substr",
        "substring",
        "sum",
        "total",
        "trim",
        "typeof",
        "unlikely",
        "upper",
    ]
)
STEPS = 10_000
"""Virtual machine steps between two looks at the budget."""

SPARE_STEPS = 20_000_000
STEPS_PER_ROW = 2_000
"""A statement may take `SPARE_STEPS` and this many for each image and box."""

MAX_LENGTH = 100_000
"""Characters of a where."""


class WhereError(DensedetError, ValueError):
    """A wrong ``where``."""

    exit_code = 2


def connect(path: Path) -> sqlite3.Connection:
    """A database opened read-only and immutable, structure checked in milliseconds. Raises DataError."""
    try:
        with open(path, "rb") as file:
            head = file.read(100)
    except OSError as error:
        raise DataError(f"annotation database {path} cannot be read: {error.strerror or error}") from error
    if head[:16] != b"SQLite format 3\0":
        raise DataError(f"annotation database {path} is no SQLite file: densedet convert makes one")
    wal = path.with_name(path.name + "-wal")
    if wal.is_file() and wal.stat().st_size:
        raise DataError(
            f"{wal} holds changes that are not in {path.name} yet: close the program that has it open, or run sqlite3 {path.name} 'PRAGMA wal_checkpoint'"
        )
    uri = "file:" + quote(path.resolve().as_posix()) + "?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
    try:
        with refused_with(f"annotation database {path}"):
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA cell_size_check = ON")
            connection.execute(f"PRAGMA mmap_size = {1 << 30}")
            _check_structure(connection, path)
            guard(connection, _rows(connection, path))
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def refused_with(place: str) -> Iterator[None]:
    """SQLite's complaints about a file as DataError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        reason = "a query took longer than any honest one" if "interrupted" in str(error) else str(error)
        raise DataError(f"{place} cannot be used: {reason}") from error
    except (sqlite3.Error, UnicodeDecodeError, OverflowError, ValueError) as error:
        raise DataError(f"{place} is damaged: {error}") from error


def _check_structure(connection: sqlite3.Connection, path: Path) -> None:
    """The mark, the version, and that our tables are plain tables with our columns."""
    _limit_steps(connection, SPARE_STEPS)
    identity, version = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if identity != APPLICATION_ID:
        raise DataError(f"annotation database {path} is a SQLite file of another program: densedet convert makes one")
    if version != VERSION:
        raise DataError(
            f"annotation database {path} is of version {version}, this densedet reads version {VERSION}: convert it anew or update densedet"
        )
    found = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' LIMIT 1000"))
    for table, columns in COLUMNS.items():
        sql = str(found.get(table) or "")
        if not sql or re.match(r"\s*create\s+virtual", sql, re.I):
            raise DataError(f"annotation database {path} has no table {table!r}: convert it anew")
        rows = connection.execute(f"PRAGMA table_xinfo({table})").fetchall()
        plain = [row[1] for row in rows if row[6] == 0]
        if missing := [c for c in columns if c not in plain]:
            raise DataError(f"annotation database {path}: table {table} has no column {missing[0]!r}: convert it anew")


def _rows(connection: sqlite3.Connection, path: Path) -> int:
    """An upper bound of the number of rows: the file's pages cannot hold more."""
    pages, size = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "page_size"))
    return pages * size // 8


def _limit_steps(connection: sqlite3.Connection, budget: int) -> None:
    """Interrupt a statement after ``budget`` steps. Counted from this call on: call it again before each statement."""
    left = [max(budget // STEPS, 1)]

    def look() -> int:
        left[0] -= 1
        return int(left[0] < 0)

    connection.set_progress_handler(look, STEPS)


def guard(connection: sqlite3.Connection, rows: int) -> None:
    """From here on the connection can only read our tables, with harmless functions."""
    allowed = {sqlite3.SQLITE_SELECT}

    def authorize(action: int, first: Any, second: Any, database: Any, trigger: Any) -> int:
        if action in allowed:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ and first in COLUMNS and trigger is None:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and str(second).lower() in FUNCTIONS:
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY

    connection.set_authorizer(authorize)
    if hasattr(connection, "setlimit"):  # Python 3.11
        connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, MAX_LENGTH + 1000)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1 << 24)
        connection.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 100)
        connection.setlimit(sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 10)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    _limit_steps(connection, SPARE_STEPS + STEPS_PER_ROW * rows)


# -- where -------------------------------------------------------------------------------------------------------------


def where_masks(source: Any, expression: str) -> tuple[np.ndarray, np.ndarray]:
    """(images bool (I,), boxes bool (M,)) that ``expression`` means, in the order of the source's table.

    It is an SQL expression over an image joined with one of its boxes and that box's class: a box is meant where it is true, an image
    where it is true for any of its boxes. An image without boxes has NULL for all columns of boxes and classes, so ``width > 500`` means
    it and ``class = 'car'`` does not. Columns: those of `COLUMNS`, and any that were added to a .sqlite file. Raises WhereError.
    """
    own = getattr(source, "where_masks", None)
    if own is not None:
        return own(expression)  # type: ignore[no-any-return]
    table = table_of(source)
    connection = memory_database(table)
    try:
        images, boxes = matching_rows(connection, expression)
    finally:
        connection.close()
    image_mask, box_mask = np.zeros(len(table), dtype=bool), np.zeros(len(table.labels), dtype=bool)
    image_mask[images], box_mask[boxes] = True, True
    return image_mask, box_mask


def matching_rows(connection: sqlite3.Connection, expression: str) -> tuple[np.ndarray, np.ndarray]:
    """int64 row ids of the images and boxes that ``expression`` means, each ascending and once. Raises WhereError."""
    check_where_syntax(expression)
    if not connection.execute("SELECT count(*) FROM (SELECT 1 FROM images LIMIT 1)").fetchone()[0]:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    boxed = _rows_of(connection, f"SELECT images.image, boxes.box FROM {JOIN} WHERE (\n{expression}\n)", expression)
    alone = _rows_of(connection, f"SELECT images.image, -1 FROM {ALONE} WHERE (\n{expression}\n) AND {UNBOXED}", expression)
    return np.unique(np.concatenate([boxed["image"], alone["image"]])), np.sort(boxed["box"])


def _rows_of(connection: sqlite3.Connection, statement: str, expression: str) -> np.ndarray:
    try:
        return np.fromiter(_select(connection, statement, expression), dtype=[("image", np.int64), ("box", np.int64)])
    except (sqlite3.Error, TypeError, OverflowError) as error:
        raise _where_error(error, expression) from error


def check_where_syntax(expression: str) -> None:
    """Raises WhereError where this cannot be an expression, whatever columns there may be."""
    if len(expression) > MAX_LENGTH:
        raise WhereError(f"where has {len(expression)} characters, the limit is {MAX_LENGTH}")
    if not expression.strip() or "\0" in expression:
        raise WhereError("where is empty or holds a NUL character: write an SQL expression, e.g. \"class in ('person', 'car')\"")
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(SCHEMA)
        guard(connection, 0)
        # Alone it must be an expression too: "1) or (1" only makes sense between our parentheses.
        for form in ("SELECT {} FROM " + JOIN, "SELECT 1 FROM " + JOIN + " WHERE (\n{}\n) IS NOT NULL"):
            try:
                _select(connection, form.format(f"\n{expression}\n"), expression)
            except WhereError as error:
                if "has no column" not in str(error):
                    raise
    finally:
        connection.close()


def _select(connection: sqlite3.Connection, statement: str, expression: str) -> sqlite3.Cursor:
    try:
        return connection.execute(statement)
    except (sqlite3.Error, sqlite3.Warning, UnicodeEncodeError, MemoryError) as error:
        raise _where_error(error, expression) from error


def _where_error(error: BaseException, expression: str) -> DensedetError:
    text = str(error)
    if isinstance(error, (TypeError, OverflowError)) or "malformed" in text or "not a database" in text:
        return DataError(f"the annotation database is damaged: {text}; convert it anew")
    if match := re.search(r"no such column: (.+)", text):
        name = match[1].split(".")[-1].strip("\"'`[]")
        known = [c for columns in COLUMNS.values() for c in columns]
        return WhereError(
            f"where {expression!r}: the database has no column {match[1]!r}.{suggest(name, known)} Columns: {', '.join(dict.fromkeys(known))}"
        )
    if "interrupted" in text:
        text = "it takes longer than any honest one"
    elif "prohibited" in text or "not authorized" in text:
        text = f"only columns and the functions {', '.join(sorted(FUNCTIONS))} may be used ({text})"
    elif "one statement" in text:
        text = "it is more than one statement"
    elif "binding" in text or "parameter" in text:
        text = "'?' and ':name' have no values here"
    position = re.search(r'near "(.*?)"', text)
    near = f" (character {expression.find(position[1]) + 1})" if position and position[1] in expression else ""
    if position and not near:
        text = "it is no expression, or ends too early"
    return WhereError(f"where {expression!r}: {text}{near}")


# -- tables ------------------------------------------------------------------------------------------------------------


def memory_database(table: AnnotationTable) -> sqlite3.Connection:
    """A table in an in-memory database of the same schema; rows are positions. It can only be read."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + SCHEMA)
    fill(connection, table)
    connection.executescript(INDEXES)
    guard(connection, len(table) + len(table.labels))
    return connection


def fill(connection: sqlite3.Connection, table: AnnotationTable) -> None:
    """Insert everything in one transaction."""
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO classes VALUES (?, ?, ?)", zip(range(len(table.classes)), table.category_ids, table.classes))
    connection.executemany("INSERT INTO images VALUES (?, ?, ?, ?, ?)", _image_rows(table))
    connection.executemany("INSERT INTO boxes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _box_rows(table))
    connection.execute("COMMIT")


def _image_rows(table: AnnotationTable) -> Iterator[tuple[Any, ...]]:
    for index, (width, height) in enumerate(table.sizes.tolist()):
        image_id = table.image_id(index)
        # A whole number that does not fit, and a text that looks like a number, must come back as they were.
        if isinstance(image_id, int) and not -(1 << 63) <= image_id < 1 << 63:
            raise DataError(f"image id {image_id} does not fit in 64 bits")
        yield index, image_id, table.name(index), width, height


def _box_rows(table: AnnotationTable, chunk: int = 1 << 14) -> Iterator[tuple[Any, ...]]:
    owners = table.owners()
    for start in range(0, len(owners), chunk):
        part = slice(start, start + chunk)
        columns = [owners[part], table.labels[part], table.ids[part], *table.xywh[part].T, table.areas[part]]
        flags = table.flags[part]
        columns += [(flags & CROWD) // CROWD, (flags & IGNORE) // IGNORE]
        yield from zip(range(start, start + len(flags)), *(column.tolist() for column in columns))
