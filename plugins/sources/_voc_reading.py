"""Reading Pascal VOC's XML files into a table."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from densedet.core.errors import DataError
from densedet.core.sources import (
    AnnotationTable,
    Faults,
    FileNames,
    TableBuilder,
    image_ids_of,
    image_size,
    name_fault,
    packed_ids,
)
from densedet.core.text import counted
from densedet.plugins.sources._label_files import read_small
from densedet.plugins.sources._voc_xml import Corners, VocFile, VocObject, read_voc, xml_text


class VocReading:
    """Read files one by one, then make the table.

    ``known`` is {category id: name} in label order, or None to take the classes that occur. At the end,
    ``digest`` covers everything that the table depends on.
    """

    def __init__(
        self,
        annotations: Path,
        images_folder: Path,
        corners: Corners,
        known: dict[int, str] | None,
        faults: Faults,
    ) -> None:
        self.annotations, self.corners, self.faults = annotations, corners, faults
        self.digest = hashlib.blake2b(repr(known).encode("utf-8", "surrogatepass"), digest_size=16)
        self.builder = TableBuilder(f"annotations {annotations}", faults)
        self.images = FileNames(images_folder)
        self.known = known
        # Labels are given as classes turn up and put in order at the end.
        self.labels = (
            {} if known is None else {xml_text(name): label for label, name in enumerate(known.values())}
        )
        self.label_of = {category_id: label for label, category_id in enumerate(known or ())}
        self.stems: list[str] = []
        self.declared: list[int | str | None] = []
        self.from_zero = 0

    def _content(self, name: str) -> tuple[bytes, Path]:
        path = self.annotations / name
        try:
            return read_small(path), path
        except FileNotFoundError as error:
            raise DataError(f"annotation file {path} does not exist") from error

    def add(self, stem: str, name: str) -> None:
        """Add the file ``name`` below the folder of annotations; one that is no VOC file is left out."""
        try:
            content, path = self._content(name)
            self.digest.update(f"{name}\0{len(content)}\0".encode("utf-8", "surrogatepass") + content)
            file = read_voc(content, path, self.corners, self.faults)
        except DataError as error:
            self.faults.entry("image", str(error))
            return
        self.from_zero += file.from_zero
        for sentence in file.points:
            self.faults.note("point", sentence)
        image, width, height = self._image_of(stem, file), file.width, file.height
        if not (width and height) and name_fault(image) is None:
            try:
                width, height = image_size(self.images.folder / image)
            except DataError as error:
                self.faults.entry("image", f"{path} does not give its image's size, and {error}")
                return
        self.builder.origin = str(path)
        number = len(self.stems) + 1
        if not self.builder.add_image(number, image, width, height):
            return
        self.stems.append(stem)
        self.declared.append(file.image_id)
        for o in file.objects:
            label = self._label(o)
            if label is None:
                known = ", ".join(list(self.labels)[:20])
                self.faults.entry(
                    "category",
                    f"{path}: there is no class {o.name[:40]!r} among {known}: correct it or 'classes'",
                )
                continue
            self.builder.add_box(number, label, o.box, area=o.area, crowd=o.crowd, ignore=o.ignore, id=o.id)

    def look_for_classes(self, name: str) -> None:
        """Read only the classes of a file of another split, whose own faults do not matter here."""
        try:
            content, path = self._content(name)
            objects = read_voc(content, path, self.corners, Faults(strict=False)).objects
        except DataError:
            return
        for o in objects:
            self._label(o)

    def _label(self, o: VocObject) -> int | None:
        if self.known is None:
            return self.labels.setdefault(o.name, len(self.labels))
        if o.category_id is not None and xml_text(self.known.get(o.category_id, "\0")) == o.name:
            return self.label_of[o.category_id]
        return self.labels.get(o.name)

    def _image_of(self, stem: str, file: VocFile) -> str:
        if file.exact_name is not None:
            return file.exact_name
        folder, name = os.path.dirname(stem), os.path.basename(file.filename)
        named = next(
            (n for n in (os.path.join(folder, name), file.filename, name) if n in self.images.names), None
        )
        if named is not None and os.path.splitext(named)[0] == stem:
            return named
        return self.images.image_of(stem) or named or file.filename or stem

    def finish(self) -> AnnotationTable:
        """Make the table, with labels in the order of ``known`` or of the names. Raises DataError."""
        names = list(self.labels) if self.known is None else list(self.known.values())
        if not names:
            raise DataError(
                f"the files in {self.annotations} have no objects: name the classes in the source's 'classes'"
            )
        order = (
            sorted(range(len(names)), key=lambda label: names[label])
            if self.known is None
            else list(range(len(names)))
        )
        for label, name in enumerate(names):
            self.builder.add_class(label, name)
        if self.from_zero and self.corners == "one_based":
            self.faults.note(
                "corners",
                f"{self.annotations}: boxes of {counted(self.from_zero, 'file')} start at 0, but VOC's "
                f"pixels count from 1: if a tool wrote "
                "them that counts from 0, set the source's 'corners' to zero_based",
            )
        self.digest.update(repr([names[label] for label in order]).encode("utf-8", "surrogatepass"))
        declared = [i for i in self.declared if i is not None]
        trusted = len(declared) == len(self.stems) == len({(type(i), i) for i in declared})
        table = self.builder.finish()
        table.image_ids = packed_ids(declared if trusted else image_ids_of(self.stems))
        table.classes = tuple(names[label] for label in order)
        table.category_ids = tuple(range(1, len(names) + 1)) if self.known is None else tuple(self.known)
        table.labels = np.argsort(order).astype(table.labels.dtype)[table.labels]
        return table
