"""An export of Roboflow's in whichever of its formats it came."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from densedet.core.annotation_table import AnnotationTable
from densedet.core.errors import DataError
from densedet.core.table_source import TableSource, existing_folder

WORDS = {"train": ("train",), "valid": ("valid", "val"), "val": ("valid", "val"), "test": ("test",)}


class Roboflow(TableSource):
    """A folder with train/, valid/ and test/ as Roboflow exports them: COCO (``_annotations.coco.json`` beside the images), YOLO
    (data.yaml, ``images`` and ``labels`` in each) or Pascal VOC (XML beside the images, edges counted from 0).

    folder: the export, relative to root, which is wired from data.root. split: "train", "valid" (or "val") or "test".

    COCO exports begin with a category without boxes that only names the project as the others' supercategory: it is left out.

    Raises DataError: no such folder or split, or none of these formats.
    """

    def __init__(self, *, folder: str = ".", split: Literal["train", "valid", "val", "test"] = "train", root: str = ".") -> None:
        base = existing_folder("source roboflow", "folder", Path(root).expanduser(), folder, "folder")
        place = next((base / word for word in WORDS[split] if (base / word).is_dir()), None)
        if place is None:
            raise DataError(f"source roboflow: {base} has no folder {' or '.join(WORDS[split])}: correct 'folder' or 'split'")
        self._inner = _source_of(base, place, split)
        self.files = self._inner.files
        super().__init__(self._inner.images_folder)

    def _read(self) -> AnnotationTable:
        self._inner.faults, self._inner.on_progress = self.faults, self.on_progress
        return without_placeholder(self._inner.table)

    def _digest(self) -> str:
        len(self.table)
        return self._inner._digest()

    @classmethod
    def recognise(cls, path: Path, split: str | None = None) -> dict[str, Any] | None:
        """A folder whose train/ (or ``split``) is in one of the three formats."""
        split = split or "train"
        if not path.is_dir() or split not in WORDS:
            return None
        place = next((path / word for word in WORDS[split] if (path / word).is_dir()), None)
        if place is None or not (
            (place / "_annotations.coco.json").is_file() or (place / "labels").is_dir() or next(place.glob("*.xml"), None)
        ):
            return None
        return {"folder": str(path), "split": split}


def _source_of(base: Path, place: Path, split: str) -> TableSource:
    from densedet.plugins.sources.coco import Coco
    from densedet.plugins.sources.voc import Voc
    from densedet.plugins.sources.yolo import Yolo

    if (place / "_annotations.coco.json").is_file():
        return Coco(annotations="_annotations.coco.json", images=".", root=str(place))
    if (place / "labels").is_dir() and (base / "data.yaml").is_file():
        return Yolo(data="data.yaml", split="val" if split == "valid" else split, root=str(base))  # type: ignore[arg-type]
    if next(place.glob("*.xml"), None) is not None:
        return Voc(annotations=".", images=".", corners="zero_based", root=str(place))
    raise DataError(
        f"source roboflow: {place} holds neither _annotations.coco.json, labels/ beside data.yaml, nor XML files: name its format as the source"
    )


def without_placeholder(table: AnnotationTable) -> AnnotationTable:
    """Without category 0 where it has no boxes and there are others: Roboflow's name for the project."""
    if not table.category_ids or table.category_ids[0] != 0 or len(table.classes) < 2 or (table.labels == 0).any():
        return table
    table.labels = table.labels - 1
    table.classes, table.category_ids = table.classes[1:], table.category_ids[1:]
    return table
