"""Pascal VOC: a folder of XML files, one for each image."""

from __future__ import annotations

import json
import os
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
    is_free,
    name_fault,
    new_folder,
)
from densedet.plugins.sources._label_files import NewFiles, listed, read_small
from densedet.plugins.sources._labelled import (
    boxes_of,
    category_rows,
    check_same_classes,
    known_classes,
)
from densedet.plugins.sources._voc_reading import VocReading
from densedet.plugins.sources._voc_xml import Corners, read_voc, voc_text

LOOKED_AT = 8
"""XML files of a folder that are read to recognise it: a few of them may be broken."""

FOLDERS = ("Annotations", "annotations", "annots")
"""By which a folder of XML files is recognised."""


class VOCSource(TableSource):
    """Read Pascal VOC (Everingham et al. 2010, development kit): XML files, images and lists of splits.

    They are ``Annotations/NAME.xml``, ``JPEGImages/NAME.jpg`` and ``ImageSets/Main/SPLIT.txt``. ``difficult``
    objects are ignored. The size of an image is that of <size>, or its own where that is missing. An image
    has the name of its XML file, as in the development kit; where there is none, that of <filename>. Image
    ids are the numbers in the names, where all names are numbers, else 1..I.

    Args:
        annotations: the folder of XML files, sub-folders included; a relative path starts at ``root``.
        images: the folder of images; a relative path starts at ``root``.
        split: the file under ImageSets/Main beside ``annotations`` that names the images, one a line. Of a
            list for one class ("NAME 1", "NAME -1", "NAME 0") the names with 1 count, and those with 0, where
            all objects of the class are difficult. null: all XML files, sorted.
        classes: names in label order. null: those of categories.json beside ``annotations`` (written by
            `densedet convert`, with COCO's ids), or else all that occur in the whole folder, so that all
            splits agree, sorted, with ids from 1.
        corners: "one_based" for pixels counted from 1, both ends belonging to the object, as in the
            development kit: x = xmin - 1, w = xmax - xmin + 1; "zero_based" for edges, as many tools write: x
            = xmin, w = xmax - xmin. A box with xmin = xmax and ymin = ymax, mostly a slip of the mouse, is
            one pixel in the first form, which `invalid` reports, and is dropped in the second.
        root: (wired) data.root, where relative paths start.

    Raises:
        DataError: a folder, split or file is missing or is not VOC's, or an object has no name or no box
            (which converting only reports).
    """

    layout: ClassVar[str] = "a folder with Annotations in it, or with XML files beside their images"
    suffixes: ClassVar[tuple[str, ...] | None] = ()
    image_folder: ClassVar[str | None] = "JPEGImages"

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
        self.annotations = existing(root, annotations, "annotations", folder=True)
        super().__init__(existing(root, images, "images", folder=True))
        self.split, self.given_classes, self.corners = split, classes, corners
        self.files = (
            self.annotations,
            *([_split_file(self.annotations, split)] if split is not None else []),
        )

    def _read(self) -> AnnotationTable:
        listing = FileNames(self.annotations)
        found = {name[:-4]: name for name in sorted(listing.names) if name.lower().endswith(".xml")}
        stems = (
            list(found)
            if self.split is None
            else _stems_of(_split_file(self.annotations, self.split), found, self.faults)
        )
        known = known_classes(self.annotations.parent, self.given_classes)
        if not stems and (known is None or not found):
            where = (
                f"{self.files[-1]} names no images"
                if found
                else f"there are no XML files in {self.annotations}"
            )
            raise DataError(f"{where}: correct 'split' or 'annotations'")
        others = [] if known is not None or self.split is None else sorted(set(found) - set(stems))
        reading = VocReading(self.annotations, self.images_folder, self.corners, known, self.faults)
        files = len(stems) + len(others)
        for number, stem in enumerate([*stems, *others]):
            if number < len(stems):
                reading.add(stem, found[stem])
            else:
                reading.look_for_classes(found[stem])
            if self.on_progress is not None:
                self.on_progress(number + 1, files)
        table = reading.finish()
        self._found_digest = f"{reading.digest.hexdigest()} {self.split} {self.given_classes} {self.corners}"
        return table

    @classmethod
    def recognise(cls, path: Path, split: str | None = None) -> dict[str, Any] | None:
        """Recognise a folder in VOC's layout, its Annotations, or XML files with their images beside them."""
        base = path / split if split is not None and (path / split).is_dir() else path
        for name in FOLDERS:
            if (base / name).is_dir() and _holds_voc(base / name):
                return cls._in_layout(base / name, None if base is not path else split, base is not path)
        if not base.is_dir() or not _holds_voc(base, below=False):
            return None
        if path.name in FOLDERS:
            return cls._in_layout(path, split, False)
        if (
            split is not None
            and base is path
            and any((path / name).is_dir() for name in ("train", "val", "valid", "test"))
        ):
            return None
        return {"annotations": str(base), "images": str(base)}

    @classmethod
    def _in_layout(cls, annotations: Path, split: str | None, of_split: bool) -> dict[str, Any] | None:
        """Return constructor arguments. of_split: the folder holds one split only."""
        base = annotations.parent
        known = _splits(annotations)
        if split is not None and split not in known:
            _split_file(annotations, split)
        if split is None and len(known) == 1 and not of_split:
            split = known[0]  # it gives the order, too
        images = next(
            (base / name for name in ("JPEGImages", "images", "Images") if (base / name).is_dir()), base
        )
        return {"annotations": str(annotations), "images": str(images), "split": split}

    @classmethod
    def _write(
        cls, table: AnnotationTable, path: Path, split: str, faults: Faults, on_progress: Progress
    ) -> None:
        """Write a folder in VOC's layout without the images, or add a split to such a folder.

        A split can be added where the classes are the same and no file would be overwritten. Nothing of a
        table is lost: elements <coco> beside VOC's own hold what those cannot.
        """
        if name_fault(split) is not None or "/" in split or "\\" in split:
            raise DataError(f"a split cannot be called {split!r}: give it the name of a file, such as train")
        rows = category_rows(table)
        new = is_free(path)
        if not new:
            _check_addition(path, split, rows)
        with new_folder(path) if new else addition(path, last=f"ImageSets/Main/{split}.txt") as folder:
            files, stems = NewFiles(folder / "Annotations"), []
            for index in range(len(table)):
                name = table.name(index)
                stem = os.path.splitext(name)[0]
                usable = [str(PurePosixPath(n)) for n in (stem, name) if n == n.strip() and n.isprintable()]
                written = files.write(usable, ".xml", _content_of(table, index))
                if written != stem:
                    faults.note(
                        "name",
                        f"{path}: the XML file of image {name!r} is {written}.xml: readers that go by "
                        f"its name miss the image",
                    )
                stems.append(written)
                on_progress(index + 1, len(table))
            (folder / "JPEGImages").mkdir()
            sets = NewFiles(folder / "ImageSets" / "Main")
            sets.write([split], ".txt", "".join(f"{stem}\n" for stem in stems).encode())
            if new:
                NewFiles(folder).write(["categories"], ".json", json.dumps(rows, indent=1).encode())


def _check_addition(path: Path, split: str, rows: list[dict[str, Any]]) -> None:
    """Raise DataError where a split with these classes cannot join the folder."""
    if not (path / "Annotations").is_dir():
        raise DataError(f"{path} is there already and not empty: give another name")
    if os.path.lexists(path / "ImageSets" / "Main" / f"{split}.txt"):
        raise DataError(
            f"{path} has a split {split!r} already: write another with --split NAME, or another folder"
        )
    check_same_classes(path, rows)


def _content_of(table: AnnotationTable, index: int) -> bytes:
    width, height = table.sizes[index].tolist()
    return voc_text(table.name(index), width, height, table.image_id(index), boxes_of(table, index))


def _splits(annotations: Path) -> list[str]:
    """Return the names of the splits beside a folder of annotations."""
    files = (annotations.parent / "ImageSets" / "Main").glob("*.txt")
    return sorted(file.stem for file in files if not added_by_macos(file.name))


def _split_file(annotations: Path, split: str) -> Path:
    sets = annotations.parent / "ImageSets" / "Main"
    file = sets / f"{split}.txt"
    if name_fault(split) is not None or not os.path.isfile(file):
        known = _splits(annotations)
        there = f" (there are {', '.join(known[:20])})" if known else ""
        raise DataError(f"source voc: split file {str(file)!r} does not exist: correct 'split'{there}")
    return file


def _stems_of(file: Path, found: dict[str, str], faults: Faults) -> list[str]:
    """Return the names in a split's list, in its order, once each."""
    stems: dict[str, None] = {}
    for number, line in enumerate(listed(file), start=1):
        name = next((n for n in (line, line.strip()) if n in found), line.strip())
        if not name:
            continue
        # "NAME 1" in the lists of one class; but a name may hold blanks.
        if name not in found and name.split()[-1] in ("-1", "0", "1"):
            name, _, flag = name.rpartition(" ")
            name = name.strip()
            if flag == "-1":
                continue
        if name not in found:
            faults.entry("list", f"{file}:{number}: there is no {name[:80]}.xml in the folder of annotations")
            continue
        stems[name] = None
    return list(stems)


def _holds_voc(folder: Path, below: bool = True) -> bool:
    """Return whether one of the first XML files in a folder (and ``below`` it) is one of VOC's.

    Raises:
        DataError: there are XML files, but these are not VOC's.
    """
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if below and not added_by_macos(name))
        files = sorted(n for n in names if n.lower().endswith(".xml") and not added_by_macos(n))
        refusals = []
        for name in files[:LOOKED_AT]:
            path = Path(place) / name
            try:
                read_voc(read_small(path), path, "one_based", Faults(strict=False))
                return True
            except FileNotFoundError:  # a link that leads nowhere
                continue
            except DataError as error:
                refusals.append(error)
        if refusals:
            raise refusals[0]
    return False
