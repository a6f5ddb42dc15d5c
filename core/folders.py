"""Folders made whole or not at all, and the file names in one. No torch here."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from densedet.core.errors import DataError
from densedet.core.image_header import SUFFIXES


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` to fill; renamed at the end, removed on failure. Raises DataError where something is there."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise DataError(f"{path} is there already and not empty: give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        yield temporary
        os.chmod(temporary, 0o755)
        if path.is_dir():
            path.rmdir()
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


class FileNames:
    """The names of all files below ``folder``, "/" between folders, listed once. Links to folders are not followed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def names(self) -> frozenset[str]:
        """All of them."""
        found = []
        for place, _, files in os.walk(self.folder):
            below = os.path.relpath(place, self.folder).replace(os.sep, "/")
            found += files if below == "." else [f"{below}/{name}" for name in files]
        return frozenset(found)

    @cached_property
    def images(self) -> list[str]:
        """Those with the suffix of an image, sorted."""
        return sorted(name for name in self.names if os.path.splitext(name)[1].lower() in SUFFIXES)

    @cached_property
    def _stems(self) -> dict[str, str]:
        return {os.path.splitext(name)[0]: name for name in reversed(self.images)}

    def image_of(self, stem: str) -> str | None:
        """The image called ``stem`` and some suffix; the first in order where there are several."""
        return self._stems.get(stem)
