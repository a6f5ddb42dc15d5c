"""What the sources of densedet's own database files share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

from densedet.core.errors import DataError
from densedet.core.sources import TableSource, existing


class DatabaseSource(TableSource):
    """One file with marks among its first bytes, and a folder of images.

    ``marks`` is {position: bytes}. The derived classes document the arguments.
    """

    marks: ClassVar[dict[int, bytes]]

    def __init__(self, *, annotations: str, images: str, root: str = ".") -> None:
        self.file = existing(root, annotations, "annotations")
        self.files = (self.file,)
        super().__init__(existing(root, images, "images", folder=True))

    @classmethod
    def recognise(cls, path: Path, split: str | None = None) -> dict[str, Any] | None:
        """Recognise a file by its marks, whatever its name."""
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            head = file.read(100)
        found = all(head[at : at + len(mark)] == mark for at, mark in cls.marks.items())
        if not found and cls.suffixes and path.suffix.lower() in cls.suffixes:
            raise DataError(
                f"annotation database {path} does not begin as densedet's {path.suffix} files do: it is "
                f"damaged, or another program's (densedet convert makes one)"
            )
        return {"annotations": str(path), "images": str(path.parent)} if found else None
