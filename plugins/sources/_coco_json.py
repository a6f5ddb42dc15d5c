"""Reading and writing COCO JSON: entries go one at a time into a table, every fault is a sentence with the
file and the entry."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from densedet.core.errors import DataError
from densedet.core.files import atomic_file
from densedet.core.sources import CROWD, IGNORE, NO_ID, AnnotationTable, Faults, TableBuilder
from densedet.plugins.sources._json_stream import CHUNK, ObjectStream

LISTS = ("images", "annotations", "categories")
BATCH = 10_000
"""Entries written at a time."""


def read_coco(
    path: Path,
    builder: TableBuilder,
    *,
    known_categories: dict[int, str] | None = None,
    renamed: dict[int, str] | None = None,
    chunk: int = CHUNK,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[int, str], str]:
    """Add a file's entries to ``builder``; -> (its categories, a digest of its bytes).

    known_categories: those of files read before, which this one's must equal. renamed: {category id: name}
    instead of the file's. Raises DataError.
    """
    builder.origin = f"annotation file {path}"
    faults = builder.faults
    categories: dict[int, str] = {}
    found = set()
    with ObjectStream(path, chunk=chunk, on_progress=on_progress) as stream:
        for key in stream.members():
            if key not in LISTS:
                continue
            found.add(key)
            add = {"images": _add_image, "annotations": _add_annotation, "categories": _add_category}[key]
            into = categories if key == "categories" else builder
            for number, entry in enumerate(stream.entries()):
                if not isinstance(entry, dict):
                    raise DataError(
                        f"annotation file {path}: {key!r} must be a list of objects, entry {number} is "
                        f"{_shown(entry)}"
                    )
                if (
                    key == "categories"
                    and renamed
                    and type(entry.get("id")) is int
                    and entry["id"] in renamed
                ):
                    entry = {**entry, "name": renamed[entry["id"]]}
                add(entry, number, into, f"annotation file {path}", faults)  # type: ignore[operator]
    for key in LISTS:
        if key not in found:
            raise DataError(
                f"annotation file {path} has no {key!r}: COCO's files have images, annotations and categories"
            )
    if not categories:
        raise DataError(f"annotation file {path}: 'categories' is empty: there is nothing to detect")
    if known_categories is None:
        for category_id, name in categories.items():
            builder.add_class(category_id, name)
    return categories, stream.digest.hexdigest()


def _add_category(
    entry: dict[str, Any], number: int, categories: dict[int, str], origin: str, faults: Faults
) -> None:
    category_id: Any = entry.get("id")
    name = entry.get("name")
    if not _is_int(category_id):
        raise DataError(_wrong(origin, "categories", entry, number, "id", "a whole number"))
    if not isinstance(name, str):
        raise DataError(_wrong(origin, "categories", entry, number, "name", "a text"))
    if category_id in categories:
        raise DataError(
            f"{origin}: category id {category_id} occurs twice ({categories[category_id]!r} and {name!r})"
        )
    for other, known in categories.items():
        if known == name:
            raise DataError(
                f"{origin}: categories {other} and {category_id} are both called {name!r}: rename one of them"
            )
    categories[category_id] = name


def _add_image(
    entry: dict[str, Any], number: int, builder: TableBuilder, origin: str, faults: Faults
) -> None:
    get: Callable[[str], Any] = entry.get
    image_id, name, width, height = get("id"), get("file_name"), get("width"), get("height")
    if type(image_id) not in (int, str):
        faults.entry("image", _wrong(origin, "images", entry, number, "id", "a whole number or a text"))
    elif type(name) is not str:
        faults.entry("image", _wrong(origin, "images", entry, number, "file_name", "a text"))
    elif not _is_side(width):
        faults.entry(
            "image", _wrong(origin, "images", entry, number, "width", "a whole number of pixels above 0")
        )
    elif not _is_side(height):
        faults.entry(
            "image", _wrong(origin, "images", entry, number, "height", "a whole number of pixels above 0")
        )
    else:
        builder.add_image(image_id, name, width, height)


def _add_annotation(
    entry: dict[str, Any], number: int, builder: TableBuilder, origin: str, faults: Faults
) -> None:
    get: Callable[[str], Any] = entry.get
    image_id, category_id, box = get("image_id"), get("category_id"), get("bbox")
    crowd, ignore, area, own = get("iscrowd"), get("ignore"), get("area"), get("id")
    if type(image_id) not in (int, str):
        faults.entry(
            "image id",
            _wrong(origin, "annotations", entry, number, "image_id", "the id of an image of this file"),
        )
    elif not _is_int(category_id):
        faults.entry(
            "category",
            _wrong(origin, "annotations", entry, number, "category_id", "the id of one of its categories"),
        )
    elif type(box) is not list or len(box) != 4 or any(type(v) not in (float, int) for v in box):
        faults.entry(
            "box", _wrong(origin, "annotations", entry, number, "bbox", "four numbers x, y, width, height")
        )
    elif crowd not in (None, 0, 1) or ignore not in (None, 0, 1):
        faults.entry(
            "flag",
            _wrong(
                origin,
                "annotations",
                entry,
                number,
                "ignore" if crowd in (None, 0, 1) else "iscrowd",
                "0 or 1",
            ),
        )
    else:
        size = _float(area) if type(area) in (float, int) else math.nan
        own = own if _is_int(own) else NO_ID
        builder.add_box(
            image_id,
            category_id,
            [_float(v) for v in box],
            area=size,
            crowd=bool(crowd),
            ignore=bool(ignore),
            id=own,
        )


def _float(value: float) -> float:
    """Whole numbers beyond float's range are infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _wrong(origin: str, place: str, entry: dict[str, Any], number: int, key: str, wanted: str) -> str:
    identity = entry.get("id", f"number {number}")
    given = "is missing" if key not in entry else f"is {_shown(entry[key])}"
    return f"{origin}: {place} entry {str(identity)[:60]}: {key!r} {given}, not {wanted}"


def _shown(value: Any) -> str:
    try:
        return repr(value)[:60] if isinstance(value, str) else str(value)[:60]
    except (ValueError, RecursionError):  # numbers of thousands of digits do not print
        return "a value too large to print"


def _is_int(value: Any) -> bool:
    return type(value) is int and -(1 << 63) < value < 1 << 63


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 < value < 1 << 24


def write_coco(table: AnnotationTable, path: Path, *, faults: Faults | None = None) -> None:
    """A COCO file, written in pieces to a temporary name and renamed. Floats are written so that they come
    back bit for bit."""
    ids = table.ids
    if len(np.unique(ids)) != len(ids):
        ids = np.arange(1, len(ids) + 1)
        if faults is not None:
            faults.note(
                "annotation id",
                f"{path}: annotation ids that occur twice (joined files?) were numbered anew from 1",
            )
    with atomic_file(path) as file:

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
            lines = [_annotation(table, *values) for values in zip(*(column.tolist() for column in columns))]
            put(("" if not start else ",") + ",".join("\n" + line for line in lines))
        categories = [{"id": i, "name": n} for i, n in zip(table.category_ids, table.classes)]
        put('],\n"categories": ' + json.dumps(categories) + "}\n")


def _annotation(
    table: AnnotationTable, own: int, image: int, label: int, xywh: list[float], area: float, flags: int
) -> str:
    row = {
        "id": own,
        "image_id": table.image_id(image),
        "category_id": table.category_ids[label],
        "bbox": [_plain(v) for v in xywh],
        "area": _plain(area),
        "iscrowd": int(flags & CROWD != 0),
    }
    if flags & IGNORE:
        row["ignore"] = 1
    return json.dumps(row)


def _plain(value: float) -> float | int:
    """12 instead of 12.0; minus zero stays a float."""
    return (
        int(value)
        if value.is_integer() and abs(value) < 1 << 53 and (value or math.copysign(1, value) > 0)
        else value
    )
