"""Reading and writing `annotations.fbs` files in place: columns are NumPy views of a memory map.

FlatBuffers' generated Python reader trusts its input and returns Python objects; this one checks every offset
and length against the file before it makes a view, and copies nothing. A test reads the same files with
flatc's code.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from densedet.core.errors import DataError
from densedet.core.files import atomic_file
from densedet.core.sources import CHUNK, MAX_SIDE, RULES, AnnotationTable, box_faults, name_fault

IDENTIFIER = b"DDET"
VERSION = 1
MAX_BYTES = (1 << 31) - 1
"""FlatBuffers' offsets are signed in most languages."""

MAX_CLASSES = 1 << 16
"""Labels are 16 bits."""

MAX_TEXT = 1 << 16
"""Bytes of a class name or an image id."""


class Column(NamedTuple):
    """A field of the schema, in its order. dtype: of a vector's numbers, None for [string], "version" is a
    scalar."""

    name: str
    dtype: str | None


COLUMNS = (
    Column("version", "<u4"),
    Column("fingerprint", "u1"),
    Column("class_names", None),
    Column("category_ids", "<i8"),
    Column("image_ids", "<i8"),
    Column("image_texts", None),
    Column("names", "u1"),
    Column("name_offsets", "<u4"),
    Column("sizes", "<i4"),
    Column("offsets", "<u4"),
    Column("boxes", "<f8"),
    Column("labels", "<u2"),
    Column("flags", "u1"),
    Column("areas", "<f8"),
    Column("annotation_ids", "<i8"),
)


class Opened:
    """A database whose structure was checked: every column lies in the file and their lengths agree. Values
    are checked by `check`.

    table: an `AnnotationTable` of views into the file. fingerprint: as stored, in hexadecimal. Raises
    DataError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map = self._mapped()
        self._size = len(self._map)
        if self._size < 12 or self._map[4:8] != IDENTIFIER:
            self._refuse(
                f"it does not carry the mark {IDENTIFIER.decode()}: it is no annotation database of "
                f"densedet's (densedet convert makes one)"
            )
        self._fields = self._vtable()
        version = self._version()
        if version != VERSION:
            self._refuse(
                f"it is of version {version}, this densedet reads version {VERSION}: convert it anew "
                f"or update densedet"
            )
        self.table = self._table()
        self.fingerprint = bytes(self._vector("fingerprint")).hex()
        if len(self.fingerprint) != 32:
            self._refuse("its fingerprint has not 16 bytes")

    def _mapped(self) -> mmap.mmap:
        try:
            with open(self.path, "rb") as file:
                if file.seek(0, 2) > MAX_BYTES:
                    self._refuse("it is larger than 2 GB, which no FlatBuffers file can be")
                if file.tell() == 0:
                    self._refuse("it is empty")
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DataError(
                f"annotation database {self.path} cannot be read: {getattr(error, 'strerror', None) or error}"
            ) from error

    def _refuse(self, reason: str) -> NoReturn:
        raise DataError(f"annotation database {self.path}: {reason}")

    def _damaged(self, what: str) -> NoReturn:
        self._refuse(f"it is damaged or cut short ({what}): convert it anew")

    # -- structure --------------------

    def _number(self, form: str, at: int, what: str) -> int:
        size = struct.calcsize(form)
        if not 0 <= at <= self._size - size:
            self._damaged(f"{what} lies outside the file")
        return int(struct.unpack_from(form, self._map, at)[0])

    def _vtable(self) -> dict[str, int]:
        """{column: position of its field in the file} of those that are there."""
        root = self._number("<I", 0, "the root")
        vtable = root - self._number("<i", root, "the root")
        length = self._number("<H", vtable, "the field table")
        room = self._number("<H", vtable + 2, "the field table")
        if length < 4 or length % 2 or vtable + length > self._size or room < 4 or root + room > self._size:
            self._damaged("the field table")
        found = {}
        for slot, column in enumerate(COLUMNS[: (length - 4) // 2]):
            offset = self._number("<H", vtable + 4 + 2 * slot, "the field table")
            if offset:
                if not 4 <= offset <= room - 4:
                    self._damaged(f"field {column.name}")
                found[column.name] = root + offset
        return found

    def _version(self) -> int:
        return self._number("<I", self._fields["version"], "version") if "version" in self._fields else 0

    def _span(self, name: str, width: int) -> tuple[int, int]:
        """(start, number of entries) of a vector; (0, 0) where the file has none."""
        if name not in self._fields:
            return 0, 0
        field = self._fields[name]
        start = field + self._number("<I", field, name)
        count = self._number("<I", start, name)
        if start + 4 + count * width > self._size:
            self._damaged(f"column {name} with {count} entries ends outside the file")
        return start + 4, count

    def _vector(self, name: str) -> np.ndarray:
        dtype = np.dtype(next(c.dtype for c in COLUMNS if c.name == name))
        start, count = self._span(name, dtype.itemsize)
        if start % dtype.itemsize and count:
            self._damaged(f"column {name} is not aligned")
        return np.frombuffer(self._map, dtype=dtype, count=count, offset=start)

    def _texts(self, name: str) -> list[str]:
        start, count = self._span(name, 4)
        texts = []
        for entry in range(start, start + 4 * count, 4):
            at = entry + self._number("<I", entry, name)
            length = self._number("<I", at, name)
            if length > MAX_TEXT or at + 4 + length > self._size:
                self._damaged(f"an entry of {name} ends outside the file")
            try:
                texts.append(self._map[at + 4 : at + 4 + length].decode("utf-8", "surrogatepass"))
            except UnicodeDecodeError:
                self._damaged(f"an entry of {name} is not UTF-8")
        return texts

    def _table(self) -> AnnotationTable:
        column = {c.name: self._vector(c.name) for c in COLUMNS[1:] if c.dtype is not None}
        images, boxes = max(len(column["offsets"]) - 1, 0), len(column["labels"])
        classes = self._classes(column["category_ids"])
        texts = "image_texts" in self._fields
        wanted = {
            "name_offsets": images + 1,
            "sizes": 2 * images,
            "offsets": images + 1,
            "boxes": 4 * boxes,
            "flags": boxes,
        }
        wanted |= {
            "areas": boxes,
            "annotation_ids": boxes,
            "category_ids": len(classes),
            "image_ids": 0 if texts else images,
        }
        for name, count in wanted.items():
            if len(column[name]) != count:
                self._damaged(f"column {name} has {len(column[name])} entries instead of {count}")
        ends = [
            (column[name][0], column[name][-1], total)
            for name, total in (("offsets", boxes), ("name_offsets", len(column["names"])))
        ]
        if any(first != 0 or last != total for first, last, total in ends):
            self._damaged("offsets and columns disagree")
        return AnnotationTable(
            classes=tuple(classes),
            category_ids=tuple(column["category_ids"].tolist()),
            image_ids=self._image_texts(images) if texts else column["image_ids"],
            names=column["names"],
            name_offsets=column["name_offsets"],
            sizes=column["sizes"].reshape(-1, 2),
            offsets=column["offsets"],
            xywh=column["boxes"].reshape(-1, 4),
            labels=column["labels"],
            flags=column["flags"],
            areas=column["areas"],
            ids=column["annotation_ids"],
        )

    def _classes(self, category_ids: np.ndarray) -> list[str]:
        if len(category_ids) > MAX_CLASSES:
            self._damaged(f"{len(category_ids)} classes")
        names = self._texts("class_names")
        if len(set(names)) != len(names) or "" in names or len(np.unique(category_ids)) != len(category_ids):
            self._damaged("class names and ids must be unique")
        return names

    def _image_texts(self, images: int) -> list[int | str]:
        if self._span("image_texts", 4)[1] != images:
            self._damaged(f"column image_texts has not {images} entries")
        texts = self._texts("image_texts")
        if len(set(texts)) != len(texts) or any(t[:1] not in ("s", "i") for t in texts):
            self._damaged("image ids")
        try:
            return [t[1:] if t[0] == "s" else int(t[1:40]) for t in texts]
        except ValueError:
            self._damaged("image ids")

    # -- values --------------------

    def check(self) -> None:
        """Every value of every column, in bulk. Raises DataError with the image or box at fault."""
        table = self.table
        for name in ("offsets", "name_offsets"):
            if (np.diff(getattr(table, name).astype(np.int64)) < 0).any():
                self._damaged(f"column {name} does not ascend")
        if ((table.sizes < 1) | (table.sizes >= MAX_SIDE)).any():
            self._damaged(f"an image's width or height is not within 1..{MAX_SIDE - 1}")
        if isinstance(table.image_ids, np.ndarray) and _repeats(table.image_ids):
            self._refuse("an image id occurs twice")
        self._check_names()
        if len(table.labels) and int(table.labels.max()) >= len(table.classes):
            self._damaged(f"a label is {int(table.labels.max())} with {len(table.classes)} classes")
        if len(table.flags) and int(table.flags.max()) > 3:
            self._damaged("a flag is none of 0..3")
        if not np.isfinite(table.areas).all() or (table.areas < 0).any():
            self._damaged("an area is negative or not finite")
        faults = box_faults(table.xywh, table.sizes, table.owners())
        wrong = np.flatnonzero(faults)
        for row in wrong[faults[wrong] < max(RULES)].tolist():
            image = int(np.searchsorted(table.offsets, row, side="right")) - 1
            rule = RULES[int(faults[row])].format(*table.sizes[image].tolist())
            box = ", ".join(f"{v:g}" for v in table.xywh[row])
            self._refuse(
                f"box [{box}] (x, y, width, height), annotation {table.ids[row]} of image "
                f"{table.image_id(image)}, {rule}: convert it anew"
            )
        table.clipped = len(wrong)

    def _check_names(self) -> None:
        """File names are UTF-8 and lead out of no folder; only those with a suspicious byte are looked at one
        by one."""
        table = self.table
        starts = table.name_offsets[:-1].astype(np.int64)
        if len(starts) and (np.diff(table.name_offsets.astype(np.int64)) == 0).any():
            self._damaged("an image has no file name")
        raw = np.asarray(table.names)
        continued = (raw[starts] & 0xC0) == 0x80 if len(starts) else np.zeros(0, bool)
        try:
            raw.tobytes().decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            continued = np.ones(1, bool)
        if continued.any():
            self._damaged("file names are not UTF-8")
        suspicious = (raw == 0) | (raw == ord("\\")) | (raw == ord(":"))
        suspicious[:-1] |= (raw[:-1] == ord(".")) & (raw[1:] == ord("."))
        suspicious[starts] |= raw[starts] == ord("/")
        for image in np.unique(
            np.searchsorted(table.name_offsets, np.flatnonzero(suspicious), side="right") - 1
        ).tolist():
            name = table.name(image)
            fault = name_fault(name)
            if fault:
                self._refuse(f"image {table.image_id(image)}: file_name {name[:80]!r} {fault}")


def _repeats(ids: np.ndarray) -> bool:
    """Whether a value occurs twice; ascending ids, as databases mostly have them, need no sorting."""
    steps = ids[1:] > ids[:-1]
    return bool(not steps.all() and len(np.unique(ids)) != len(ids))


def write_database(
    table: AnnotationTable, path: Path, *, on_progress: Callable[[int, int], None] | None = None
) -> None:
    """Write ``table`` column by column to a temporary name and rename it. Raises DataError where it does not
    fit the format."""
    if len(table.classes) > MAX_CLASSES:
        raise DataError(f"{path}: {len(table.classes)} classes do not fit a .db file (65,536): use .sqlite")
    vectors = _vectors(table)
    starts, total = _layout(vectors)
    if total > MAX_BYTES:
        raise DataError(f"{path} would take {total / 1e9:.1f} GB, above FlatBuffers' 2 GB: use .sqlite")
    with atomic_file(path) as file:
        file.write(_head(starts))
        for name, vector in vectors.items():
            file.write(b"\0" * (starts[name] - file.tell()))
            file.write(struct.pack("<I", vector.count))
            for chunk in vector.chunks():
                file.write(chunk)
            if on_progress is not None:
                on_progress(file.tell(), total)
        file.write(b"\0" * (total - file.tell()))


class _Numbers:
    """A vector of numbers, written in chunks so that a converted copy is never whole in memory."""

    def __init__(self, values: np.ndarray, dtype: str) -> None:
        self.values, self.dtype = np.asarray(values).reshape(-1), np.dtype(dtype)
        self.count, self.width = len(self.values), self.dtype.itemsize
        self.bytes = self.count * self.width

    def chunks(self):  # type: ignore[no-untyped-def]
        for start in range(0, self.count, CHUNK):
            yield np.ascontiguousarray(self.values[start : start + CHUNK], dtype=self.dtype).tobytes()


class _Texts:
    """A vector of strings: offsets, then each text with its length and a closing zero."""

    width = 4

    def __init__(self, texts: list[str]) -> None:
        self.texts = [text.encode("utf-8", "surrogatepass") for text in texts]
        self.count = len(texts)
        at, self._starts = 4 * self.count, []
        for text in self.texts:
            self._starts.append(at)
            at += -(-(4 + len(text) + 1) // 4) * 4
        self.bytes = at

    def chunks(self):  # type: ignore[no-untyped-def]
        yield struct.pack(f"<{self.count}I", *(start - 4 * slot for slot, start in enumerate(self._starts)))
        for text in self.texts:
            yield struct.pack("<I", len(text)) + text + b"\0" * (-(-(len(text) + 1) // 4) * 4 - len(text))


def _vectors(table: AnnotationTable) -> dict[str, _Numbers | _Texts]:
    texts = None if isinstance(table.image_ids, np.ndarray) else table.image_ids
    values: dict[str, Any] = {
        "category_ids": np.array(table.category_ids, dtype=np.int64),
        "image_ids": np.zeros(0, np.int64) if texts is not None else table.image_ids,
        "names": table.names,
        "name_offsets": table.name_offsets,
        "sizes": table.sizes,
        "offsets": table.offsets,
        "boxes": table.xywh,
        "labels": table.labels,
        "flags": table.flags,
        "areas": table.areas,
        "annotation_ids": table.ids,
    }
    vectors: dict[str, _Numbers | _Texts] = {"class_names": _Texts(list(table.classes))}
    if texts is not None:
        vectors["image_texts"] = _Texts([f"s{i}" if isinstance(i, str) else f"i{i}" for i in texts])
    vectors |= {
        c.name: _Numbers(values[c.name], c.dtype) for c in COLUMNS if c.name in values and c.dtype is not None
    }
    digest = hashlib.blake2b(digest_size=16)
    for name, vector in vectors.items():
        digest.update(f"{name} {vector.count}\0".encode())
        for chunk in vector.chunks():
            digest.update(chunk)
    return {"fingerprint": _Numbers(np.frombuffer(digest.digest(), np.uint8), "u1"), **vectors}


HEAD = 12 + 4 + 4 + 2 * len(COLUMNS)
"""Root offset, identifier and padding, then the field table."""

TABLE = -(-HEAD // 8) * 8
"""Where the root table lies: its offset back to the field table, then 4 bytes a field."""


def _layout(vectors: dict[str, _Numbers | _Texts]) -> tuple[dict[str, int], int]:
    """(position of each vector's length, size of the file): numbers start at multiples of 8."""
    at, starts = TABLE + 4 + 4 * len(COLUMNS), {}
    for name, vector in vectors.items():
        starts[name] = -(-(at + 4) // 8) * 8 - 4
        at = starts[name] + 4 + vector.bytes
    return starts, -(-at // 8) * 8


def _head(starts: dict[str, int]) -> bytes:
    vtable = 12
    head = struct.pack("<I4sI", TABLE, IDENTIFIER, 0)
    fields = [
        0 if c.name != "version" and c.name not in starts else 4 + 4 * slot for slot, c in enumerate(COLUMNS)
    ]
    head += struct.pack(f"<HH{len(COLUMNS)}H", 4 + 2 * len(COLUMNS), 4 + 4 * len(COLUMNS), *fields)
    head += b"\0" * (TABLE - len(head))
    values = [VERSION] + [
        starts[c.name] - (TABLE + 4 + 4 * slot) if c.name in starts else 0
        for slot, c in enumerate(COLUMNS)
        if slot
    ]
    return head + struct.pack(f"<i{len(COLUMNS)}I", TABLE - vtable, *values)
