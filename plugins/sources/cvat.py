"""CVAT: one XML file for the images of a task, job or project."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any, ClassVar

from densedet.core.errors import DataError
from densedet.core.sources import (
    AnnotationTable,
    Faults,
    FileNames,
    Progress,
    TableSource,
    existing,
    image_size,
    name_fault,
)
from densedet.plugins.sources._cvat_xml import CvatFile, CvatImage, head_text, image_text, read_cvat
from densedet.plugins.sources._label_files import MAX_LIST, read_small
from densedet.plugins.sources._labelled import LabelReading, boxes_of
from densedet.plugins.sources._xml import xml_text

HEAD = 1 << 16
"""Bytes of a file that are looked at to recognise it."""

FILE = "annotations.xml"


class CVATSource(TableSource):
    """Read what CVAT exports as "CVAT for images 1.1" or "CVAT for video 1.1".

    Each shape is an object: a box, and of a polygon, polyline, ellipse, mask, cuboid, skeleton, several
    points or a turned box the upright box around it. Tags of whole images are left out. Objects whose
    attribute ``ignore`` or ``difficult`` is true are ignored, those with ``crowd`` are crowds. Of a video,
    the frames are the image files in ``images`` whose names end in the frame's number, as CVAT exports them
    (frame_000012.png), else all in order; a track is an object in each frame that the file gives a box for,
    unless it is outside there. Image ids are the numbers in the names, where all names are numbers, else
    1..I.

    Args:
        annotations: the XML file; a relative path starts at ``root``.
        images: the folder of images; a relative path starts at ``root``.
        split: the subset of a project that is read, in any letters; null: all.
        classes: names in label order. null: the labels of the task, in its order, with ids from 1; where it
            lists none, those that occur, sorted.
        root: (wired) data.root, where relative paths start.

    Raises:
        DataError: a file is missing or none of CVAT's, or a shape has no label or no box (which converting
            only reports).
    """

    layout: ClassVar[str] = f"{FILE}, or another .xml file of CVAT's"
    suffixes: ClassVar[tuple[str, ...] | None] = (".xml",)

    def __init__(
        self,
        *,
        annotations: str = FILE,
        images: str = "images",
        split: str | None = None,
        classes: list[str] | None = None,
        root: str = ".",
    ) -> None:
        self.annotations = existing(root, annotations, "annotations")
        super().__init__(existing(root, images, "images", folder=True))
        self.split, self.given_classes = split, classes
        self.files = (self.annotations,)

    def _read(self) -> AnnotationTable:
        try:
            content = read_small(self.annotations, MAX_LIST)
        except FileNotFoundError as error:
            raise DataError(f"annotation file {self.annotations} does not exist") from error
        file = read_cvat(content, self.annotations, self.faults)
        reading = LabelReading(str(self.annotations), self._classes(file), self.faults, xml_text)
        reading.digest.update(content)
        listing = FileNames(self.images_folder)
        images = [image for image in file.images if self.split in (None, image.subset)]
        if self.split is not None and not images:
            images = [image for image in file.images if image.subset.lower() == self.split.lower()]
        images += self._frames(file, listing)
        if not images:
            raise DataError(f"{self.annotations} has no images: correct 'annotations' or 'split'")
        for number, image in enumerate(images):
            self._add(reading, image, listing)
            if self.on_progress is not None:
                self.on_progress(number + 1, len(images))
        self._found_digest = f"{reading.digest.hexdigest()} {self.split} {self.given_classes}"
        return reading.finish()

    def _classes(self, file: CvatFile) -> dict[int, str] | None:
        if self.given_classes is not None:
            return dict(enumerate(self.given_classes, start=1))
        labels = list(dict.fromkeys(file.labels))  # each task of a project lists them
        ids = file.category_ids
        own = len(ids) == len(labels) == len(set(ids))
        return dict(zip(ids if own else range(1, len(labels) + 1), labels)) or None

    def _add(self, reading: LabelReading, image: CvatImage, listing: FileNames) -> None:
        ours = image.ours if isinstance(image.ours, dict) else {}
        name, image_id = ours.get("file_name"), ours.get("image_id")
        if not isinstance(name, str) or xml_text(name) != image.name.strip():
            name = image.name
            places = (name, f"{image.subset}/{name}", posixpath.basename(name))
            name = next((place for place in places if place in listing.names), name)
        size = image.width, image.height
        if not all(size) and name_fault(name) is None:
            try:
                size = image_size(self.images_folder / name)
            except DataError as error:
                told = f"{self.annotations} does not give the size of image {name[:80]!r}, and {error}"
                self.faults.entry("image", told)
                return
        declared = image_id if type(image_id) in (int, str) else None
        stem = os.path.splitext(name)[0]
        reading.add_objects(str(self.annotations), stem, name, size, declared, image.objects)

    def _frames(self, file: CvatFile, listing: FileNames) -> list[CvatImage]:
        """Return the frames of a video that lie as files, with the names of these."""
        if not file.frames:
            return []
        numbers = [re.search(r"(\d{1,12})$", os.path.splitext(name)[0]) for name in listing.images]
        named = {int(found[1]): name for found, name in zip(numbers, listing.images) if found}
        if len(named) < len(listing.images):
            named = dict(enumerate(listing.images))
        missing = sorted(set(file.frames) - set(named))
        if missing:
            self.faults.entry(
                "list",
                f"{self.annotations}: there is no image of frame {missing[0]} in {self.images_folder}: write "
                f"the video's frames there as frame_{missing[0]:06d}.png",
                count=len(missing),
            )
        empty = CvatImage("")
        frames = [(name, file.frames.get(number, empty)) for number, name in sorted(named.items())]
        return [CvatImage(name, found.width, found.height, "", found.objects) for name, found in frames]

    @classmethod
    def recognise(cls, path: Path, split: str | None = None) -> dict[str, Any] | None:
        """Recognise an XML file of CVAT's, or a folder with annotations.xml in it."""
        if path.is_dir():
            own = path / split / FILE if split is not None else path / FILE
            file = own if own.is_file() else path / FILE
        else:
            file = path
        if file.suffix.lower() != ".xml" or not file.is_file() or not _is_cvat(file):
            return None
        images = file.parent / "images" if (file.parent / "images").is_dir() else file.parent
        subset = None if split is None else _subset(file, split)
        return {"annotations": str(file), "images": str(images), "split": subset}

    @classmethod
    def _write(
        cls, table: AnnotationTable, path: Path, split: str, faults: Faults, on_progress: Progress
    ) -> None:
        """Write one XML file. Nothing of a table is lost: attributes "densedet" hold what the format does
        not."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(head_text(dict(zip(table.category_ids, table.classes)), table.scores is not None))
            for index in range(len(table)):
                size = table.sizes[index].tolist()
                objects = boxes_of(table, index)
                file.write(image_text(index, table.name(index), size, table.image_id(index), objects))
                on_progress(index + 1, len(table))
            file.write("</annotations>\n")


def _is_cvat(file: Path) -> bool:
    with open(file, "rb") as opened:
        head = opened.read(HEAD)
    return bool(re.search(rb"<annotations[\s>/]", head) and re.search(rb"<(meta|image|track)[\s>/]", head))


def _subset(file: Path, split: str) -> str | None:
    """Return the name of a project's subset; None where the file is not divided. Raises DataError."""
    content = read_small(file, MAX_LIST)
    found = dict.fromkeys(re.findall(rb'<image\b[^>]*\bsubset="([^"]*)"', content))
    subsets = [name.decode("utf-8", "replace") for name in found]
    if len(subsets) < 2:
        return None
    wanted = ("val", "valid", "validation") if split.lower() == "val" else (split.lower(),)
    for name in subsets:
        if name.lower() in wanted:
            return name
    raise DataError(f"{file} has no subset {split!r}: there are {', '.join(subsets[:20])}")
