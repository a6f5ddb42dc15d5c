"""Rows of densedet's SQLite database, each value checked for its column's type. No torch here."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from densedet.core.sources import CROWD, IGNORE, Undecodable, is_side, name_fault

CHUNK = 1 << 10
"""Rows fetched at a time: they stay in the processor's cache."""

IMAGE = "image, image_id, file_name, width, height"
BOX = "box, image_row, label, annotation_id, x, y, w, h, area, crowd, ignored"
FLAGS = ("crowd", "ignored")
FLOATS = ("x", "y", "w", "h", "area")
KINDS = {
    "image_row": "image_id",
    "label": "category",
    "crowd": "flag",
    "ignored": "flag",
    "annotation_id": "annotation_id",
}
"""What a fault of a column counts as; others are no_box where the value is NULL, else unreadable."""

Refuse = Callable[[str, str], None]
"""Gets (kind, sentence) of a row that cannot be used: raises, or has it left out."""


class Boxes(NamedTuple):
    """Rows of table boxes."""

    box: np.ndarray  # int64 (N,), row ids; so are image_row, label and annotation_id
    image_row: np.ndarray
    label: np.ndarray
    annotation_id: np.ndarray
    xywh: np.ndarray  # float64 (N,4), pixels
    area: np.ndarray  # float64 (N,)
    flags: np.ndarray  # uint8 (N,) of CROWD and IGNORE


def read_boxes(cursor: sqlite3.Cursor, refuse: Refuse) -> Boxes:
    """Read the rows of a query of `BOX`; ``refuse`` gets those with a value of a wrong type."""
    names = BOX.split(", ")
    parts = []
    while rows := cursor.fetchmany(CHUNK):
        columns = dict(zip(names, zip(*rows)))
        if not all(_sound(name, values) for name, values in columns.items()):
            rows = [row for row in rows if _box_usable(dict(zip(names, row)), refuse)]
            columns = dict(zip(names, zip(*rows))) if rows else dict.fromkeys(names, ())
        parts.append(
            [np.array(columns[name], dtype=np.float64 if name in FLOATS else np.int64) for name in names]
        )
    box, owner, label, own, x, y, w, h, area, crowd, ignored = (
        np.concatenate(column) if parts else np.zeros(0, np.float64 if name in FLOATS else np.int64)
        for name, column in zip(names, zip(*parts) if parts else [()] * len(names))
    )
    xywh = np.stack([x, y, w, h], axis=1)
    with np.errstate(over="ignore", invalid="ignore"):  # boxes that are no boxes are still among them
        area = np.where(np.isfinite(area) & (area >= 0), area, w * h)
    return Boxes(box, owner, label, own, xywh, area, (crowd * CROWD + ignored * IGNORE).astype(np.uint8))


def _sound(name: str, values: tuple[Any, ...]) -> bool:
    """Return whether all values of a column are of its type, at the speed of C."""
    types = set(map(type, values))
    if name in FLOATS:
        return types <= {float, int}
    return types <= {int} and (name not in FLAGS or set(values) <= {0, 1})


def _box_usable(row: dict[str, Any], refuse: Refuse) -> bool:
    for name, value in row.items():
        if not _sound(name, (value,)):
            wanted = "a number" if name in FLOATS else "0 or 1" if name in FLAGS else "a whole number"
            refuse(
                KINDS.get(name, "no_box" if value is None else "unreadable"),
                f"table boxes, row {shown(row['box'])}: {name} is {shown(value)}, not {wanted}",
            )
            return False
    return True


def image_usable(row: tuple[Any, ...], refuse: Refuse) -> bool:
    """Return whether a row of a query of `IMAGE` can be used; ``refuse`` gets one that cannot."""
    number, image_id, name, width, height = row
    place = f"table images, row {shown(number)}"
    if not is_whole(number):
        refuse("image", f"{place}: the row has no number: the file is damaged")
    elif not is_whole(image_id) and type(image_id) is not str:
        refuse("image", f"{place}: image_id is {shown(image_id)}, not a whole number or a text")
    elif type(name) is not str:
        refuse("image", f"{place}: file_name is {shown(name)}, not a text")
    elif fault := name_fault(name):
        refuse("image", f"{place}: file_name {name[:80]!r} {fault}")
    elif wrong := [(c, v) for c, v in (("width", width), ("height", height)) if not is_side(v)]:
        refuse(
            "image",
            f"{place} ({name[:80]}): {wrong[0][0]} is {shown(wrong[0][1])}, not a whole number of "
            f"pixels above 0",
        )
    else:
        return True
    return False


def is_whole(value: Any) -> bool:
    """Return whether a value is an SQLite integer."""
    return type(value) is int


def shown(value: Any) -> str:
    """Return a value for a sentence, or the name that SQLite has for its type."""
    if value is None:
        return "NULL"
    if isinstance(value, Undecodable):
        return f"a text that is not UTF-8 ({bytes(value[:20])!r})"
    return f"a blob of {len(value)} bytes" if isinstance(value, bytes) else repr(value)[:60]
