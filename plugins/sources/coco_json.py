"""Reading a COCO JSON file: every fault is a sentence with the file and the entry."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from densedet.core.annotation_table import MAX_SENTENCES, AnnotationTable, check_boxes, pack_names
from densedet.core.errors import DataError

MAX_SIDE = 1 << 24
"""Larger image sides are not believed: pixel positions beyond are no longer exact in float32."""


@dataclass
class CocoFile:
    """A file's lists, as parsed. categories: {id: name}. digest: of the file's bytes."""

    path: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: dict[int, str]
    digest: str


def read_coco(path: Path) -> CocoFile:
    """Parse one file and check its outline. Raises DataError."""
    try:
        content = path.read_bytes()
        value = json.loads(content)
    except OSError as error:
        raise DataError(f"annotation file {path} cannot be read: {error.strerror or error}") from error
    except json.JSONDecodeError as error:
        raise DataError(f"annotation file {path}, line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"annotation file {path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        kind = "a list, like a results file" if isinstance(value, list) else type(value).__name__
        raise DataError(f"annotation file {path} holds {kind}: COCO's is an object with images, annotations and categories")
    for key in ("images", "annotations", "categories"):
        if key not in value:
            raise DataError(f"annotation file {path} has no {key!r}: COCO's files have images, annotations and categories")
        rows = value[key]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(f"annotation file {path}: {key!r} must be a list of objects")
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    return CocoFile(path, value["images"], value["annotations"], _categories(value["categories"], path), digest)


def _categories(rows: list[dict[str, Any]], path: Path) -> dict[int, str]:
    ids = _column(rows, "id", _is_int, "a whole number", "categories", path)
    names = _column(rows, "name", _is_text, "a text", "categories", path)
    if not rows:
        raise DataError(f"annotation file {path}: 'categories' is empty: there is nothing to detect")
    table: dict[int, str] = {}
    known: dict[str, int] = {}
    for identity, name in zip(ids, names):
        if identity in table:
            raise DataError(f"annotation file {path}: category id {identity} occurs twice ({table[identity]!r} and {name!r})")
        if name in known:
            raise DataError(f"annotation file {path}: categories {known[name]} and {identity} are both called {name!r}: rename one of them")
        table[identity], known[name] = name, identity
    return table


def table_of(files: list[CocoFile], category_ids: np.ndarray) -> AnnotationTable:
    """The images of all files in order, and their boxes with labels = positions in category_ids (ascending). Raises DataError."""
    position: dict[int | str, int] = {}
    owner: dict[int | str, Path] = {}
    names: list[str] = []
    sides: list[np.ndarray] = []
    for file in files:
        ids = _column(file.images, "id", _is_id, "a whole number or a text", "images", file.path)
        for identity in ids:
            if identity in position:
                both = f"{owner[identity]} and {file.path}" if owner[identity] != file.path else f"annotation file {file.path}"
                raise DataError(f"{both}: image id {identity!r} occurs twice; image ids must be unique, also over joined files")
            position[identity] = len(position)
            owner[identity] = file.path
        for identity, name in zip(ids, _column(file.images, "file_name", _is_text, "a text", "images", file.path)):
            _check_name(name, identity, file.path)
            names.append(name)
        widths = _column(file.images, "width", _is_side, "a whole number of pixels above 0", "images", file.path)
        heights = _column(file.images, "height", _is_side, "a whole number of pixels above 0", "images", file.path)
        sides.append(np.array([widths, heights], dtype=np.int64).T.reshape(-1, 2))
    sizes = np.concatenate(sides)
    columns = [_boxes_of(file, position, sizes, category_ids) for file in files]
    image, boxes, labels, ignore, crowd, areas = (np.concatenate(parts) for parts in zip(*(c.arrays for c in columns)))
    order = np.argsort(image, kind="stable")
    offsets = np.searchsorted(image[order], np.arange(len(sizes) + 1))
    packed, name_offsets = pack_names(names)
    fits = all(isinstance(i, int) and abs(i) < 1 << 63 for i in position)
    return AnnotationTable(
        image_ids=np.array(list(position), dtype=np.int64) if fits else list(position),
        names=packed,
        name_offsets=name_offsets,
        sizes=sizes.astype(np.int32),
        offsets=offsets,
        boxes=boxes[order].astype(np.float32),
        labels=labels[order].astype(np.int16 if len(category_ids) < 1 << 15 else np.int64),
        ignore=ignore[order],
        crowd=crowd[order],
        areas=areas[order].astype(np.float32),
        sentences=_bounded([sentence for c in columns for sentence in c.sentences], sum(c.faults for c in columns)),
        dropped=sum(c.dropped for c in columns),
        clipped=sum(c.clipped for c in columns),
    )


@dataclass
class _Boxes:
    arrays: tuple[np.ndarray, ...]
    sentences: list[str]
    faults: int
    dropped: int
    clipped: int


def _boxes_of(file: CocoFile, position: dict[int | str, int], sizes: np.ndarray, category_ids: np.ndarray) -> _Boxes:
    rows, path = file.annotations, file.path
    own = {row["id"] for row in file.images}
    image_ids = _column(rows, "image_id", lambda v: _is_id(v) and v in own, "the id of an image of this file", "annotations", path)
    categories = _column(
        rows, "category_id", lambda v: _is_int(v) and v in file.categories, "the id of one of its categories", "annotations", path
    )
    xywh = _xywh(rows, path)
    image = np.array([position[i] for i in image_ids], dtype=np.int64)
    checked = check_boxes(xywh, sizes[image])
    areas = [row.get("area") for row in rows]
    size = np.prod(checked.boxes[:, 2:] - checked.boxes[:, :2], axis=1, where=checked.keep[:, None])
    given = np.array([_number(a) if _is_number(a) else np.nan for a in areas], dtype=np.float64)
    crowd = _flags(rows, "iscrowd", path)
    ignore = _flags(rows, "ignore", path) | crowd
    columns = (
        image,
        checked.boxes,
        np.searchsorted(category_ids, np.array(categories, dtype=np.int64)),
        ignore,
        crowd,
        np.where(np.isfinite(given) & (given >= 0), given, size),
    )
    sentences = [
        f"{path}: annotation {rows[row].get('id', f'number {row}')} of image {rows[row]['image_id']}: "
        f"box [{', '.join(f'{v:g}' for v in xywh[row])}] (x, y, width, height) {rule}"
        for row, rule in checked.faults[:MAX_SENTENCES]
    ]
    dropped = int((~checked.keep).sum())
    return _Boxes(tuple(c[checked.keep] for c in columns), sentences, len(checked.faults), dropped, int(checked.clipped.sum()))


def _bounded(sentences: list[str], total: int) -> list[str]:
    if total > MAX_SENTENCES:
        return [*sentences[:MAX_SENTENCES], f"... and {total - MAX_SENTENCES} more boxes"]
    return sentences


def _column(rows: list[dict[str, Any]], key: str, valid: Callable[[Any], bool], wanted: str, place: str, path: Path) -> list[Any]:
    """row[key] of all rows. Raises DataError at the first that is missing or not valid."""
    values = [row.get(key) for row in rows]
    for index, value in enumerate(values):
        if not valid(value):
            identity = rows[index].get("id", f"number {index}")
            given = (
                "is missing" if key not in rows[index] else f"is {str(value)[:60]!r}" if isinstance(value, str) else f"is {str(value)[:60]}"
            )
            raise DataError(f"annotation file {path}: {place} entry {str(identity)[:60]}: {key!r} {given}, not {wanted}")
    return values


def _check_name(name: str, identity: int | str, path: Path) -> None:
    """Refuse a file name that would lead out of the image folder on any system."""
    windows = PureWindowsPath(name)
    if not name or "\0" in name or PurePosixPath(name).is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        raise DataError(
            f"annotation file {path}: image {identity}: file_name {name[:80]!r} leaves the image folder: names must lie below it"
        )


def _xywh(rows: list[dict[str, Any]], path: Path) -> np.ndarray:
    """float64 (M,4): every row's bbox. Raises DataError."""
    try:
        array = np.array([row["bbox"] for row in rows])
        if array.dtype.kind in "fi" and array.shape == (len(rows), 4):
            return array.astype(np.float64)
    except (KeyError, ValueError, OverflowError):
        pass  # the slow way names the row at fault
    boxes = _column(rows, "bbox", _is_box, "four numbers x, y, width, height", "annotations", path)
    return np.array([[_number(v) for v in box] for box in boxes], dtype=np.float64).reshape(-1, 4)


def _flags(rows: list[dict[str, Any]], key: str, path: Path) -> np.ndarray:
    """bool (M,): every row's 0 or 1 (False and True too; missing and null are 0). Raises DataError."""
    values = [row.get(key) for row in rows]
    for row, value in zip(rows, values):
        if value is not None and value not in (0, 1):
            raise DataError(f"annotation file {path}: annotations entry {row.get('id', '?')}: {key!r} is {str(value)[:60]}, not 0 or 1")
    return np.array([bool(value) for value in values], dtype=bool)


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_side(value: Any) -> bool:
    return _is_int(value) and 0 < value < MAX_SIDE


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(_is_number(v) for v in value)
