"""What the formats with labels by name share: their boxes, their classes, and the way into a table."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from densedet.core.errors import DataError
from densedet.core.sources import (
    CROWD,
    IGNORE,
    NO_ID,
    AnnotationTable,
    Faults,
    TableBuilder,
    image_ids_of,
    packed_ids,
)
from densedet.plugins.sources._label_files import plain_float, plain_int, read_small

CATEGORIES = "categories.json"
"""Beside a folder that was written: [{"id", "name"}] in label order."""

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels."""


class LabelledBox(NamedTuple):
    """An object of a file."""

    name: str  # of its class
    box: Box
    ignore: bool
    crowd: bool = False
    id: int = NO_ID
    area: float = math.nan  # NaN where the file has none
    category_id: int | None = None
    score: float | None = None  # of a detection that is written as a proposal


def boxes_of(table: AnnotationTable, index: int) -> list[LabelledBox]:
    """Return the objects of an image of a table, to be written."""
    part = slice(int(table.offsets[index]), int(table.offsets[index + 1]))
    columns = [
        column[part].tolist() for column in (table.labels, table.xywh, table.flags, table.ids, table.areas)
    ]
    scores = [None] * len(columns[0]) if table.scores is None else table.scores[part].tolist()
    return [
        LabelledBox(
            table.classes[label],
            tuple(box),
            bool(flag & IGNORE),
            bool(flag & CROWD),
            own,
            area,
            table.category_ids[label],
            score,
        )
        for label, box, flag, own, area, score in zip(*columns, scores)
    ]


def exact_text(box: LabelledBox) -> dict[str, Any]:
    """Return what no format of a labelling tool holds, for `exact_box` to read."""
    return {
        "id": box.id,
        "category_id": box.category_id,
        "bbox": box.box,
        "area": box.area,
        "iscrowd": int(box.crowd),
        "ignore": int(box.ignore),
    }


def exact_box(name: str, corners: Sequence[float], ignore: bool, crowd: bool, ours: Any) -> LabelledBox:
    """Return an object with what `exact_text` has kept of it, as long as its box is as it was written.

    Args:
        name: its class.
        corners: xmin, ymin, xmax, ymax as the file has them.
        ignore: whether the file's own flags say that it is ignored.
        crowd: the same for a crowd.
        ours: a value of `exact_text`, or anything else.
    """
    xmin, ymin, xmax, ymax = corners
    box, area = (xmin, ymin, xmax - xmin, ymax - ymin), math.nan
    if not isinstance(ours, dict):
        return LabelledBox(name, box, ignore, crowd)
    kept = ours.get("bbox")
    numbers = [plain_float(value) for value in kept] if isinstance(kept, list) and len(kept) == 4 else [None]
    if None not in numbers:
        x, y, w, h = (float(value or 0) for value in numbers)
        if [x, y, x + w, y + h] == list(corners):
            box, area = (x, y, w, h), plain_float(ours.get("area")) or 0.0
    own: Any = ours.get("id")
    category: Any = ours.get("category_id")
    return LabelledBox(
        name,
        box,
        ignore or ours.get("ignore") == 1,
        crowd or ours.get("iscrowd") == 1,
        own if plain_int(own) else NO_ID,
        area,
        category if plain_int(category) else None,
    )


def category_rows(table: AnnotationTable) -> list[dict[str, Any]]:
    """Return the content of `CATEGORIES`."""
    return [{"id": i, "name": n} for i, n in zip(table.category_ids, table.classes)]


def known_classes(folder: Path, given: Sequence[str] | None) -> dict[int, str] | None:
    """Return {category id: name} in label order, or None where nothing fixes the classes.

    Args:
        folder: where `CATEGORIES` may lie.
        given: names that the user has listed.

    Raises:
        DataError: `CATEGORIES` is wrong.
    """
    if given is not None:
        return dict(enumerate(given, start=1))
    file = folder / CATEGORIES
    try:
        rows = json.loads(read_small(file))
        if not rows or not all(plain_int(row["id"]) and isinstance(row["name"], str) for row in rows):
            raise ValueError
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{file} is not a list of {{'id', 'name'}}: correct it, or delete it to take the classes from "
            f"the annotations"
        ) from error
    if len({row["id"] for row in rows}) < len(rows):
        raise DataError(f"{file} has an id twice: number its classes anew")
    return {row["id"]: row["name"] for row in rows}


def check_same_classes(path: Path, rows: list[dict[str, Any]]) -> None:
    """Raise DataError where a split with these classes cannot join the folder ``path``."""
    try:
        known = json.loads(read_small(path / CATEGORIES))
    except FileNotFoundError as error:
        raise DataError(
            f"{path} has no {CATEGORIES} to compare the classes with: write another folder"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path / CATEGORIES} is no JSON: write another folder") from error
    if known != rows:
        raise DataError(
            f"{path} has other classes than the new split ({_listed(known)}; {_listed(rows)}): "
            "give both the same categories and ids, or write another folder"
        )


def _listed(rows: Any) -> str:
    listed = [
        f"{r.get('id')} {r.get('name')}" if isinstance(r, dict) else str(r)[:20]
        for r in (rows if isinstance(rows, list) else [rows])
    ]
    return ", ".join(listed[:10]) + (", ..." if len(listed) > 10 else "")


class LabelReading:
    """Read images with objects one by one, then make the table.

    Args:
        what: the annotations, for sentences.
        known: {category id: name} in label order, or None to take the classes that occur.
        faults: collects what is wrong.
        written: how the format gives a name back that was written into it.

    Attributes:
        digest: covers everything that the table depends on, at the end.
    """

    def __init__(
        self,
        what: str,
        known: dict[int, str] | None,
        faults: Faults,
        written: Callable[[str], str] = str,
    ) -> None:
        self.what, self.known, self.faults, self._written = what, known, faults, written
        self.digest = hashlib.blake2b(repr(known).encode("utf-8", "surrogatepass"), digest_size=16)
        self.builder = TableBuilder(f"annotations {what}", faults)
        # Labels are given as classes turn up and put in order at the end.
        self.labels = (
            {} if known is None else {written(name): label for label, name in enumerate(known.values())}
        )
        self._label_of = {category_id: label for label, category_id in enumerate(known or ())}
        self.stems: list[str] = []
        self._declared: list[int | str | None] = []

    def add_objects(
        self,
        origin: str,
        stem: str,
        image: str,
        size: tuple[int, int],
        declared: int | str | None,
        objects: Iterable[LabelledBox],
    ) -> bool:
        """Add an image.

        Args:
            origin: the file that it comes from.
            stem: its name without the suffix, whose number may be its id.
            image: its file name.
            size: (width, height).
            declared: the id that the file gives it, or None.
            objects: its objects.

        Returns:
            Whether it can be used.
        """
        self.builder.origin = origin
        number = len(self.stems) + 1
        if not self.builder.add_image(number, image, *size):
            return False
        self.stems.append(stem)
        self._declared.append(declared)
        for o in objects:
            label = self.label(o)
            if label is None:
                known = ", ".join(list(self.labels)[:20])
                self.faults.entry(
                    "category",
                    f"{origin}: there is no class {o.name[:40]!r} among {known}: correct it or 'classes'",
                )
                continue
            self.builder.add_box(number, label, o.box, area=o.area, crowd=o.crowd, ignore=o.ignore, id=o.id)
        return True

    def label(self, o: LabelledBox) -> int | None:
        """Return the label of an object, None where its class is not known."""
        if self.known is None:
            return self.labels.setdefault(o.name, len(self.labels))
        if o.category_id is not None and self._written(self.known.get(o.category_id, "\0")) == o.name:
            return self._label_of[o.category_id]
        return self.labels.get(o.name)

    def finish(self) -> AnnotationTable:
        """Make the table, with labels in the order of ``known`` or of the names. Raises DataError."""
        names = list(self.labels) if self.known is None else list(self.known.values())
        if not names:
            raise DataError(
                f"the annotations in {self.what} have no objects: name the classes in the source's 'classes'"
            )
        order = (
            sorted(range(len(names)), key=lambda label: names[label])
            if self.known is None
            else list(range(len(names)))
        )
        for label, name in enumerate(names):
            self.builder.add_class(label, name)
        self.digest.update(repr([names[label] for label in order]).encode("utf-8", "surrogatepass"))
        declared = [i for i in self._declared if i is not None]
        trusted = len(declared) == len(self.stems) == len({(type(i), i) for i in declared})
        table = self.builder.finish()
        table.image_ids = packed_ids(declared if trusted else image_ids_of(self.stems))
        table.classes = tuple(names[label] for label in order)
        table.category_ids = tuple(range(1, len(names) + 1)) if self.known is None else tuple(self.known)
        table.labels = np.argsort(order).astype(table.labels.dtype)[table.labels]
        return table
