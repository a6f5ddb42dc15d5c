"""What all sources of annotation files have in common: a table, a folder of images, opened at the first use.
No torch here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from densedet.core.annotations.builder import Faults, TableBuilder
from densedet.core.annotations.table import AnnotationTable
from densedet.core.errors import DataError, PartError

if TYPE_CHECKING:
    from densedet.core.types import Annotation


class TableSource:
    """A `Source` on an `AnnotationTable`. A format's class derives from it and writes `_read` and `_digest`.

    Read at the first use; a worker process gets the table with the source. images_folder: what the table's
    file names are relative to.
    faults: collects what is wrong with the entries; replaced by one that is not strict before the first use
    when a file is converted or checked. on_progress: called with (done, total), in any unit, while a long
    file is read.

    For `densedet convert` and `train --db` a format has besides: recognise(path, split) -> constructor
    arguments (without root) with which it would read what lies at ``path``, or None if that is not its own;
    special: whether it is asked before the others, being a habit of some program with one of their formats;
    suffixes: of the files it writes, () if it writes a folder; write(table, path, split=..., faults=...).
    """

    def __init__(self, images_folder: Path) -> None:
        self.images_folder = images_folder
        self.faults = Faults()
        self.on_progress: Callable[[int, int], None] | None = None
        self._table: AnnotationTable | None = None

    special: ClassVar[bool] = False

    files: Sequence[Path] = ()
    """The annotation files, for `location`."""

    @property
    def location(self) -> str:
        """Where it reads from; the same whatever the files hold at the moment."""
        return "\0".join(
            [
                type(self).__name__,
                str(self.images_folder.resolve()),
                *(str(file.resolve()) for file in self.files),
            ]
        )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"faults": Faults(), "on_progress": None}

    def _read(self) -> AnnotationTable:
        """Read and check the annotations. Raises DataError."""
        raise NotImplementedError

    def _digest(self) -> str:
        """Changes with the annotations."""
        raise NotImplementedError

    @property
    def table(self) -> AnnotationTable:
        """All boxes; read at the first use."""
        if self._table is None:
            self._table = self._read()
        return self._table

    @property
    def classes(self) -> tuple[str, ...]:
        """Names; index = label."""
        return self.table.classes

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The file's id of each label."""
        return self.table.category_ids

    @property
    def sizes(self) -> np.ndarray:
        """int (I,2): (width, height) of each image as displayed, in pixels."""
        return self.table.sizes

    def __len__(self) -> int:
        return len(self.table)

    def annotation(self, index: int) -> Annotation:
        """The truth of image ``index``, 0..len-1, in source pixels."""
        return self.table.annotation(index)

    def image(self, index: int) -> str:
        """The path of image ``index``."""
        return os.path.join(self.images_folder, self.table.name(index))

    def fingerprint(self) -> str:
        """Changes with the annotations and the folder of the images; not with the images' pixels."""
        return hashlib.blake2b(
            f"{self._digest()}\0{self.images_folder.resolve()}".encode(), digest_size=16
        ).hexdigest()

    def invalid(self) -> list[str]:
        """A sentence for each box that was dropped or clipped."""
        return list(self.table.sentences)


def table_of(source: Any) -> AnnotationTable:
    """A source's table; made from its annotations, one by one, where it has none."""
    table = getattr(source, "table", None)
    if isinstance(table, AnnotationTable):
        return table
    builder = TableBuilder(type(source).__name__)
    for category_id, name in enumerate(source.classes):
        builder.add_class(category_id, name)
    for index in range(len(source)):
        truth = source.annotation(index)
        builder.add_image(index, f"{index}", truth.width, truth.height)
        boxes = truth.boxes.double()
        xywh = boxes.clone() if truth.xywh is None else truth.xywh
        if truth.xywh is None:
            xywh[:, 2:] -= boxes[:, :2]
        rows = zip(
            truth.labels.tolist(),
            xywh.tolist(),
            truth.area.tolist(),
            truth.crowd.tolist(),
            truth.ignore.tolist(),
        )
        for label, box, area, crowd, ignore in rows:
            builder.add_box(index, label, box, area=area, crowd=crowd, ignore=ignore)
    return builder.finish()


def sizes_of(source: Any) -> np.ndarray:
    """Return int (I,2), the (width, height) of each image.

    A source without ``sizes`` is asked for the annotation of each image.
    """
    sizes = getattr(source, "sizes", None)
    if sizes is None:
        return table_of(source).sizes
    if np.shape(sizes) != (len(source), 2):
        raise PartError(
            f"{type(source).__name__}.sizes has shape {np.shape(sizes)}, not {(len(source), 2)}: give the "
            f"(width, height) of each image",
            part="source",
        )
    return np.asarray(sizes)


def existing_file(source: str, argument: str, base: Path, name: str) -> Path:
    """``name`` below ``base``, a file that is there. Raises DataError."""
    file = base / Path(name).expanduser()
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise DataError(
            f"{source}: annotation file {file} {what}: correct '{argument}' or data.root ({base.resolve()})"
        )
    return file


def existing_folder(source: str, argument: str, base: Path, name: str, what: str = "image folder") -> Path:
    """``name`` below ``base``, a folder that is there. Raises DataError."""
    folder = base / Path(name).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"{source}: {what} {folder} does not exist: correct '{argument}' or data.root ({base.resolve()})"
        )
    return folder
