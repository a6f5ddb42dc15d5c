"""LabelMe: a JSON file for each image, beside it."""

from __future__ import annotations

import json
import os
import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from densedet.core.errors import DataError
from densedet.core.sources import (
    AnnotationTable,
    Faults,
    FileNames,
    Progress,
    TableSource,
    added_by_macos,
    addition,
    existing,
    image_size,
    is_free,
    name_fault,
    new_folder,
)
from densedet.plugins.sources._label_files import NewFiles, read_small
from densedet.plugins.sources._labelled import (
    CATEGORIES,
    LabelReading,
    boxes_of,
    category_rows,
    check_same_classes,
    known_classes,
)
from densedet.plugins.sources._labelme_json import (
    MAX_EMBEDDED,
    LabelMeFile,
    embedded_image,
    labelme_text,
    read_labelme,
)

LOOKED_AT = 8
"""JSON files of a folder that are looked at to recognise it: a few of them may be broken."""

HEAD = 1 << 16
"""Bytes of a file that are looked at."""


class LabelMeSource(TableSource):
    """Read what LabelMe writes: NAME.json beside NAME.jpg, sub-folders included.

    Each shape is an object: a rectangle, and of a polygon, circle, line or several points the upright box
    around it. A single point has no box and is left out. Objects with the flag ``difficult`` or ``ignore``
    are ignored, those with ``crowd`` are crowds. The image is that of ``imagePath``, from the folder of the
    JSON file, or else one of its name in ``images``, or the pixels in ``imageData``. An image without a
    JSON file is not part of the data: nobody has looked at it yet. Image ids are the numbers in the names,
    where all names are numbers, else 1..I.

    Args:
        annotations: the folder of JSON files; a relative path starts at ``root``.
        images: the folder below which all images lie; a relative path starts at ``root``. null:
            ``annotations``.
        classes: names in label order. null: those of categories.json in ``annotations`` or beside it (written
            by `densedet convert`), or else all that occur, sorted, with ids from 1.
        root: (wired) data.root, where relative paths start.

    Raises:
        DataError: a folder is missing, a file is none of LabelMe's, or a shape has no label or no points
            (which converting only reports).
    """

    layout: ClassVar[str] = "a folder of LabelMe's JSON files"
    suffixes: ClassVar[tuple[str, ...] | None] = ()
    image_folder: ClassVar[str | None] = "{split}"

    def __init__(
        self,
        *,
        annotations: str = ".",
        images: str | None = None,
        classes: list[str] | None = None,
        root: str = ".",
    ) -> None:
        self.annotations = existing(root, annotations, "annotations", folder=True)
        folder = self.annotations if images is None else existing(root, images, "images", folder=True)
        super().__init__(folder)
        self.given_classes = classes
        self.files = (self.annotations,)
        self._embedded: dict[str, str] = {}

    def _read(self) -> AnnotationTable:
        listing = FileNames(self.annotations)
        images = listing if self.images_folder == self.annotations else FileNames(self.images_folder)
        names = sorted(
            name for name in listing.names if name.lower().endswith(".json") and name != CATEGORIES
        )
        known = known_classes(self.annotations, self.given_classes)
        if known is None:
            known = known_classes(self.annotations.parent, None)
        reading = LabelReading(str(self.annotations), known, self.faults)
        found: list[tuple[str, LabelMeFile]] = []
        for number, name in enumerate(names):
            path = self.annotations / name
            try:
                content = read_small(path, MAX_EMBEDDED)
                reading.digest.update(f"{name}\0{len(content)}\0".encode("utf-8", "surrogatepass") + content)
                found.append((name, read_labelme(content, path, self.faults)))
            except FileNotFoundError:
                self.faults.entry("image", f"annotation file {path} does not exist")
            except DataError as error:
                self.faults.entry("image", str(error))
            if self.on_progress is not None:
                self.on_progress(number + 1, len(names))
        if not names:
            raise DataError(f"there are no JSON files in {self.annotations}: correct 'annotations'")
        positions = {file.position for _, file in found}
        if len(positions) == len(found) and -1 not in positions:  # as it was written
            found.sort(key=lambda one: one[1].position)
        for name, file in found:
            self._add(reading, name, file, images)
        self._found_digest = f"{reading.digest.hexdigest()} {self.given_classes}"
        return reading.finish()

    def _add(self, reading: LabelReading, name: str, file: LabelMeFile, images: FileNames) -> None:
        path = self.annotations / name
        image, size = self._image_of(name, file, images), (file.width, file.height)
        if not all(size) and name_fault(image) is None:
            try:
                size = image_size(self.images_folder / image)
            except DataError as error:
                self.faults.entry("image", f"{path} does not give its image's size, and {error}")
                return
        stem = os.path.splitext(name)[0]
        added = reading.add_objects(str(path), stem, image, size, file.image_id, file.objects)
        if added and file.embedded and image not in images.names:
            self._embedded[image] = str(path)

    def _image_of(self, name: str, file: LabelMeFile, images: FileNames) -> str:
        """Return the name of a file's image below the folder of images."""
        stem = os.path.splitext(name)[0]
        here = os.path.relpath(self.annotations, self.images_folder).replace(os.sep, "/")
        named = posixpath.normpath(posixpath.join(here, posixpath.dirname(name), file.image))
        last = posixpath.basename(file.image)
        near = posixpath.normpath(posixpath.join(posixpath.dirname(name), last))
        places = (file.name, named, near, last)
        exists = next((n for n in places if file.image and n in images.names), None) or file.name
        inside = named if file.image and name_fault(named) is None else last
        return exists or images.image_of(stem) or inside or f"{stem}.jpg"

    def image(self, index: int) -> Any:
        """Return the path of image ``index``, or its encoded bytes where only its JSON file holds them."""
        held = self._embedded.get(self.table.name(index))
        return super().image(index) if held is None else embedded_image(Path(held))

    @classmethod
    def recognise(cls, path: Path, split: str | None = None) -> dict[str, Any] | None:
        """Recognise a folder with LabelMe's JSON files in it, or in folders in it."""
        if not path.is_dir():
            return None
        base = path / split if split is not None and (path / split).is_dir() else path
        divided = any((path / part).is_dir() for part in ("train", "val", "valid", "test"))
        if split is not None and base is path and divided:
            return None
        files = _labelme_files(base)
        if not files:
            below = sorted(folder for folder in base.iterdir() if folder.is_dir())
            held = {folder: found for folder in below if (found := _labelme_files(folder))}
            files = [file for found in held.values() for file in found]
            base = next(iter(held)) if len(held) == 1 else base
        if not files:
            return None
        outside = {folder for file in files if (folder := _images_elsewhere(file, base)) is not None}
        images = os.path.commonpath([base.resolve(), *outside]) if outside else None
        return {"annotations": str(base), "images": images}

    @classmethod
    def _write(
        cls, table: AnnotationTable, path: Path, split: str, faults: Faults, on_progress: Progress
    ) -> None:
        """Write SPLIT/NAME.json for each image, where the image is to lie beside it; or add a split."""
        if name_fault(split) is not None or "/" in split or "\\" in split:
            raise DataError(f"a split cannot be called {split!r}: give it the name of a file, such as train")
        rows = category_rows(table)
        new = is_free(path)
        if not new:
            check_same_classes(path, rows)
        with new_folder(path) if new else addition(path, last=CATEGORIES) as folder:
            files = NewFiles(folder / split)
            (folder / split).mkdir()
            for index in range(len(table)):
                name = table.name(index)
                stem = os.path.splitext(name)[0]
                usable = [str(PurePosixPath(n)) for n in (stem, name) if n == n.strip() and n.isprintable()]
                size = table.sizes[index].tolist()
                text = labelme_text(
                    posixpath.basename(name), name, size, table.image_id(index), index, boxes_of(table, index)
                )
                written = files.write(usable, ".json", text)
                if posixpath.dirname(written) != posixpath.dirname(name) or written not in (stem, name):
                    faults.note(
                        "name",
                        f"{path}: the shapes of image {name!r} are in {written}.json: LabelMe looks for a "
                        f"file of the image's name",
                    )
                on_progress(index + 1, len(table))
            (folder / CATEGORIES).write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _labelme_files(folder: Path) -> list[Path]:
    """Return those of the first JSON files of a folder that are LabelMe's."""
    names = sorted(n for n in os.listdir(folder) if n.lower().endswith(".json") and not added_by_macos(n))
    found = []
    for name in names[:LOOKED_AT]:
        if not os.path.isfile(folder / name):  # a pipe would be waited for without end
            continue
        try:
            with open(folder / name, "rb") as file:
                head = file.read(HEAD)
        except OSError:
            continue
        if re.search(rb'"shapes"\s*:\s*\[', head) and not re.search(rb'"annotations"\s*:', head):
            found.append(folder / name)
    return found


def _images_elsewhere(file: Path, base: Path) -> str | None:
    """Return the folder of a file's image where it lies outside of a folder."""
    try:
        image = read_labelme(read_small(file, MAX_EMBEDDED), file, Faults(strict=False)).image
    except (DataError, FileNotFoundError):
        return None
    place = os.path.abspath(file.parent / image)
    outside = os.path.relpath(place, base.resolve()).startswith("..")
    return os.path.dirname(place) if image and outside and os.path.isfile(place) else None
