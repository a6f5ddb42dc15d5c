"""Data sets with one small file for each image: reading any file safely, names for new files, image ids."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

from densedet.core.errors import DataError
from densedet.core.sources import name_fault

MAX_BYTES = 1 << 24
"""Of one image's file; a crowded image takes a few dozen KB."""

MAX_LIST = 1 << 28
"""Bytes of a list of images."""

FLAWS = 100
"""Faults of one file after which the rest of it is not read, and all of it counts as wrong."""

_TAKEN = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}


class Flaw(ValueError):
    """A line or object that cannot be used.

    Args:
        kind: of fault, a key of `densedet.core.sources.BOX_KINDS`.
        text: the end of a sentence about it.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def read_small(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Return a file's content. Raises FileNotFoundError, and DataError for any other fault."""
    try:
        # A pipe would be waited for without end.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DataError(f"annotation file {path} cannot be read: it is no file")
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(
            f"annotation file {path} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    if len(content) > limit:
        raise DataError(
            f"annotation file {path} has more than {limit:,} bytes: no annotation file of its kind is "
            f"that long"
        )
    return content


def listed(path: Path) -> list[str]:
    """Return the lines of a list of images. Raises FileNotFoundError and DataError as `read_small`."""
    return read_small(path, MAX_LIST).decode("utf-8", "surrogateescape").removeprefix("\ufeff").split("\n")


class NewFiles:
    """Write files below ``folder``, each under a name of its own.

    Files whose own names are taken or impossible are called ``spare`` and a number.
    """

    def __init__(self, folder: Path, spare: str = "unnamed") -> None:
        self.folder, self.spare = folder, spare
        self._numbers = count(1)
        self._made: set[Path] = set()

    def write(self, names: Sequence[str], suffix: str, content: bytes) -> str:
        """Write a file under the first of ``names`` that is free and possible, or else under a spare one.

        Returns the name without ``suffix``. Raises DataError where nothing can be written.
        """
        for name in chain(names, (f"{self.spare}{number}" for number in self._numbers)):
            if name_fault(name) is None and self._written(self.folder / (name + suffix), content):
                return name
        raise AssertionError  # the numbers do not end

    def _written(self, path: Path, content: bytes) -> bool:
        try:
            if path.parent not in self._made:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._made.add(path.parent)
            with open(path, "xb") as file:
                file.write(content)
        except ValueError:  # characters that no file name can have
            return False
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
        return True


def plain_int(value: object) -> bool:
    """Return whether a value is a whole number of 64 bits."""
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def plain_float(value: object) -> float | None:
    """Return a number of a JSON text as a float, None where it is none or beyond a float's range."""
    if type(value) not in (int, float):
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:
        return None
