"""Annotations in SQLite: the schema, and connections that can only read. No torch here.

A database may come from a stranger, as an image may, and a ``where`` (`densedet.core.annotations.where`) from
a recipe that somebody sent. So every connection is opened read-only and immutable, an authorizer admits only
reading this schema's tables and a list of harmless functions, and each statement is stopped after more steps
than a useful one needs.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote
from weakref import WeakSet

import numpy as np

from densedet.core.annotations.table import CROWD, IGNORE, AnnotationTable
from densedet.core.errors import DataError

APPLICATION_ID = 0x44446574
"""PRAGMA application_id: "DDet"."""

VERSION = 1
"""PRAGMA user_version."""

SCHEMA = """
CREATE TABLE classes(label INTEGER PRIMARY KEY, category_id INTEGER NOT NULL, class TEXT NOT NULL UNIQUE);
CREATE TABLE images(image INTEGER PRIMARY KEY, image_id NOT NULL, file_name TEXT NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL);
CREATE TABLE boxes(box INTEGER PRIMARY KEY, image_row INTEGER NOT NULL, label INTEGER NOT NULL,
    annotation_id INTEGER NOT NULL,
    x REAL NOT NULL, y REAL NOT NULL, w REAL NOT NULL, h REAL NOT NULL, area REAL NOT NULL,
    crowd INTEGER NOT NULL, ignored INTEGER NOT NULL);
"""
INDEXES = """
CREATE INDEX boxes_of_image ON boxes(image_row);
CREATE INDEX boxes_of_label ON boxes(label, image_row);
CREATE VIEW objects AS
    SELECT * FROM images LEFT JOIN boxes ON image_row = image LEFT JOIN classes USING (label);
"""
"""The view is for people who open the file in a shell; nothing here reads it."""

COLUMNS = {
    "classes": ("label", "category_id", "class"),
    "images": ("image", "image_id", "file_name", "width", "height"),
    "boxes": ("box", "image_row", "label", "annotation_id", "x", "y", "w", "h", "area", "crowd", "ignored"),
}
FUNCTIONS = frozenset(
    """
    abs avg coalesce count glob ifnull iif instr length like likelihood likely lower ltrim max min
    nullif round rtrim substr substring sum total trim typeof unlikely upper
    """.split()
)
"""None of them gives more than it is given: ``replace``, ``printf`` or ``group_concat`` make gigabytes of a
few letters."""

STEPS = 10_000
"""Virtual machine steps between two looks at the budget."""

SPARE_STEPS = 20_000_000
STEPS_PER_ROW = 2_000
"""Each statement may take `SPARE_STEPS` and this many for each image and box."""

MAX_SQL = 101_000
"""Bytes of a statement."""

MAX_VALUE = 1 << 24
"""Bytes of a text."""


class Undecodable(bytes):
    """A text of a database that is not UTF-8."""


def decoded(raw: bytes) -> str | Undecodable:
    """Decode a database's text; half a character pair (a lone surrogate), which JSON can hold, stays."""
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return Undecodable(raw)


class Guarded(sqlite3.Connection):
    """A connection on which each statement has a budget of steps, however many there were before."""

    _budget = 0

    def limit_steps(self, budget: int) -> None:
        """Interrupt a statement after ``budget`` steps of SQLite's virtual machine, to the next `STEPS`."""
        self._budget = max(budget // STEPS, 1)
        left = self._left = [self._budget]

        def look() -> int:
            left[0] -= 1
            return int(left[0] < 0)

        self.set_progress_handler(look, STEPS)

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        """Execute as `sqlite3.Connection.execute` does, with the whole budget."""
        if self._budget:
            self._left[0] = self._budget
        return super().execute(sql, parameters)


_live: WeakSet[Guarded] = WeakSet()
_inherited: list[Guarded] = []
"""A parent process's connections. SQLite forbids a child to use or to close them, so that they must not be
garbage here."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _inherited.extend(_live))


def database_uri(path: PurePath) -> str:
    """Return the URI by which SQLite opens an absolute ``path`` read-only and immutable.

    The forms are file:///home/x, file:///C:/x and file:////server/share/x.
    """
    text = path.as_posix()
    return (
        "file://"
        + ("" if text.startswith("/") else "/")
        + quote(os.fsencode(text), safe="/:")
        + "?mode=ro&immutable=1"
    )


def connect(path: Path) -> Guarded:
    """Open a database read-only and immutable, and check its structure (milliseconds). Raises DataError."""
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
            f"{wal} holds changes that are not in {path.name} yet: close the program that has it open, "
            f"or run sqlite3 {path.name} 'PRAGMA wal_checkpoint'"
        )
    uri = database_uri(path.resolve())
    connection = sqlite3.connect(
        uri, uri=True, check_same_thread=False, isolation_level=None, factory=Guarded
    )
    _live.add(connection)
    connection.text_factory = decoded
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
    """Turn SQLite's complaints about a file into DataError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        reason = "a query took too many steps" if "interrupted" in str(error) else str(error)
        raise DataError(f"{place} cannot be used: {reason}") from error
    except (sqlite3.Error, UnicodeDecodeError, OverflowError, ValueError) as error:
        raise DataError(f"{place} is damaged: {error}") from error


def _check_structure(connection: Guarded, path: Path) -> None:
    """Check the mark, the version, and that our tables are plain tables with our columns."""
    connection.limit_steps(SPARE_STEPS)
    identity, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    if identity != APPLICATION_ID:
        raise DataError(
            f"annotation database {path} is a SQLite file of another program: densedet convert makes one"
        )
    if version != VERSION:
        raise DataError(
            f"annotation database {path} is of version {version}, this densedet reads version "
            f"{VERSION}: convert it anew or update densedet"
        )
    found = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' LIMIT 1000"))
    for table, columns in COLUMNS.items():
        sql = str(found.get(table) or "")
        if not sql or re.match(r"\s*create\s+virtual", sql, re.I):
            raise DataError(f"annotation database {path} has no table {table!r}: convert it anew")
        rows = connection.execute(f"PRAGMA table_xinfo({table})").fetchall()
        plain = [row[1] for row in rows if row[6] == 0]
        if missing := [c for c in columns if c not in plain]:
            raise DataError(
                f"annotation database {path}: table {table} has no column {missing[0]!r}: convert it anew"
            )


def _rows(connection: sqlite3.Connection, path: Path) -> int:
    """Return an upper bound of the number of rows, from the number of the file's pages."""
    pages, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "page_size")
    )
    return pages * size // 8


def harmless(
    action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
) -> int:
    """Answer SQLite whether a statement may do something: only read our tables, with `FUNCTIONS`."""
    allowed = (
        action == sqlite3.SQLITE_SELECT
        or (action == sqlite3.SQLITE_READ and first in COLUMNS and trigger is None)
        or (action == sqlite3.SQLITE_FUNCTION and str(second).lower() in FUNCTIONS)
    )
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def guard(connection: Guarded, rows: int) -> None:
    """Restrict a connection to reading our tables with harmless functions.

    rows: at most so many images and boxes.
    """
    connection.set_authorizer(harmless)
    if hasattr(connection, "setlimit"):  # Python 3.11
        connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, MAX_SQL)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE)
        connection.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 100)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000)
        connection.setlimit(sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 10)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.limit_steps(SPARE_STEPS + STEPS_PER_ROW * rows)


# -- writing --------------------

CHUNK = 1 << 14
"""Rows inserted at a time."""


def memory_database(
    table: AnnotationTable | None, needed: Collection[tuple[str, str]] = (), *, indexed: bool = False
) -> Guarded:
    """Make an in-memory database of the same tables, which can only be read; row numbers are positions.

    Args:
        table: its content; None leaves it empty.
        needed: the (table, column) that will be read. Other columns hold 0, and tables of which nothing is
            needed are empty.
        indexed: whether to make `INDEXES`.
    """
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, factory=Guarded)
    connection.text_factory = decoded
    # A column that nobody needs is not inserted.
    connection.executescript(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + SCHEMA.replace("NOT NULL", "DEFAULT 0")
    )
    if table is not None:
        fill(connection, table, needed)
    if indexed:
        connection.executescript(INDEXES)
    guard(connection, 0 if table is None else len(table) + len(table.labels))
    return connection


def fill(
    connection: sqlite3.Connection, table: AnnotationTable, needed: Collection[tuple[str, str]] | None = None
) -> None:
    """Insert a table, or what is ``needed`` of its images and boxes, in one transaction.

    Raises:
        DataError: an id does not fit in 64 bits.
    """
    connection.execute("BEGIN")
    rows = zip(range(len(table.classes)), table.category_ids, map(_storable, table.classes))
    connection.executemany("INSERT INTO classes VALUES (?, ?, ?)", rows)
    for name, chunks in (("images", _image_columns), ("boxes", _box_columns)):
        if needed is None:
            chosen = list(COLUMNS[name])
        else:
            chosen = [
                c for c in COLUMNS[name] if c in ("image", "box", "image_row", "label") or (name, c) in needed
            ]
            if not any(owner == name for owner, _ in needed):
                continue
        statement = f"INSERT INTO {name} ({', '.join(chosen)}) VALUES ({', '.join('?' * len(chosen))})"
        for columns in chunks(table):
            values = (columns[c] for c in chosen)
            connection.executemany(
                statement, zip(*(v.tolist() if isinstance(v, np.ndarray) else v for v in values))
            )
    # Python binds no lone surrogate as a text; SQLite takes one from bytes.
    for name, column in (("classes", "class"), ("images", "image_id"), ("images", "file_name")):
        connection.execute(
            f"UPDATE {name} SET {column} = CAST({column} AS TEXT) WHERE typeof({column}) = 'blob'"
        )
    connection.execute("COMMIT")


def _storable(text: str) -> str | bytes:
    """Return a text, or the bytes of one that holds lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def _image_id(table: AnnotationTable, index: int) -> int | str | bytes:
    value = table.image_id(index)
    if isinstance(value, str):
        return _storable(value)
    if not -(1 << 63) <= value < 1 << 63:
        raise DataError(f"image id {value} does not fit in 64 bits: give the images smaller ids, or texts")
    return value


def _image_columns(table: AnnotationTable) -> Iterator[dict[str, np.ndarray | Iterable[Any]]]:
    for start in range(0, len(table), CHUNK):
        rows = range(start, min(start + CHUNK, len(table)))
        sizes = table.sizes[start : start + CHUNK]
        yield {
            "image": rows,
            "image_id": (_image_id(table, index) for index in rows),
            "file_name": (_storable(table.name(index)) for index in rows),
            "width": sizes[:, 0],
            "height": sizes[:, 1],
        }


def _box_columns(table: AnnotationTable) -> Iterator[dict[str, np.ndarray | Iterable[Any]]]:
    owners = table.owners()
    for start in range(0, len(owners), CHUNK):
        part = slice(start, start + CHUNK)
        flags, (x, y, w, h) = table.flags[part], table.xywh[part].T
        yield {
            "box": range(start, start + len(flags)),
            "image_row": owners[part],
            "label": table.labels[part],
            "annotation_id": table.ids[part],
            "x": x,
            "y": y,
            "w": w,
            "h": h,
            "area": table.areas[part],
            "crowd": (flags & CROWD) // CROWD,
            "ignored": (flags & IGNORE) // IGNORE,
        }
