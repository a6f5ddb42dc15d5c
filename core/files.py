"""Writing files that hold either their old or their new content, even after a power cut. No torch here."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from densedet.core.errors import BusyError, UsageError
from densedet.core.text import visible

ORPHANS = 15.0
"""Seconds in which a loader's workers notice that their process was killed; until then they may hold its
lock."""


@contextmanager
def atomic_path(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Make a temporary name beside ``path``, for writers that open files themselves.

    The file is synced and renamed at the end, and removed on failure.

    Args:
        path: file to replace; its folder is made.
        overwrite: whether a file that is there may be replaced. False holds to the end: of several processes
            that write one new file, one succeeds.

    Yields:
        The temporary name.

    Raises:
        UsageError: something is there, and it may not be replaced.
    """
    if not overwrite and os.path.lexists(path):
        raise taken(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        if overwrite:
            os.replace(temporary, path)
        else:
            rename_new(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))}
"""Names that Windows keeps for devices, whatever their suffix."""


def name_fault(name: str) -> str:
    """Return why no folder should have this name, or "" where it may."""
    if not name.strip(". "):
        return f"{name!r} is no name"
    if visible(name) != name or set(name) & set('/\\:*?"<>|'):
        return f"{name!r} holds a character that no folder's name should have"
    if name != name.strip(" ") or name.endswith(".") or name.partition(".")[0].lower() in RESERVED:
        return f"Windows knows no folder {name!r}"
    return f"{name[:40]!r}... is too long" if len(name.encode()) > 200 else ""


def taken(path: Path) -> UsageError:
    """Return the error that something is at a path which would be overwritten."""
    return UsageError(f"{path} is there already, and nothing is overwritten: give another name")


def rename_new(temporary: Path, path: Path) -> None:
    """Rename a file where nothing is; of several processes one can. Raises UsageError."""
    try:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # FAT and some network disks have no links
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            try:
                os.replace(temporary, path)
            except BaseException:
                path.unlink()
                raise
        else:
            temporary.unlink()
    except FileExistsError as error:
        raise taken(path) from error


@contextmanager
def atomic_file(path: Path, *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """Open a file that becomes ``path`` when it is closed without an error.

    Args:
        path: file to replace; its folder is made.
        overwrite: see `atomic_path`.

    Yields:
        The file, open for writing bytes.

    Raises:
        UsageError: something is there, and it may not be replaced.
    """
    with atomic_path(path, overwrite=overwrite) as temporary, open(temporary, "wb") as file:
        yield file
        file.flush()


def _holder(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return "another process"


def _lives(holder: str) -> bool:
    """Whether the process that a lock names may be alive; one on another machine may."""
    import psutil

    found = re.fullmatch(r"process (\d+) on (.*)", holder)
    return found is None or found[2] != socket.gethostname() or psutil.pid_exists(int(found[1]))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from using a folder, until the block or this process ends, however it ends.

    A block within a block of this process is fine. Where a disk knows no locks, nothing is locked.

    Args:
        folder: an existing folder; two hidden files in it name the holder.

    Raises:
        BusyError: another process has it locked.
    """
    import filelock

    lock = filelock.FileLock(folder / ".lock", timeout=0, is_singleton=True)
    holder = folder / ".holder"
    try:
        try:
            lock.acquire()
        except filelock.Timeout:
            if _lives(who := _holder(holder)):
                raise
            lock.acquire(timeout=ORPHANS)
    except filelock.Timeout:
        raise BusyError(f"{folder} is in use by {who}: wait until it has ended, or stop it first") from None
    except (OSError, NotImplementedError):
        yield
        return
    try:
        if lock.lock_counter == 1:
            write_text(holder, f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        if lock.lock_counter == 1:
            holder.unlink(missing_ok=True)
        lock.release()


def write_text(path: Path, text: str, *, overwrite: bool = True) -> None:
    """Replace a file's content by text in UTF-8.

    Args:
        path: file to replace; its folder is made.
        text: the new content.
        overwrite: see `atomic_path`.

    Raises:
        UsageError: something is there, and it may not be replaced.
    """
    with atomic_file(path, overwrite=overwrite) as file:
        file.write(text.encode())


class LineFile:
    """A file that grows by lines, each of which reaches the system whole before `write` returns.

    Args:
        path: file to add to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115

    def write(self, line: str) -> None:
        """Add one line of text."""
        data = line.encode() + b"\n"
        while data:
            data = data[self._file.write(data) :]

    def sync(self) -> None:
        """Bring the lines to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Bring the lines to the disk and close the file."""
        self.sync()
        self._file.close()
