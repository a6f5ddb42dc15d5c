"""densedet's annotation database: a FlatBuffers file that opens in milliseconds whatever its size."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from densedet.core.sources import AnnotationTable, Faults, Progress
from densedet.plugins.sources._database import DatabaseSource
from densedet.plugins.sources._flatbuffers_file import IDENTIFIER, Database, write_database


class FlatBuffersSource(DatabaseSource):
    """Read a ``.db`` file written by `densedet convert` (schema: annotations.fbs) and a folder of images.

    The file is mapped into memory, not read: worker processes share its pages, and a source that was pickled
    opens it anew. The structure is checked when it opens (milliseconds), all values at the first use of a box
    (a tenth of a second for COCO's 860,001).

    Args:
        annotations: the .db file; a relative path starts at ``root``.
        images: the folder that the file names are relative to; a relative path starts at ``root``.
        root: (wired) data.root, where relative paths start.

    Raises:
        DataError: the file or folder is missing, or the file is no such database, is damaged, is of another
            version or holds an impossible value.
    """

    layout: ClassVar[str] = "a .db file that densedet convert wrote"
    suffixes: ClassVar[tuple[str, ...] | None] = (".db",)
    marks: ClassVar[dict[int, bytes]] = {4: IDENTIFIER}
    _opened: Database | None = None

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_opened": None, "_table": None}

    def _open(self) -> Database:
        if self._opened is None:
            self._opened = Database(self.file)
        return self._opened

    def _read(self) -> AnnotationTable:
        return self._open().checked(self.faults)

    def _digest(self) -> str:
        return self._open().fingerprint

    def __len__(self) -> int:
        return len(self._open().table)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names; index = label."""
        return self._open().table.classes

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The original file's id of each label."""
        return self._open().table.category_ids

    @classmethod
    def _write(
        cls, table: AnnotationTable, path: Path, split: str, faults: Faults, on_progress: Progress
    ) -> None:
        """Write one file of at most 2 GB. Nothing of a table is lost."""
        write_database(table, path)
