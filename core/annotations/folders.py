"""Folders that are made whole or not at all, and the file names in one. No torch here."""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from densedet.core.annotations.image_header import SUFFIXES, UNREADABLE
from densedet.core.errors import DataError
from densedet.core.files import rename_new, temporary_folder
from densedet.core.text import counted


def is_free(path: Path) -> bool:
    """Return whether a folder may be made there: there is nothing, or an empty folder."""
    return not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir()))


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path`` to fill; it is renamed at the end and removed on failure.

    Raises:
        DataError: something is there already.
    """
    if not is_free(path):
        raise _taken(path)
    with temporary_folder(path) as temporary:
        yield temporary
        try:
            if path.is_dir():
                path.rmdir()
            os.rename(temporary, path)  # fails where another process has filled a folder meanwhile
        except (FileExistsError, NotADirectoryError) as error:
            raise _taken(path) from error
        except OSError as error:
            raise (_taken(path) if error.errno == errno.ENOTEMPTY else error) from error


def _taken(path: Path) -> DataError:
    return DataError(f"{path} is there already and not empty: give another name")


@contextmanager
def addition(path: Path, *, last: str) -> Iterator[Path]:
    """Give a temporary folder to fill; its content is moved into the folder ``path`` at the end.

    On any failure, what was moved is taken out again.

    Args:
        path: the folder; it stays as it is otherwise.
        last: the file (relative, "/" between folders) by which the rest counts. It is moved after all others,
            and it alone may replace a file that is there, which is to be read in the block.

    Raises:
        DataError: another file is there already, ``last`` has changed during the block, or a file cannot be
            moved.
    """
    final = path.joinpath(*last.split("/"))
    before = _state(final)
    moved: list[Path] = []
    with temporary_folder(path / "adding") as temporary:
        try:
            yield temporary
            held = temporary.joinpath(*last.split("/")).rename(temporary / ".last.tmp")
            for origin, target in _moves(temporary, path, held):
                os.rename(origin, target) if origin.is_dir() else rename_new(origin, target)
                moved.append(target)
            final.parent.mkdir(parents=True, exist_ok=True)
            if _state(final) != before:
                raise DataError(f"{final} was changed by another process meanwhile: do it again")
            os.replace(held, final)
        except BaseException as error:
            for target in reversed(moved):
                shutil.rmtree(target) if target.is_dir() else target.unlink()
            if isinstance(error, OSError):
                raise DataError(f"{path} cannot be added to: {error.strerror or error}") from error
            raise


def _state(file: Path) -> tuple[int, ...] | None:
    """Return what tells one content of a file from another; None where there is no file."""
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _moves(origin: Path, target: Path, held: Path) -> list[tuple[Path, Path]]:
    """Return (from, to) below two folders; a folder that is not there yet is moved whole.

    Raises DataError where a file is there already.
    """
    moves = []
    for entry in sorted(origin.iterdir()):
        place = target / entry.name
        if entry == held:
            continue
        if not os.path.lexists(place):
            moves.append((entry, place))
        elif entry.is_dir() and place.is_dir():
            moves += _moves(entry, place, held)
        else:
            raise DataError(
                f"{place} is there already, and nothing is overwritten: give another folder or split, "
                f"or rename the image"
            )
    return moves


def added_by_macos(name: str) -> bool:
    """Return whether a file or folder of this name was added by macOS to a folder or archive."""
    return name.startswith("._") or name == "__MACOSX"


class FileNames:
    """The names of all files below a folder, "/" between folders, listed once.

    Links to folders are not followed. What macOS adds to folders and archives (``._NAME``, ``__MACOSX``) does
    not count.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def names(self) -> frozenset[str]:
        """All names."""
        found = []
        for place, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if not added_by_macos(name)]
            below = os.path.relpath(place, self.folder).replace(os.sep, "/")
            prefix = "" if below == "." else f"{below}/"
            found += [prefix + name for name in files if not added_by_macos(name)]
        return frozenset(found)

    @cached_property
    def images(self) -> list[str]:
        """The names with the suffix of an image that can be read, sorted; hidden files are left out."""
        return self._visible(SUFFIXES)

    @cached_property
    def unreadable(self) -> list[str]:
        """The names with the suffix of an image that cannot be read here, sorted."""
        return self._visible(UNREADABLE)

    def left_out(self) -> str:
        """Return a sentence about images whose format cannot be read; empty where there is none."""
        names = self.unreadable
        if not names:
            return ""
        kinds = Counter(os.path.splitext(name)[1].lower() for name in names)
        counts = ", ".join(f"{count} {suffix}" for suffix, count in kinds.most_common())
        return (
            f"{counted(len(names), 'image')} left out, because the format cannot be read here ({counts}): "
            f"convert to JPEG or PNG "
            f"({self.folder / names[0]}{', ...' if len(names) > 1 else ''})"
        )

    def _visible(self, suffixes: frozenset[str]) -> list[str]:
        found = (name for name in self.names if os.path.splitext(name)[1].lower() in suffixes)
        return sorted(name for name in found if not any(part.startswith(".") for part in name.split("/")))

    @cached_property
    def _stems(self) -> dict[str, str]:
        return {os.path.splitext(name)[0]: name for name in reversed(self.images)}

    def image_of(self, stem: str) -> str | None:
        """Return the image called ``stem`` and some suffix, the first of several; None if there is none."""
        return self._stems.get(stem)
