"""Roboflow's exports, recognised by their layout and read by the source of their format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Literal

from densedet.core.errors import DataError
from densedet.core.sources import AnnotationTable, TableSource, added_by_macos, existing

COCO_FILE = "_annotations.coco.json"
FOLDERS = {"train": ("train",), "val": ("valid", "val"), "test": ("test",)}
"""The folders of each split."""


class RoboflowSource(TableSource):
    """Read a folder that Roboflow exported, with train/, valid/ and test/ in it.

    These exports can be read:

    - "COCO": SPLIT/_annotations.coco.json beside the images, or that file in the folder itself, which then
      counts as split "train". A first category that only groups the others (its id is 0, all others name it
      as their supercategory, and no box belongs to it) is left out: it is named like the project and would be
      a class without objects;
    - "YOLO" (v5 and later): data.yaml, SPLIT/images and SPLIT/labels;
    - "Pascal VOC": an XML file beside each image, with corners counted from 0.

    Args:
        folder: the export; a relative path starts at ``root``.
        split: which part is read; "val" and "valid" are the same.
        root: (wired) data.root, where relative paths start.

    Raises:
        DataError: the folder or split is missing or in none of these forms, or the source of its format
            refuses it.
    """

    special: ClassVar[bool] = True
    layout: ClassVar[str] = "a folder with train, valid or test and COCO JSON, data.yaml or XML files in it"

    def __init__(
        self, *, folder: str = ".", split: Literal["train", "val", "valid", "test"] = "train", root: str = "."
    ) -> None:
        self.folder = existing(root, folder, "folder", folder=True)
        self.inner = _source_of(self.folder, _split_of(split))
        super().__init__(self.inner.images_folder)
        self.files = self.inner.files

    def _read(self) -> AnnotationTable:
        self.inner.faults, self.inner.on_progress = self.faults, self.on_progress
        table = self.inner.table
        self._found_digest = self.inner._digest()
        return table

    @classmethod
    def recognise(cls, path: Path, split: str | None = None) -> dict[str, Any] | None:
        """Recognise an export, the folder of one of its splits, or its file of COCO JSON.

        The last two determine the split.
        """
        if os.path.isfile(path):
            return cls._of_file(path) if path.name == COCO_FILE else None
        if not os.path.isdir(path) or split not in (None, *FOLDERS, "valid"):
            return None
        own = next((name for name, folders in FOLDERS.items() if path.name in folders), None)
        for name in [_split_of(split)] if split is not None else FOLDERS:
            form = _form(path, name)
            if form is not None and form[1] != path:
                return {"folder": str(path), "split": name}
        if own is None and _form(path, "train") == ("coco", path):
            return {"folder": str(path), "split": "train"}
        if (
            own is not None
            and (split is None or _split_of(split) == own)
            and _form(path.parent, own) is not None
        ):
            return {"folder": str(path.parent), "split": own}
        return None

    @classmethod
    def _of_file(cls, path: Path) -> dict[str, Any]:
        own = next((name for name, folders in FOLDERS.items() if path.parent.name in folders), "train")
        if _form(path.parent.parent, own) == ("coco", path.parent):
            return {"folder": str(path.parent.parent), "split": own}
        return {"folder": str(path.parent), "split": "train"}


def _split_of(split: str) -> str:
    return "val" if split == "valid" else split


def _form(folder: Path, split: str) -> tuple[str, Path] | None:
    """("coco", "yolo" or "voc", the split's folder), or None."""
    for name in FOLDERS[split]:
        place = folder / name
        if os.path.isfile(place / COCO_FILE):
            return "coco", place
        if (
            os.path.isfile(folder / "data.yaml")
            and os.path.isdir(place / "images")
            and os.path.isdir(place / "labels")
        ):
            return "yolo", place
        if os.path.isdir(place) and any(
            entry.name.lower().endswith(".xml") and not added_by_macos(entry.name)
            for entry in os.scandir(place)
        ):
            return "voc", place
    if split == "train" and os.path.isfile(folder / COCO_FILE):
        return "coco", folder
    return None


def _source_of(folder: Path, split: str) -> TableSource:
    form, place = _form(folder, split) or (None, folder)
    if form == "coco":
        from densedet.plugins.sources._roboflow_coco import RoboflowCoco

        return RoboflowCoco(annotations=str(place / COCO_FILE), images=str(place))
    if form == "yolo":
        from densedet.plugins.sources.yolo import YOLOSource

        return YOLOSource(data=str(folder / "data.yaml"), split=split)  # type: ignore[arg-type]
    if form == "voc":
        from densedet.plugins.sources.voc import VOCSource

        return VOCSource(annotations=str(place), images=str(place), corners="zero_based")
    there = [name for name, names in FOLDERS.items() if any(os.path.isdir(folder / other) for other in names)]
    raise DataError(
        f"source roboflow: {folder} has no split {split!r} in a form that can be read (COCO, YOLO with "
        f"data.yaml, Pascal VOC): "
        + (f"it has {', '.join(there)}; " if there else "")
        + "correct 'folder' or 'split', or export anew in one of these forms"
    )
