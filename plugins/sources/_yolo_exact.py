"""A file beside data.yaml for what YOLO's text files cannot hold.

That is ids, sizes, exact boxes, crowds, ignored objects and the order. It is called
densedet_extra_SPLIT.jsonl; each line is a JSON value. The first is {"densedet": 1, "images": folder,
"categories": [[id, name], ...]}. Then each image has ["image", id, file name, width, height, label file],
followed by ["box", id, label, x, y, width, height, area, flags] for each of its boxes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from densedet.core.errors import DataError
from densedet.core.sources import is_side, name_fault
from densedet.plugins.sources._label_files import plain_float, plain_int

MAX_LINE = 1 << 22
"""Bytes; the names of a thousand classes take 20 KB."""

VERSION = 1


class ExactBox(NamedTuple):
    """A box of an `ExactImage`."""

    id: int
    label: int
    box: tuple[float, float, float, float]  # x, y, width, height in pixels
    area: float
    flags: int  # of CROWD and IGNORE


@dataclass
class ExactImage:
    """An image of the file."""

    id: int | str
    name: str
    width: int
    height: int
    labels: str  # its label file, relative to data.yaml
    boxes: list[ExactBox] = field(default_factory=list)

    def row(self) -> list[Any]:
        """Return its line as a list."""
        return ["image", self.id, self.name, self.width, self.height, self.labels]


def exact_file(data: Path, split: str) -> Path:
    """Return the path of the file beside a data.yaml."""
    return data.parent / f"densedet_extra_{split}.jsonl"


def exact_text(image: ExactImage) -> bytes:
    """Return the lines of an image."""
    rows = [image.row(), *(["box", b.id, b.label, *b.box, b.area, b.flags] for b in image.boxes)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def header_text(split: str, category_ids: tuple[int, ...], names: tuple[str, ...]) -> bytes:
    """Return the first line."""
    row = {"densedet": VERSION, "images": f"images/{split}", "categories": list(zip(category_ids, names))}
    return (json.dumps(row) + "\n").encode()


class ExactFile:
    """The file at ``path``: read `categories` from its first line, then `images`.

    Every method raises DataError with the number of a broken line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digest = hashlib.blake2b(digest_size=16)

    def categories(self) -> list[tuple[int, str]]:
        """Return (id, name) of each label."""
        _, header = next(self._rows(), (1, None))
        rows = (
            header.get("categories")
            if isinstance(header, dict) and header.get("densedet") == VERSION
            else None
        )
        if not isinstance(rows, list):
            raise self._wrong(1, f"this is not the first line of such a file, version {VERSION}")
        if not all(
            isinstance(row, list) and len(row) == 2 and plain_int(row[0]) and isinstance(row[1], str)
            for row in rows
        ):
            raise self._wrong(1, "'categories' is no list of [id, name]")
        if len({row[0] for row in rows}) < len(rows):
            raise self._wrong(1, "'categories' has an id twice")
        return [(row[0], row[1]) for row in rows]

    def images(self) -> Iterator[ExactImage]:
        """Give the images in their order; afterwards `digest` is that of the whole file."""
        rows = self._rows()
        next(rows)
        image: ExactImage | None = None
        for number, row in rows:
            kind = row[0] if isinstance(row, list) and row else None
            if kind == "image":
                if image is not None:
                    yield image
                image = self._image(number, row)
            elif kind == "box" and image is not None:
                image.boxes.append(self._box(number, row))
            else:
                raise self._wrong(number, "this is no line of an image or a box")
        if image is not None:
            yield image

    def _image(self, number: int, row: list[Any]) -> ExactImage:
        if (
            len(row) != 6
            or type(row[1]) not in (int, str)
            or not all(isinstance(row[i], str) for i in (2, 5))
        ):
            raise self._wrong(number, "an image is ['image', id, file name, width, height, label file]")
        if not all(map(is_side, row[3:5])):
            raise self._wrong(number, "width and height must be whole numbers of pixels above 0")
        for name in (row[2], row[5]):
            fault = name_fault(name)
            if fault is not None:
                raise self._wrong(number, f"the file name {name[:80]!r} {fault}")
        return ExactImage(*row[1:])

    def _box(self, number: int, row: list[Any]) -> ExactBox:
        numbers = [plain_float(value) for value in row[3:8]]
        flaw = len(row) != 9 or None in numbers or not all(map(plain_int, (row[1], row[2], row[8])))
        if flaw or row[2] < 0 or not 0 <= row[8] < 4:
            raise self._wrong(number, "a box is ['box', id, label, x, y, width, height, area, flags]")
        x, y, w, h, area = numbers
        return ExactBox(row[1], row[2], (x, y, w, h), area, row[8])  # type: ignore[arg-type]

    def _rows(self) -> Iterator[tuple[int, Any]]:
        self.digest = hashlib.blake2b(digest_size=16)
        try:
            with open(self.path, "rb") as file:
                for number in count(1):
                    line = file.readline(MAX_LINE + 1)
                    if not line:
                        return
                    if len(line) > MAX_LINE:
                        raise self._wrong(number, "the line is too long")
                    self.digest.update(line)
                    yield number, self._value(number, line)
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}") from error

    def _value(self, number: int, line: bytes) -> Any:
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._wrong(number, "the line is not JSON") from error

    def _wrong(self, number: int, what: str) -> DataError:
        return DataError(
            f"{self.path}:{number}: {what}: convert anew, or delete the file to read the labels alone"
        )
