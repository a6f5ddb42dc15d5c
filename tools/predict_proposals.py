"""Detections as annotations, for people to correct in a labelling tool."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densedet.registry import Registry

if TYPE_CHECKING:
    from densedet.core.annotations.table import AnnotationTable

SPLIT = "train"
"""What the part of a data set is called that is written."""


class Proposals:
    """Collects the detections of images and writes them in a format, with the images linked beside them.

    Args:
        format: a source that can be written.
        components: the registry.
        files: the images.
        image_ids: the id of each.
        classes: names in label order, "" for a label that stands for nothing.
        category_ids: the id of each label; None where the data set lacks the class.

    Raises:
        UsageError: the format is not known, or is only read.
    """

    def __init__(
        self,
        format: str,
        components: Registry,
        files: Sequence[Path],
        image_ids: Sequence[int | str],
        classes: Sequence[str],
        category_ids: Sequence[int | None],
    ) -> None:
        from densedet.core.annotations.conversion import writer_named

        self._target = writer_named(format, components)
        self._name = f"annotations{self._target.suffixes[0]}" if self._target.suffixes else format
        self._files, self._image_ids = files, image_ids
        self._classes = {i: name for i, name in zip(category_ids, classes) if i is not None and name}
        self._rows: dict[int, list[dict[str, Any]]] = {}

    def add(self, index: int, rows: list[dict[str, Any]]) -> None:
        """Take in the detections of image ``index``, as `densedet.core.results.coco_results` has them."""
        self._rows[index] = rows

    def write(self, folder: Path) -> Path:
        """Write the annotations into a folder, and link the images to where the format has them.

        Returns:
            The file or folder that was made.

        Raises:
            DataError: an image cannot be linked, or the files cannot be written.
        """
        from densedet.core.annotations.bringing import bring_image

        files = [Path(os.path.abspath(file)) for file in self._files]
        base = os.path.commonpath([file.parent for file in files])
        names = {index: files[index].relative_to(base).as_posix() for index in self._rows}
        path = folder / self._name
        self._target.write(self._table(names), path, split=SPLIT)
        inside = self._target.image_folder
        images = folder / "images" if inside is None else path / inside.format(split=SPLIT)
        for index, name in names.items():
            bring_image(self._files[index], images / name, link=True)
        return path

    def _table(self, names: dict[int, str]) -> AnnotationTable:
        import numpy as np

        from densedet.core.annotations.builder import TableBuilder
        from densedet.core.annotations.faults import Faults
        from densedet.core.annotations.image_header import image_size

        builder, scores = TableBuilder("detections", Faults(strict=False)), []
        for category_id, name in self._classes.items():
            builder.add_class(category_id, name)
        for index, rows in sorted(self._rows.items()):
            image_id = self._image_ids[index]
            builder.add_image(image_id, names[index], *image_size(self._files[index]))
            for row in rows:
                scores.append(row["score"])
                builder.add_box(image_id, row["category_id"], row["bbox"], id=len(scores))
        table = builder.finish()
        table.scores = np.array(scores, dtype=np.float64)[table.ids - 1]
        return table
