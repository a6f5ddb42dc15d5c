"""What all sources of annotation files share: a table, a folder of images, opened at the first use.

No torch here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from densedet.core.annotations.faults import Faults
from densedet.core.annotations.table import AnnotationTable
from densedet.core.errors import DataError, PartError
from densedet.core.files import atomic_path

if TYPE_CHECKING:
    from densedet.core.contracts import Resize, Source
    from densedet.core.types import Annotation


Progress = Callable[[int, int], None]
"""Called with (done, total), in any unit, while a long piece of work goes on."""


class TableSource:
    """A `Source` on an `AnnotationTable`, which is read at the first use.

    The class of a file format derives from it and defines `_read`. For `densedet convert` and
    `train --db` it also defines `recognise`, and `_write` and ``suffixes`` if the format can be written. A
    worker process gets the table together with the source.

    Args:
        images_folder: the folder that the table's file names are relative to.

    Attributes:
        faults: collects what is wrong with the entries. Set one that is not strict before the first use to
            convert or check a file.
        on_progress: called while a long file is read.
        files: the annotation files, for ``location``.
        special: whether the format is asked before others to recognise a path, because it is one program's
            habit with one of their formats.
        layout: by which `recognise` knows a path, in words.
        suffixes: of the files that `write` makes; () if it makes a folder, None if the format is only read.
        image_folder: where a written folder holds its images, with "{split}" for the split; None if nowhere.
    """

    special: ClassVar[bool] = False
    layout: ClassVar[str] = "its own files"
    suffixes: ClassVar[tuple[str, ...] | None] = None
    image_folder: ClassVar[str | None] = None
    files: Sequence[Path] = ()

    def __init__(self, images_folder: Path) -> None:
        self.images_folder = images_folder
        self.faults = Faults()
        self.on_progress: Progress | None = None
        self._table: AnnotationTable | None = None
        self._found_digest = ""

    @property
    def location(self) -> str:
        """Where it reads from; the same whatever the files hold at the moment."""
        paths = (self.images_folder, *self.files)
        return "\0".join([type(self).__name__, *(str(path.resolve()) for path in paths)])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"faults": Faults(), "on_progress": None}

    def _read(self) -> AnnotationTable:
        """Read and check the annotations; set ``_found_digest``, or define `_digest`. Raises DataError."""
        raise NotImplementedError

    def _digest(self) -> str:
        """Return a text that changes with the annotations; here one that is made while reading."""
        len(self.table)
        return self._found_digest

    @classmethod
    def _write(
        cls, table: AnnotationTable, path: Path, split: str, faults: Faults, on_progress: Progress
    ) -> None:
        """Make the file or folder ``path``, of which nothing is there unless a folder can be added to."""
        raise NotImplementedError

    @classmethod
    def write(
        cls,
        table: AnnotationTable,
        path: Path,
        *,
        split: str = "train",
        overwrite: bool = False,
        faults: Faults | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """Write a table in this format: under a temporary name first, so that nothing is left on failure.

        Args:
            table: the annotations.
            path: the file or folder to make.
            split: what the part of a data set is called, in a format whose folders hold several.
            overwrite: whether a file that is there may be replaced.
            faults: collects what the format cannot hold.
            on_progress: called while a long file or folder is written.

        Raises:
            DataError: the table does not fit the format, or the files cannot be written.
            UsageError: a file is there, and it may not be replaced.
        """
        faults, on_progress = faults or Faults(strict=False), on_progress or (lambda *_: None)
        if not cls.suffixes:
            cls._write(table, path, split, faults, on_progress)
            return
        with atomic_path(path, overwrite=overwrite) as temporary:
            cls._write(table, temporary, split, faults, on_progress)

    @classmethod
    def recognise(cls, path: Path, split: str | None = None) -> dict[str, Any] | None:
        """Tell whether a path holds this format.

        Args:
            path: an existing file or folder.
            split: the part of the data set that is wanted; None if the user named none.

        Returns:
            The constructor arguments, without root, that read what lies there; None for another format.

        Raises:
            DataError: the path is laid out as this format is, but its files are wrong or lack the split.
        """
        return None

    @property
    def table(self) -> AnnotationTable:
        """All boxes; read at the first use."""
        if self._table is None:
            self.faults.clear()
            try:
                table = self._read()
            except DataError:
                self.faults.refuse()  # the cause comes before its consequence: no image that can be used, say
                raise
            self.faults.refuse()
            self._table = table
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
        """Return the truth of image ``index``, 0..len-1, in source pixels."""
        return self.table.annotation(index)

    def truth(self, index: int) -> Annotation:
        """Return the truth of image ``index`` as arrays, without torch."""
        return self.table.truth(index)

    def image(self, index: int) -> str:
        """Return the path of image ``index``."""
        return os.path.join(self.images_folder, self.table.name(index))

    def fingerprint(self) -> str:
        """Return a text that changes with the annotations and the images' folder, not with their pixels."""
        text = f"{self._digest()}\0{self.images_folder.resolve()}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def invalid(self) -> list[str]:
        """Return a sentence for each box that was dropped or clipped."""
        return self.table.faults.told()


def table_of(source: Source) -> AnnotationTable:
    """Return a source's table; where it has none, one is made from its annotations."""
    table = getattr(source, "table", None)
    if isinstance(table, AnnotationTable):
        return table
    from densedet.core.annotations.border import CheckedSource  # it imports this file

    return CheckedSource(source).table


def sizes_of(source: Source) -> np.ndarray:
    """Return int (I,2), the (width, height) of each image.

    A source without ``sizes`` is asked for the annotation of each image; one that has them, for three.

    Raises:
        PartError: ``sizes`` has another shape, or contradicts an annotation.
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
    told = np.asarray(sizes)
    for index in {0, len(told) // 2, len(told) - 1} if len(told) else ():
        truth = source.annotation(index)
        if tuple(told[index]) != (truth.width, truth.height):
            raise PartError(
                f"{type(source).__name__}.sizes has {tuple(told[index].tolist())} for image {index}, but its "
                f"annotation has (width, height) {(truth.width, truth.height)}: give these in sizes",
                part="source",
            )
    return told


def input_scales(sizes: np.ndarray, resize: Resize) -> np.ndarray:
    """Return float64 (I,2), pixels of the network's input per source pixel, for (width, height) ``sizes``."""
    distinct, which = np.unique(sizes, axis=0, return_inverse=True)
    placed = [resize(int(width), int(height)) for width, height in distinct]
    scales = [(p.width / w, p.height / h) for p, (w, h) in zip(placed, distinct)]
    return np.array(scales).reshape(-1, 2)[which.reshape(-1)]


def existing(root: str, name: str, argument: str, *, folder: bool = False) -> Path:
    """Return the path of a file or folder that a source needs.

    Args:
        root: where relative paths start, data.root.
        name: the path as the user wrote it.
        argument: the source's argument that holds it, for the message.
        folder: whether it must be a folder or a file.

    Raises:
        DataError: it is not there.
    """
    base = Path(root).expanduser()
    path = base / Path(name).expanduser()
    if not (os.path.isdir(path) if folder else os.path.isfile(path)):
        raise DataError(
            f"there is no {'folder' if folder else 'file'} {path}: correct '{argument}' or data.root "
            f"({base.resolve()})"
        )
    return path
