"""Reading Pascal VOC's XML files into a table."""

from __future__ import annotations

import os
from pathlib import Path

from densedet.core.errors import DataError
from densedet.core.sources import (
    AnnotationTable,
    Faults,
    FileNames,
    image_size,
    name_fault,
)
from densedet.core.text import counted
from densedet.plugins.sources._label_files import read_small
from densedet.plugins.sources._labelled import LabelReading
from densedet.plugins.sources._voc_xml import Corners, VocFile, read_voc, xml_text


class VocReading(LabelReading):
    """Read files one by one, then make the table.

    Args:
        annotations: the folder of XML files.
        images_folder: the folder of images.
        corners: how the boxes count pixels.
        known: {category id: name} in label order, or None to take the classes that occur.
        faults: collects what is wrong.
    """

    def __init__(
        self,
        annotations: Path,
        images_folder: Path,
        corners: Corners,
        known: dict[int, str] | None,
        faults: Faults,
    ) -> None:
        super().__init__(str(annotations), known, faults, xml_text)
        self.annotations, self.corners = annotations, corners
        self.images = FileNames(images_folder)
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
        self.add_objects(str(path), stem, image, (width, height), file.image_id, file.objects)

    def look_for_classes(self, name: str) -> None:
        """Read only the classes of a file of another split, whose own faults do not matter here."""
        try:
            content, path = self._content(name)
            objects = read_voc(content, path, self.corners, Faults(strict=False)).objects
        except DataError:
            return
        for o in objects:
            self.label(o)

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
        """Make the table. Raises DataError."""
        if self.from_zero and self.corners == "one_based" and self.labels:
            self.faults.note(
                "corners",
                f"{self.annotations}: boxes of {counted(self.from_zero, 'file')} start at 0, but VOC's "
                f"pixels count from 1: if a tool wrote "
                "them that counts from 0, set the source's 'corners' to zero_based",
            )
        return super().finish()
