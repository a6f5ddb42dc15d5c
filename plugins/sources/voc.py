"""Pascal VOC: a folder of XML files, one an image."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

from densedet.core.annotation_table import CROWD, IGNORE, AnnotationTable
from densedet.core.errors import DataError
from densedet.core.files import write_text
from densedet.core.folders import FileNames, new_folder
from densedet.core.image_header import image_size
from densedet.core.table_builder import NO_ID, Faults, TableBuilder
from densedet.core.table_source import TableSource, existing_folder
from densedet.plugins.sources.voc_xml import Corners, VocFile, VocObject, read_voc_file, voc_text


class Voc(TableSource):
    """Pascal VOC (Everingham et al. 2010, development kit): ``Annotations/NAME.xml``, ``JPEGImages/NAME.jpg``, ``ImageSets/Main/SPLIT.txt``.

    annotations: the folder of XML files, sub-folders included. images: the folder of images. split: the file under ImageSets/Main beside
    ``annotations`` that names the images, one a line (of the per-class lists' second column nothing is read); null: all XML files, sorted.
    classes: names in label order; null: those of categories.json beside ``annotations`` (written by `densedet convert`, with COCO's
    ids), else all that occur, sorted, with ids from 1. corners: "one_based" pixels with both ends belonging to the object, as in the
    development kit (x = xmin - 1, w = xmax - xmin + 1), or "zero_based" edges (x = xmin, w = xmax - xmin), as most tools write.
    All relative to root, which is wired from data.root.

    ``difficult`` objects are ignored. An image's size comes from <size>, from the image where that is missing. <filename> names the image if
    there is one of that name, else the XML file's own name does.

    Raises DataError: a folder, split or file is missing or is not VOC's; where strict, an object without a name or a box.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    image_folder: ClassVar[str] = "JPEGImages"

    def __init__(
        self,
        *,
        annotations: str = "Annotations",
        images: str = "JPEGImages",
        split: str | None = None,
        classes: list[str] | None = None,
        corners: Corners = "one_based",
        root: str = ".",
    ) -> None:
        base = Path(root).expanduser()
        self.annotations = existing_folder("source voc", "annotations", base, annotations, "annotation folder")
        super().__init__(existing_folder("source voc", "images", base, images))
        self.split, self.given_classes, self.corners = split, classes, corners
        self.files = (self.annotations, *([_split_file(self.annotations, split)] if split else []))
        self._digests = hashlib.blake2b(digest_size=16)

    def _read(self) -> AnnotationTable:
        paths = self._paths()
        parsed = []
        for number, path in enumerate(paths, start=1):
            self._digests.update(path.read_bytes() if path.is_file() else b"")
            parsed.append(read_voc_file(path, self.corners))
            if self.on_progress is not None and number % 100 == 0:
                self.on_progress(number, len(paths))
        builder = TableBuilder(f"annotations {self.annotations}", self.faults)
        labels = self._classes(parsed)
        for name, category_id in labels.items():
            builder.add_class(category_id, name)
        names = FileNames(self.images_folder)
        own_ids = all(file.image_id is not None for file in parsed)
        for number, (path, file) in enumerate(zip(paths, parsed), start=1):
            self._add(builder, path, file, number if not own_ids or file.image_id is None else file.image_id, labels, names)
        return builder.finish()

    def _add(
        self, builder: TableBuilder, path: Path, file: VocFile, image_id: int | str, labels: dict[str, int], names: FileNames
    ) -> None:
        builder.origin = str(path)
        for sentence in file.faults:
            self.faults.entry("object", sentence)
        stem = path.relative_to(self.annotations).with_suffix("").as_posix()
        candidates = [file.filename, f"{Path(stem).parent.as_posix()}/{file.filename}"]
        name = next((name for name in candidates if name in names.names), None) or names.image_of(stem) or file.filename or stem
        width, height = file.width, file.height
        if not (width and height):
            try:
                width, height = image_size(self.images_folder / name)
            except DataError as error:
                self.faults.entry("image", f"{path} does not say its image's size, and {error}")
                return
        if not builder.add_image(image_id, name, width, height):
            return
        for o in file.objects:
            if o.name not in labels:
                self.faults.entry("category", f"{path}: there is no class {o.name[:40]!r} among {', '.join(list(labels)[:20])}")
                continue
            area = float("nan") if o.area is None else float(o.area)
            builder.add_box(image_id, labels[o.name], o.box, area=area, crowd=o.crowd, ignore=o.ignore, id=NO_ID if o.id is None else o.id)

    def _paths(self) -> list[Path]:
        if self.split is None:
            found = sorted(self.annotations.rglob("*.xml"))
            if not found:
                raise DataError(f"there are no XML files in {self.annotations}: correct 'annotations'")
            return found
        lines = _split_file(self.annotations, self.split).read_text(encoding="utf-8", errors="replace").splitlines()
        # "NAME", or "NAME 1" in the lists of one class; a name may hold blanks.
        names = [line.rsplit(maxsplit=1)[0] if line.split()[-1:] in (["1"], ["-1"], ["0"]) and len(line.split()) > 1 else line.strip() for line in lines]
        paths = [self.annotations / f"{name}.xml" for name in names if name]
        for path in paths:
            if ".." in path.parts or not path.is_file():
                raise DataError(f"split {self.split} names {path.relative_to(self.annotations).as_posix()[:80]!r}, which {self.annotations} does not have")
        return paths

    def _classes(self, parsed: Iterable[VocFile]) -> dict[str, int]:
        """{name: category id}."""
        if self.given_classes is not None:
            return {name: number for number, name in enumerate(self.given_classes, start=1)}
        table = self.annotations.parent / "categories.json"
        if table.is_file():
            self._digests.update(table.read_bytes())
            try:
                return {str(row["name"]): int(row["id"]) for row in json.loads(table.read_text(encoding="utf-8"))}
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise DataError(f"{table} is not a list of {{'id', 'name'}}: delete it or convert anew") from error
        names = sorted({o.name for file in parsed for o in file.objects})
        if not names:
            raise DataError(f"the files in {self.annotations} have no objects: name the classes in the source's 'classes'")
        return {name: number for number, name in enumerate(names, start=1)}

    def _digest(self) -> str:
        len(self.table)  # the digest is made while reading
        return self._digests.hexdigest() + str((self.split, self.given_classes, self.corners))

    def __getstate__(self) -> dict[str, Any]:
        len(self.table)
        return super().__getstate__() | {"_digests": _Finished(self._digests.hexdigest())}

    @classmethod
    def recognise(cls, path: Path, split: str | None = None) -> dict[str, Any] | None:
        """VOC's own layout; a folder of XML files, images beside them (zero-based corners, as Roboflow writes them)."""
        if not path.is_dir():
            return None
        if (path / "Annotations").is_dir():
            images = path / "JPEGImages"
            found = {"annotations": str(path / "Annotations"), "images": str(images if images.is_dir() else path / "Annotations")}
            splits = sorted(file.stem for file in (path / "ImageSets" / "Main").glob("*.txt"))
            split = split or (splits[0] if len(splits) == 1 else None)
            return {**found, "split": split} if split else found
        here = path / split if split and (path / split).is_dir() else path
        if next(here.glob("*.xml"), None) is None:
            return None
        return {"annotations": str(here), "images": str(here), "corners": "zero_based"}

    @classmethod
    def write(
        cls,
        table: AnnotationTable,
        path: Path,
        *,
        split: str = "train",
        faults: Faults | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """A folder in VOC's layout without the images, made under a temporary name and renamed. Nothing of a table is lost."""
        with new_folder(path) as folder:
            used: set[str] = set()
            stems = []
            for index in range(len(table)):
                name = table.name(index)
                stem = os.path.splitext(name)[0]
                stem = name if stem in used else stem
                used.add(stem)
                stems.append(stem)
                _, xywh, labels, flags, areas = table.objects(index)
                ids = table.ids[int(table.offsets[index]) : int(table.offsets[index + 1])]
                objects = [
                    VocObject(table.classes[label], box, bool(flag & IGNORE), bool(flag & CROWD), own, area)
                    for label, box, flag, own, area in zip(*(c.tolist() for c in (labels, xywh, flags, ids, areas)))
                ]
                width, height = table.sizes[index].tolist()
                file = folder / "Annotations" / f"{stem}.xml"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(voc_text(name, width, height, table.image_id(index), objects, "one_based"), encoding="utf-8")
            (folder / "JPEGImages").mkdir()
            (folder / "Annotations").mkdir(exist_ok=True)
            write_text(folder / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))
            rows = [{"id": i, "name": n} for i, n in zip(table.category_ids, table.classes)]
            write_text(folder / "categories.json", json.dumps(rows, indent=1))


class _Finished:
    """A digest that was taken: hash objects cannot be pickled."""

    def __init__(self, value: str) -> None:
        self._value = value

    def hexdigest(self) -> str:
        return self._value


def _split_file(annotations: Path, split: str) -> Path:
    file = annotations.parent / "ImageSets" / "Main" / f"{split}.txt"
    if not file.is_file():
        known = sorted(f.stem for f in file.parent.glob("*.txt"))
        raise DataError(f"source voc: split file {file} does not exist: correct 'split'" + (f" (there are {', '.join(known)})" if known else ""))
    return file
