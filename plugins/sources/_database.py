"""What the sources of densedet's own database files share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

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
        if not path.is_file():
            return None
        with open(path, "rb") as file:
            head = file.read(100)
        found = all(head[at : at + len(mark)] == mark for at, mark in cls.marks.items())
        return {"annotations": str(path), "images": str(path.parent)} if found else None
