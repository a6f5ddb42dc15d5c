"""Roboflow's exports, recognised by their layout and read by the source of their format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from densedet.core.annotation_table import AnnotationTable
from densedet.core.errors import DataError
from densedet.core.table_source import TableSource, existing_folder

COCO_FILE = "_annotations.coco.json"
FOLDERS = {"train": ("train",), "val": ("valid", "val"), "test": ("test",)}
"""The folders of each split."""


class Roboflow(TableSource):
    """A folder that Roboflow exported, with train/, valid/ and test/ in it.

    folder: the export. split: which part; "val" and "valid" are the same. Both relative to root, which is wired from data.root. Read are the exports

    - "COCO": SPLIT/_annotations.coco.json beside the images. A first category that only groups the others (its id is 0, the others name
      it as their supercategory, and no box is of it) is left out: it would be a class without objects;
    - "YOLO" (v5 and later): data.yaml, SPLIT/images and SPLIT/labels;
    - "Pascal VOC": an XML file beside each image, with corners counted from 0.

    Raises DataError: the folder or split is missing, or in none of these forms; and what the format's source raises.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, folder: str = ".", split: Literal["train", "val", "valid", "test"] = "train", root: str = ".") -> None:
        self.folder = existing_folder("source roboflow", "folder", Path(root).expanduser(), folder, "folder")
        self.inner = _source_of(self.folder, _split_of(split))
        super().__init__(self.inner.images_folder)
        self.files = self.inner.files

    def _read(self) -> AnnotationTable:
        self.inner.faults, self.inner.on_progress = self.faults, self.on_progress
        table = self.inner.table
        if self.files and self.files[0].name == COCO_FILE and _groups(self.files[0]) and not (table.labels == 0).any():
            table.classes, table.category_ids = table.classes[1:], table.category_ids[1:]
            table.labels = (table.labels - np.ones((), table.labels.dtype)).astype(table.labels.dtype)
        return table

    def _digest(self) -> str:
        len(self.table)  # some digests are made while reading
        return self.inner._digest()

    @classmethod
    def recognise(cls, path: Path, split: str | None = None) -> dict[str, Any] | None:
        """A folder with a split in one of Roboflow's forms, or the folder of that split."""
        if not path.is_dir() or split not in (None, *FOLDERS, "valid"):
            return None
        for name in [_split_of(split)] if split is not None else FOLDERS:
            if _form(path, name) is not None:
                return {"folder": str(path), "split": name}
        own = next((name for name, folders in FOLDERS.items() if path.name in folders), None)
        if own is not None and (split is None or _split_of(split) == own) and _form(path.parent, own) is not None:
            return {"folder": str(path.parent), "split": own}
        return None


def _split_of(split: str) -> str:
    return "val" if split == "valid" else split


def _form(folder: Path, split: str) -> tuple[str, Path] | None:
    """("coco", "yolo" or "voc", the split's folder), or None."""
    for name in FOLDERS[split]:
        place = folder / name
        if (place / COCO_FILE).is_file():
            return "coco", place
        if (folder / "data.yaml").is_file() and (place / "images").is_dir() and (place / "labels").is_dir():
            return "yolo", place
        if place.is_dir() and any(entry.name.lower().endswith(".xml") for entry in os.scandir(place)):
            return "voc", place
    return None


def _source_of(folder: Path, split: str) -> TableSource:
    form, place = _form(folder, split) or (None, folder)
    if form == "coco":
        from densedet.plugins.sources.coco import Coco

        return Coco(annotations=str(place / COCO_FILE), images=str(place))
    if form == "yolo":
        from densedet.plugins.sources.yolo import Yolo

        return Yolo(data=str(folder / "data.yaml"), split=split)  # type: ignore[arg-type]
    if form == "voc":
        from densedet.plugins.sources.voc import Voc

        return Voc(annotations=str(place), images=str(place), corners="zero_based")
    there = [name for name, names in FOLDERS.items() if any((folder / other).is_dir() for other in names)]
    raise DataError(
        f"source roboflow: {folder} has no split {split!r} in a form that can be read (COCO, YOLO with data.yaml, Pascal VOC): "
        + (f"it has {', '.join(there)}; " if there else "")
        + "correct 'folder' or 'split', or export anew in one of these forms"
    )


def _groups(file: Path) -> bool:
    """Whether category 0 is what all others name as their supercategory."""
    from densedet.plugins.sources.json_stream import ObjectStream

    rows: list[dict[str, Any]] = []
    with ObjectStream(file) as stream:
        for key in stream.members():
            if key == "categories":
                rows = [row for row in stream.entries() if isinstance(row, dict)]
                break
    first = next((row.get("name") for row in rows if row.get("id") == 0), None)
    others = [row.get("supercategory") for row in rows if row.get("id") != 0]
    return bool(others) and first is not None and all(other == first for other in others)
