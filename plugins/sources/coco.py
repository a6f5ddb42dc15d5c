"""COCO JSON and a folder of images."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from densedet.core.annotation_table import AnnotationTable
from densedet.core.errors import DataError
from densedet.core.types import Annotation
from densedet.plugins.sources.coco_json import CocoFile, read_coco, table_of


class Coco:
    """Images and boxes of COCO JSON files (the "object detection" form of COCO's data format).

    annotations: a file, or several that are joined (train and val, say): their category tables must be equal and no image id may occur
    twice. images: the folder that ``file_name`` is relative to. Both relative to root, which is wired from data.root.

    Labels are 0..C-1 in the order of the file's category ids, whatever their gaps and order (``category_ids`` leads back). Crowd
    boxes (iscrowd 1) and boxes with ``ignore`` 1 are ignored. A missing area is width * height. Each box is checked once, here: not
    finite, without a width or height above 0, or outside the image: dropped; partly outside: clipped (`invalid` tells which).
    Boxes are in pixels of the image as it is displayed, after its EXIF orientation; where width and height in the JSON fit only the
    image as it is stored, in pixels of that.

    The constructor only looks that the files are there; they are read at the first use. `fingerprint` covers the annotation
    files and the names they give to images, not the images' pixels.

    Raises DataError: a file or the folder is missing, not JSON, not in COCO's form, or a file name leaves the folder.
    """

    def __init__(self, *, annotations: str | list[str], images: str, root: str = ".") -> None:
        base = Path(root).expanduser()
        self.files = [base / Path(name).expanduser() for name in ([annotations] if isinstance(annotations, str) else annotations)]
        self.folder = base / Path(images).expanduser()
        if not self.files:
            raise DataError("source coco: annotations is an empty list: name at least one COCO JSON file")
        for file in self.files:
            if not file.is_file():
                what = "is a folder" if file.is_dir() else "does not exist"
                raise DataError(f"annotation file {file} {what}: correct 'annotations' or data.root ({base.resolve()})")
        if not self.folder.is_dir():
            raise DataError(f"image folder {self.folder} does not exist: correct 'images' or data.root ({base.resolve()})")
        self._images = images
        self._opened: _Opened | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Category names in the order of their ids; index = label."""
        return self._open().classes

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The file's id of each label, ascending."""
        return self._open().category_ids

    @property
    def table(self) -> AnnotationTable:
        """All boxes."""
        return self._open().table

    def __len__(self) -> int:
        return len(self.table)

    def annotation(self, index: int) -> Annotation:
        """The truth of image ``index``, 0..len-1, in source pixels."""
        return self.table.annotation(index)

    def image(self, index: int) -> str:
        """The path of image ``index``."""
        return str(self.folder / self.table.name(index))

    def fingerprint(self) -> str:
        """Changes with the annotation files."""
        return self._open().fingerprint

    def invalid(self) -> list[str]:
        """A sentence for each box that was dropped or clipped."""
        return list(self.table.sentences)

    def _open(self) -> _Opened:
        if self._opened is None:
            files = [read_coco(file) for file in self.files]
            self._opened = _Opened(files, str(self._images))
        return self._opened


class _Opened:
    """What the files hold; pickled with the source, so that a worker need not parse them again."""

    def __init__(self, files: list[CocoFile], images: str) -> None:
        self.category_ids = tuple(sorted(files[0].categories))
        self.classes = tuple(files[0].categories[i] for i in self.category_ids)
        for other in files[1:]:
            if other.categories != files[0].categories:
                ours, theirs = set(files[0].categories.items()), set(other.categories.items())
                odd = sorted(ours ^ theirs)[0]
                raise DataError(
                    f"{other.path} and {files[0].path} cannot be joined: category {odd[0]} ({odd[1]!r}) is in only one of them; "
                    "give both files the same categories"
                )
        self.table = table_of(files, np.array(self.category_ids, dtype=np.int64))
        self.fingerprint = hashlib.blake2b("\0".join([*(f.digest for f in files), images]).encode(), digest_size=16).hexdigest()
