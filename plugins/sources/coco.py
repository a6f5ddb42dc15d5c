"""COCO JSON and a folder of images."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any, ClassVar

from densedet.core.errors import DataError
from densedet.core.sources import AnnotationTable, Faults, Progress, TableBuilder, TableSource, existing
from densedet.plugins.sources._coco_json import read_coco, write_coco

HEAD = 1 << 16
"""Bytes of a file that are looked at to recognise it."""


class CocoSource(TableSource):
    """Read COCO JSON files (the "object detection" form of COCO's data format) and a folder of images.

    Labels are 0..C-1 in the ascending order of the file's category ids, whatever their gaps (``category_ids``
    leads back). Crowd boxes (iscrowd 1) and boxes with ``ignore`` 1 are ignored. A missing area is width *
    height. Each box is checked once: it is dropped if it is not finite, has no width or height above 0, or
    lies outside the image, and clipped if it lies partly outside (`invalid` lists both). Boxes are in pixels
    of the image as it is displayed, after its EXIF orientation; where width and height in the JSON fit only
    the stored image, in pixels of that one. Segmentations and keypoints are not read.

    The constructor only checks that the files exist. They are read at the first use, which takes about 10
    seconds for COCO's train2017; `densedet convert` to a .db file makes that milliseconds. `fingerprint`
    covers the annotation files, not the images' pixels.

    Args:
        annotations: a JSON file, or a list of files that are joined (train and val, say): their categories
            must be equal and no image id may occur twice. A relative path starts at ``root``.
        images: the folder that the file names are relative to; a relative path starts at ``root``.
        root: (wired) data.root, where relative paths start.

    Raises:
        DataError: a file or the folder is missing, a file is not JSON or not in COCO's form, or a file name
            leaves the folder.
    """

    layout: ClassVar[str] = (
        "a .json file with images, annotations and categories, or a folder with annotations.json, "
        "_annotations.coco.json, annotations_SPLIT.json or annotations/instances_SPLIT*.json"
    )
    suffixes: ClassVar[tuple[str, ...] | None] = (".json",)

    def __init__(self, *, annotations: str | list[str], images: str, root: str = ".") -> None:
        names = [annotations] if isinstance(annotations, str) else annotations
        if not names:
            raise DataError("source coco: annotations is an empty list: name at least one COCO JSON file")
        self.files = tuple(existing(root, name, "annotations") for name in names)
        super().__init__(existing(root, images, "images", folder=True))
        self.renamed: dict[int, str] = {}  # category id: the name that stands in for the file's own

    def _read(self) -> AnnotationTable:
        builder, first = TableBuilder(str(self.files[0]), self.faults), None
        digests = []
        for file in self.files:
            categories, digest = read_coco(
                file, builder, known_categories=first, renamed=self.renamed, on_progress=self.on_progress
            )
            digests.append(digest)
            if first is None:
                first = categories
            elif categories != first:
                odd = sorted(set(first.items()) ^ set(categories.items()))[0]
                raise DataError(
                    f"{file} and {self.files[0]} cannot be joined: category {odd[0]} ({odd[1]!r}) is "
                    f"in only one of them; "
                    "give both files the same categories"
                )
        self._found_digest = hashlib.blake2b("\0".join(digests).encode(), digest_size=16).hexdigest()
        return builder.finish()

    @classmethod
    def recognise(cls, path: Path, split: str | None = None) -> dict[str, Any] | None:
        """Recognise a JSON file that begins like COCO's, or a folder that holds one in a usual place.

        The places are those of COCO itself, of this project and of Roboflow.
        """
        if os.path.isdir(path):
            return cls._in_folder(path, split)
        if path.suffix.lower() != ".json" or not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            head = file.read(HEAD).lstrip(b"\xef\xbb\xbf \t\r\n")
        if not head.startswith(b"{") or not re.search(
            rb'"(images|annotations|categories|info|licenses)"\s*:', head
        ):
            return None
        return {"annotations": str(path), "images": str(_images_of(path))}

    @classmethod
    def _in_folder(cls, path: Path, split: str | None) -> dict[str, Any] | None:
        roboflow = [
            path / "_annotations.coco.json",
            *([path / split / "_annotations.coco.json"] if split else []),
        ]
        named = (
            [
                path / f"annotations_{split}.json",
                *sorted((path / "annotations").glob(f"instances_{split}*.json")),
            ]
            if split
            else []
        )
        plain = [] if split else [path / "annotations.json"]
        for file in (*roboflow, *named, *plain):
            if os.path.isfile(file):
                return {"annotations": str(file), "images": str(_images_of(file))}
        return None

    @classmethod
    def _write(
        cls, table: AnnotationTable, path: Path, split: str, faults: Faults, on_progress: Progress
    ) -> None:
        """Write one JSON file. Nothing of a table is lost."""
        write_coco(table, path, faults)


def _images_of(file: Path) -> Path:
    """Guess where a file's images are: train2017/ for instances_train2017.json, images/, beside it."""
    if file.name == "_annotations.coco.json":
        return file.parent
    split = file.stem.partition("_")[2]
    for base in (file.parent, file.parent.parent):
        for name in (split, f"images/{split}", "images"):
            if (split and os.path.isdir(base / name)) or (name == "images" and os.path.isdir(base / name)):
                return base / name
    return file.parent
