"""Reading YOLO's labels into a table."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict, deque
from pathlib import Path

from densedet.core.errors import DataError
from densedet.core.sources import (
    CROWD,
    IGNORE,
    AnnotationTable,
    Faults,
    Progress,
    TableBuilder,
    image_ids_of,
    image_size,
    packed_ids,
)
from densedet.core.text import counted
from densedet.plugins.sources._yolo_data import YoloData, yaml_name
from densedet.plugins.sources._yolo_exact import ExactBox, ExactFile, ExactImage
from densedet.plugins.sources._yolo_labels import Label, label_file, label_text, read_labels


class YoloReading:
    """Read images one by one, then make the table; ``digest`` covers all that it depends on."""

    def __init__(
        self, data: YoloData, images_folder: Path, faults: Faults, on_progress: Progress | None
    ) -> None:
        self.data, self.images_folder = data, images_folder
        self.faults, self.on_progress = faults, on_progress
        self.builder = TableBuilder(f"data file {data.file}", faults)
        self.digest = hashlib.blake2b(repr(data).encode("utf-8", "surrogatepass"), digest_size=16)
        self.names = list(data.names)
        self.category_ids = list(range(len(self.names)))
        self.ids: list[int | str] = []
        self.stems: list[str] = []
        self.known: set[str] = set()
        self.found = self.done = 0
        self.written = False
        self.missing = self.polygons = ""

    def add_exact(self, file: ExactFile, listed: frozenset[str]) -> None:
        """Add the images that `YOLOSource.write` noted.

        An image is left out if neither its file (``listed``) nor its labels are there any more.
        """
        categories = file.categories()
        if len(categories) > len(self.names):
            self.faults.note(
                "classes",
                f"{file.path} is not used: it has {counted(len(categories), 'class')}, data.yaml has "
                f"{len(self.names)}",
            )
            return
        for label, (category_id, name) in enumerate(categories):
            self.category_ids[label] = category_id
            self.names[label] = name if yaml_name(name) == self.names[label] else self.names[label]
        self.written = True
        top = max(self.category_ids[: len(categories)], default=-1)
        self.category_ids[len(categories) :] = range(top + 1, top + 1 + len(self.names) - len(categories))
        for image in file.images():
            self._tell(len(listed))
            self.known.add(image.name)
            try:
                labels = self._labels(self.data.file.parent / image.labels)
            except DataError as error:
                self.faults.entry("image", str(error))
                continue
            if labels is None and image.name not in listed:
                self.faults.note(
                    "deleted",
                    f"{file.path}: there is no image {image.name} and no {image.labels} any more; left out",
                )
                continue
            number = self._add_image(image.name, image.width, image.height, image.id)
            if number is not None:
                self._add_boxes(number, image, labels or [])
        self.digest.update(file.digest.digest())

    def _add_boxes(self, number: int, image: ExactImage, labels: list[Label]) -> None:
        """Add boxes: exact ones for labels that stand as they were written, and labels that were changed."""
        written = [
            (b, label_text(b.label, b.box, image.width, image.height)) for b in image.boxes if not b.flags
        ]
        if [text for _, text in written] == [label.text for label in labels]:
            for box in image.boxes:
                self._add_exact_box(number, box)
            return
        waiting: dict[str, deque[ExactBox]] = defaultdict(deque)
        for box, text in written:
            waiting[text].append(box)
        for label in labels:
            if waiting[label.text]:
                self._add_exact_box(number, waiting[label.text].popleft())
            else:
                self.builder.add_box(number, label.label, label.pixels(image.width, image.height))
        for box in image.boxes:
            if box.flags:
                self._add_exact_box(number, box)

    def _add_exact_box(self, number: int, b: ExactBox) -> None:
        crowd, ignore = bool(b.flags & CROWD), bool(b.flags & IGNORE)
        self.builder.add_box(number, b.label, b.box, area=b.area, crowd=crowd, ignore=ignore, id=b.id)

    def add_listed(self, names: list[str]) -> None:
        """Add images by their file names, except those that are known already."""
        start = len(self.ids)
        for name in names:
            if name in self.known:
                continue
            self._tell(len(names))
            path = os.path.join(self.images_folder, name)
            try:
                width, height = image_size(Path(path))
            except DataError as error:
                self.faults.entry("image", str(error))
                continue
            try:
                labels = self._labels(Path(label_file(path)))
            except DataError as error:
                self.faults.entry("image", str(error))
                continue
            number = self._add_image(name, width, height)
            if number is not None:
                for label in labels or ():
                    self.builder.add_box(number, label.label, label.pixels(width, height))
        if start == 0:
            self.ids = list(image_ids_of(self.stems))
        else:
            top = max((i for i in self.ids[:start] if isinstance(i, int)), default=0)
            self.ids[start:] = range(top + 1, top + 1 + len(self.ids) - start)

    def _add_image(self, name: str, width: int, height: int, image_id: int | str = 0) -> int | None:
        """Add an image; return its number in the builder, None if it cannot be used."""
        self.digest.update(f"{name}\0{width} {height}\0".encode("utf-8", "surrogatepass"))
        number = len(self.ids) + 1
        if not self.builder.add_image(number, name, width, height):
            return None
        self.ids.append(image_id)
        self.stems.append(os.path.splitext(name.rpartition("/")[2])[0])
        return number

    def _labels(self, path: Path) -> list[Label] | None:
        read = read_labels(path, len(self.names), self.data.keypoints, self.faults)
        if read is None:
            self.digest.update(b"-")
            self.missing = self.missing or str(path)
            return None
        labels, content = read
        self.digest.update(b"%d\0" % len(content) + content)
        self.builder.origin = str(path)
        self.found += 1
        if not self.polygons and any(label.polygon for label in labels):
            self.polygons = str(path)
        return labels

    def _tell(self, total: int) -> None:
        self.done += 1
        if self.on_progress is not None:
            self.on_progress(self.done, max(self.done, total))

    def finish(self, split: str) -> AnnotationTable:
        """Make the table. Raises DataError where there are no images or none has labels."""
        place = f"data file {self.data.file}: {split!r}"
        if not self.ids and not self.written:
            why = "".join(f" ({sentence})" for sentence in self.faults.sentences[:1])
            raise DataError(
                f"{place} leads to {self.images_folder}, where no image can be used{why}: correct it or "
                f"'path'"
            )
        if self.ids and not self.found:
            raise DataError(
                f"{place} has {counted(len(self.ids), 'image')}, but none has a file of labels: there is no "
                f"{self.missing}, for one"
            )
        if self.polygons:
            self.faults.note(
                "polygon", f"{place} has polygons (in {self.polygons}, for one): the box around each is used"
            )
        for label, name in enumerate(self.names):
            self.builder.add_class(label, name)
        table = self.builder.finish()
        table.image_ids = packed_ids(self.ids)
        table.category_ids = tuple(self.category_ids)
        return table
