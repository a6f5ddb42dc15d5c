"""COCO JSON, read and written: entries go one at a time into a table, each fault is a sentence.

A sentence names the file and the entry.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from densedet.core.errors import DataError
from densedet.core.sources import (
    CROWD,
    IGNORE,
    NO_ID,
    AnnotationTable,
    Faults,
    Progress,
    TableBuilder,
    is_side,
)
from densedet.plugins.sources._json_stream import CHUNK, ObjectStream
from densedet.plugins.sources._label_files import plain_int

BATCH = 10_000
"""Entries written at a time."""

FOUR = "four numbers x, y, width, height"

Entry = dict[str, Any]


def read_coco(
    path: Path,
    builder: TableBuilder,
    *,
    known_categories: dict[int, str] | None = None,
    renamed: dict[int, str] | None = None,
    chunk: int = CHUNK,
    on_progress: Progress | None = None,
) -> tuple[dict[int, str], str]:
    """Add a file's entries to ``builder``.

    Args:
        path: the file.
        builder: gets images and boxes, and the classes of the first of several files.
        known_categories: those of the files that were read before; None for the first file.
        renamed: {category id: name} that count instead of the file's names.
        chunk: bytes that are read at a time.
        on_progress: called with the bytes read so far and the file's size.

    Returns:
        {category id: name}, and a digest of the file's bytes.

    Raises:
        DataError: the file is not in COCO's form.
    """
    builder.origin = f"annotation file {path}"
    categories = TableBuilder(builder.origin)
    found = set()
    with ObjectStream(path, chunk=chunk, on_progress=on_progress) as stream:
        for key in stream.members():
            if key not in ADD:
                continue
            found.add(key)
            for number, entry in enumerate(stream.entries()):
                if not isinstance(entry, dict):
                    raise DataError(
                        f"annotation file {path}: {key!r} must be a list of objects, entry {number} is "
                        f"{_shown(entry)}"
                    )
                if key != "categories":
                    ADD[key](entry, number, builder)
                    continue
                if renamed and type(entry.get("id")) is int and entry["id"] in renamed:
                    entry = {**entry, "name": renamed[entry["id"]]}
                _add_category(entry, number, categories)
    for key in ADD:
        if key not in found:
            raise DataError(
                f"annotation file {path} has no {key!r}: COCO's files have images, annotations and categories"
            )
    if not categories.categories:
        raise DataError(f"annotation file {path}: 'categories' is empty: there is nothing to detect")
    if known_categories is None:
        for category_id, name in categories.categories.items():
            builder.add_class(category_id, name)
    return categories.categories, stream.digest.hexdigest()


def _add_category(entry: Entry, number: int, builder: TableBuilder) -> None:
    category_id: Any = entry.get("id")
    name = entry.get("name")
    if not plain_int(category_id):
        raise DataError(_wrong(builder, "categories", entry, number, "id", "a whole number"))
    if not isinstance(name, str):
        raise DataError(_wrong(builder, "categories", entry, number, "name", "a text"))
    builder.add_class(category_id, name)


def _add_image(entry: Entry, number: int, builder: TableBuilder) -> None:
    image_id, name, width, height = (entry.get(key) for key in ("id", "file_name", "width", "height"))
    if type(image_id) not in (int, str):
        wrong = "id", "a whole number or a text"
    elif type(name) is not str:
        wrong = "file_name", "a text"
    elif not (is_side(width) and is_side(height)):
        wrong = "height" if is_side(width) else "width", "a whole number of pixels above 0"
    else:
        builder.add_image(image_id, name, width, height)  # type: ignore[arg-type]
        return
    builder.faults.entry("image", _wrong(builder, "images", entry, number, *wrong))


def _add_annotation(entry: Entry, number: int, builder: TableBuilder) -> None:
    get: Any = entry.get  # called for each of a million entries
    image_id, category_id, box = get("image_id"), get("category_id"), get("bbox")
    crowd, ignore, area, own = get("iscrowd"), get("ignore"), get("area"), get("id")
    if type(image_id) not in (int, str):
        wrong = "image_id", "image_id", "the id of an image of this file"
    elif not plain_int(category_id):
        wrong = "category", "category_id", "the id of one of its categories"
    elif type(box) is not list or len(box) != 4:
        wrong = "no_box", "bbox", FOUR
    elif any(type(v) not in (float, int) for v in box):
        wrong = "no_box" if None in box else "unreadable", "bbox", FOUR
    elif crowd not in (None, 0, 1) or ignore not in (None, 0, 1):
        wrong = "flag", "ignore" if crowd in (None, 0, 1) else "iscrowd", "0 or 1"
    else:
        builder.add_box(
            image_id,
            category_id,
            [_float(v) for v in box],
            area=_float(area) if type(area) in (float, int) else math.nan,
            crowd=bool(crowd),
            ignore=bool(ignore),
            id=own if plain_int(own) else NO_ID,
        )
        return
    kind, key, wanted = wrong
    builder.faults.entry(kind, _wrong(builder, "annotations", entry, number, key, wanted))


ADD = {"images": _add_image, "annotations": _add_annotation, "categories": _add_category}
"""{list of a COCO file: what takes one of its entries}."""


def _float(value: float) -> float:
    """Return a float; whole numbers beyond its range become infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _wrong(builder: TableBuilder, place: str, entry: Entry, number: int, key: str, wanted: str) -> str:
    identity = entry.get("id", f"number {number}")
    given = "is missing" if key not in entry else f"is {_shown(entry[key])}"
    return f"{builder.origin}: {place} entry {str(identity)[:60]}: {key!r} {given}, not {wanted}"


def _shown(value: Any) -> str:
    try:
        return repr(value)[:60] if isinstance(value, str) else str(value)[:60]
    except (ValueError, RecursionError):  # numbers of thousands of digits do not print
        return "a value too large to print"


def write_coco(table: AnnotationTable, path: Path, faults: Faults) -> None:
    """Write a COCO file in pieces. Floats are written so that reading gives the same bits."""
    ids = table.ids
    if len(np.unique(ids)) != len(ids):
        ids = np.arange(1, len(ids) + 1)
        faults.note(
            "annotation id",
            "annotation ids that occur twice (joined files?) were numbered anew from 1",
        )
    with open(path, "wb") as file:

        def put(text: str) -> None:
            file.write(text.encode("utf-8", "surrogatepass"))

        put('{"info": {"description": "written by densedet"},\n"images": [')
        for start in range(0, len(table), BATCH):
            rows = [
                {"id": table.image_id(i), "file_name": table.name(i), "width": w, "height": h}
                for i, (w, h) in enumerate(table.sizes[start : start + BATCH].tolist(), start)
            ]
            put(("" if not start else ",") + ",".join("\n" + json.dumps(row) for row in rows))
        put('],\n"annotations": [')
        owners = table.owners()
        for start in range(0, len(ids), BATCH):
            part = slice(start, start + BATCH)
            columns = (
                ids[part],
                owners[part],
                table.labels[part],
                table.xywh[part],
                table.areas[part],
                table.flags[part],
            )
            scores = None if table.scores is None else table.scores[part].tolist()
            lines = [
                _annotation(table, *values, score=None if scores is None else scores[at])
                for at, values in enumerate(zip(*(column.tolist() for column in columns)))
            ]
            put(("" if not start else ",") + ",".join("\n" + line for line in lines))
        categories = [{"id": i, "name": n} for i, n in zip(table.category_ids, table.classes)]
        put('],\n"categories": ' + json.dumps(categories) + "}\n")


def _annotation(
    table: AnnotationTable,
    own: int,
    image: int,
    label: int,
    xywh: list[float],
    area: float,
    flags: int,
    *,
    score: float | None,
) -> str:
    row: dict[str, Any] = {
        "id": own,
        "image_id": table.image_id(image),
        "category_id": table.category_ids[label],
        "bbox": [_plain(v) for v in xywh],
        "area": _plain(area),
        "iscrowd": int(flags & CROWD != 0),
    }
    if flags & IGNORE:
        row["ignore"] = 1
    if score is not None:
        row["score"] = score
    return json.dumps(row)


def _plain(value: float) -> float | int:
    """Return 12 for 12.0; minus zero stays a float."""
    return (
        int(value)
        if value.is_integer() and abs(value) < 1 << 53 and (value or math.copysign(1, value) > 0)
        else value
    )
