"""The annotation database as a file: the flatbuffers package writes it and reads its columns in place.

FlatBuffers has a verifier for hostile files in C++ but none in Python. Python's runtime cannot read outside
its buffer, because `struct` and NumPy check every access, so `Database` only turns their exceptions into
sentences and compares the columns' lengths. `_annotations_generated.py` is the output of
``flatc --python --gen-onefile annotations.fbs``.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from pathlib import Path
from typing import Any, NoReturn

import flatbuffers
import numpy as np

from densedet.core.errors import DataError
from densedet.core.sources import MAX_SIDE, AnnotationTable, Faults, name_fault
from densedet.plugins.sources import _annotations_generated as generated

IDENTIFIER = b"DDET"
VERSION = 1
MAX_BYTES = (1 << 31) - 1
"""FlatBuffers' offsets are signed in most languages."""

MAX_CLASSES = 1 << 16
"""Labels are 16 bits."""

COLUMNS = {
    "CategoryIds": "<i8",
    "ImageIds": "<i8",
    "Names": "u1",
    "NameOffsets": "<u4",
    "Sizes": "<i4",
    "Offsets": "<u4",
    "Boxes": "<f8",
    "Labels": "<u2",
    "Flags": "u1",
    "Areas": "<f8",
    "AnnotationIds": "<i8",
}
"""{name of a column of numbers in the generated code: its dtype}."""


class Database:
    """An open database whose structure was checked: every column lies in the file and the lengths agree.

    `checked` looks at the values.

    Args:
        path: the file.

    Attributes:
        table: an `AnnotationTable` of views into the memory map of the file.
        fingerprint: 32 hexadecimal digits, as the file holds them.

    Raises:
        DataError: the file cannot be read, is no such database, is damaged, or is of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map = self._mapped()
        if self._map[4:8] != IDENTIFIER:
            self._refuse(
                f"it does not carry the mark {IDENTIFIER.decode()}: it is no annotation database of "
                f"densedet's (densedet convert makes one)"
            )
        try:
            self._fields = generated.Annotations.GetRootAs(self._map)
            version = self._fields.Version()
            if version != VERSION:
                self._refuse(
                    f"it is of version {version}, this densedet reads version {VERSION}: convert it anew "
                    f"or update densedet"
                )
            self.fingerprint = self._numbers("Fingerprint", "u1", 16).tobytes().hex()
            self.table = self._table()
        except (struct.error, TypeError, ValueError) as error:  # an offset that leads out of the file
            self._damaged(str(error), error)

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

    def _refuse(self, reason: str, cause: Exception | None = None) -> NoReturn:
        raise DataError(f"annotation database {self.path}: {reason}") from cause

    def _damaged(self, what: str, cause: Exception | None = None) -> NoReturn:
        self._refuse(f"it is damaged or cut short ({what}): convert it anew", cause)

    # -- structure --------------------

    def _numbers(self, name: str, dtype: str, count: int | None = None) -> np.ndarray:
        """Return a column as a view, empty where the file lacks it.

        count: the length that other columns ask for.
        """
        found = getattr(self._fields, f"{name}AsNumpy")()
        column = found if isinstance(found, np.ndarray) else np.zeros(0, dtype)
        if count is not None and len(column) != count:
            self._damaged(f"column {name} has {len(column)} entries instead of {count}")
        if not column.flags.aligned:
            self._damaged(f"column {name} is not aligned")
        return column

    def _texts(self, name: str, count: int) -> list[str]:
        """Return a column of ``count`` texts."""
        if getattr(self._fields, f"{name}Length")() != count:
            self._damaged(f"column {name} has not {count} entries")
        texts, left = [], len(self._map)
        for slot in range(count):
            raw = getattr(self._fields, name)(slot)
            left -= len(raw)
            if left < 0:  # entries that share their bytes could fill the memory
                self._damaged(f"the entries of {name} overlap")
            texts.append(raw.decode("utf-8", "surrogatepass"))
        if len(set(texts)) != len(texts) or "" in texts:
            self._damaged(f"an entry of {name} is empty or occurs twice")
        return texts

    def _table(self) -> AnnotationTable:
        category_ids = self._numbers("CategoryIds", COLUMNS["CategoryIds"])
        images = max(len(self._numbers("Offsets", COLUMNS["Offsets"])) - 1, 0)
        boxes = len(self._numbers("Labels", COLUMNS["Labels"]))
        if len(category_ids) > MAX_CLASSES or len(np.unique(category_ids)) != len(category_ids):
            self._damaged("category ids occur twice, or there are too many")
        texts = None if self._fields.ImageTextsIsNone() else self._texts("ImageTexts", images)
        lengths = {
            "ImageIds": images if texts is None else 0,
            "NameOffsets": images + 1,
            "Sizes": 2 * images,
            "Offsets": images + 1,
            "Boxes": 4 * boxes,
        } | dict.fromkeys(("Flags", "Areas", "AnnotationIds"), boxes)
        column = {name: self._numbers(name, dtype, lengths.get(name)) for name, dtype in COLUMNS.items()}
        for name, total in (("Offsets", boxes), ("NameOffsets", len(column["Names"]))):
            if column[name][0] != 0 or column[name][-1] != total:
                self._damaged(f"column {name} does not run from 0 to {total}")
        return AnnotationTable(
            classes=tuple(self._texts("ClassNames", len(category_ids))),
            category_ids=tuple(category_ids.tolist()),
            image_ids=column["ImageIds"] if texts is None else [_image_id(text) for text in texts],
            names=column["Names"],
            name_offsets=column["NameOffsets"],
            sizes=column["Sizes"].reshape(-1, 2),
            offsets=column["Offsets"],
            xywh=column["Boxes"].reshape(-1, 4),
            labels=column["Labels"],
            flags=column["Flags"],
            areas=column["Areas"],
            ids=column["AnnotationIds"],
        )

    # -- values --------------------

    def checked(self, faults: Faults) -> AnnotationTable:
        """Check every value of every column in bulk.

        Args:
            faults: gets the boxes that are left out or clipped.

        Returns:
            The table, without boxes that cannot be used.

        Raises:
            DataError: names what is damaged.
        """
        table = self.table
        for name in ("offsets", "name_offsets"):
            if (np.diff(getattr(table, name)) < 0).any():
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
        owners = table.owners()

        def place_of(row: int) -> str:
            image = table.image_id(int(owners[row]))
            return f"{self.path}: annotation {table.ids[row]} of image {image}"

        keep = faults.check_boxes(table.xywh, table.sizes, owners, place_of)
        table.faults = faults
        return table if keep.all() else table.select(np.arange(len(table)), keep)

    def _check_names(self) -> None:
        """Check that file names are UTF-8 and lead out of no folder.

        Only names with a suspicious byte are looked at one by one.
        """
        table = self.table
        starts = table.name_offsets[:-1]
        if len(starts) and (np.diff(table.name_offsets) == 0).any():
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


def _image_id(text: str) -> int | str:
    """The id that `write_database` wrote as a text. Raises ValueError."""
    if text[0] not in "si":
        raise ValueError("an image id is neither a text nor a number")
    return text[1:] if text[0] == "s" else int(text[1:40])


def _repeats(ids: np.ndarray) -> bool:
    """Return whether a value occurs twice; ascending ids, which databases mostly have, need no sorting."""
    steps = ids[1:] > ids[:-1]
    return bool(not steps.all() and len(np.unique(ids)) != len(ids))


def write_database(table: AnnotationTable, path: Path) -> None:
    """Write ``table`` as one file.

    Raises:
        DataError: the table does not fit the format.
    """
    if len(table.classes) > MAX_CLASSES:
        raise DataError(f"{path}: {len(table.classes)} classes do not fit a .db file (65,536): use .sqlite")
    ids = table.image_ids
    texts = {"ClassNames": list(table.classes)}
    if not isinstance(ids, np.ndarray):
        texts["ImageTexts"] = [f"s{i}" if isinstance(i, str) else f"i{i}" for i in ids]
    values: dict[str, Any] = {
        "CategoryIds": table.category_ids,
        "ImageIds": [] if "ImageTexts" in texts else ids,
        "Names": table.names,
        "NameOffsets": table.name_offsets,
        "Sizes": table.sizes,
        "Offsets": table.offsets,
        "Boxes": table.xywh,
        "Labels": table.labels,
        "Flags": table.flags,
        "Areas": table.areas,
        "AnnotationIds": table.ids,
    }
    columns = {
        name: np.ascontiguousarray(values[name], dtype=dtype).reshape(-1) for name, dtype in COLUMNS.items()
    }
    entries = [text.encode("utf-8", "surrogatepass") for column in texts.values() for text in column]
    size = sum(column.nbytes + 64 for column in columns.values()) + sum(len(e) + 16 for e in entries) + 1024
    if size > MAX_BYTES:
        raise DataError(f"the database would take {size / 1e9:.1f} GB, above FlatBuffers' 2 GB: use .sqlite")
    digest = hashlib.blake2b(repr(texts).encode("utf-8", "surrogatepass"), digest_size=16)
    for name, column in columns.items():
        digest.update(f"{name} {len(column)}\0".encode())
        digest.update(column.data)
    builder = flatbuffers.Builder(size)
    # A builder works from the end of the file to its start. The last bytes are the fingerprint's, whose
    # length is fixed, so that a file cut short at any place is noticed when it opens.
    placed = {"Fingerprint": builder.CreateNumpyVector(np.frombuffer(digest.digest(), np.uint8))}
    placed |= {name: builder.CreateNumpyVector(column) for name, column in columns.items()}
    placed |= {name: _text_vector(builder, column) for name, column in texts.items()}
    generated.AnnotationsStart(builder)
    generated.AnnotationsAddVersion(builder, VERSION)
    for name, offset in placed.items():
        getattr(generated, f"AnnotationsAdd{name}")(builder, offset)
    builder.Finish(generated.AnnotationsEnd(builder), IDENTIFIER)
    with open(path, "wb") as file:
        file.write(memoryview(builder.Bytes)[builder.Head() :])


def _text_vector(builder: flatbuffers.Builder, texts: list[str]) -> int:
    """Place a vector of strings; return its offset."""
    offsets = [builder.CreateString(text, errors="surrogatepass") for text in texts]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
