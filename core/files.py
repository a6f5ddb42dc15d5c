"""Writing files that hold either their old or their new content, even after a power cut. No torch here."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from densedet.core.errors import BusyError, OutputError, UsageError
from densedet.core.text import visible

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a full disk, a used quota, and a file larger than the process may write."""

_MACHINE = re.sub(r"\W", "_", socket.gethostname())
_SWEPT: set[Path] = set()

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
        OutputError: the disk does not take it; what was there is left as it was.
    """
    if not overwrite and os.path.lexists(path):
        raise taken(path)
    make_folder(path.parent)
    try:
        sweep(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=".tmp")
    except OSError as error:
        raise unwritable(path, error) from error
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
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # A caller's own file may be at fault, too, but only a file that is written fills a disk.
        if isinstance(error, OSError) and (error.errno in FULL or error.filename == name):
            raise unwritable(path, error) from error
        raise


def make_folder(path: Path, advice: str = "give another path") -> None:
    """Make a folder, and those above it, where there is none.

    Args:
        path: the folder.
        advice: what to do where it cannot be made.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        advice = "make room on its disk" if error.errno in FULL else advice
        why = error.strerror or error
        raise OutputError(f"the folder {path} cannot be made ({why}): {advice}") from error


def unwritable(path: Path, error: OSError) -> OutputError:
    """Return the error that names the file and what to do."""
    advice = "make room on its disk" if error.errno in FULL else "look at its folder"
    if error.errno == errno.ENAMETOOLONG:
        advice = "give a shorter name"
    elif error.errno == errno.EISDIR:
        advice = "move the folder of this name away"
    kept = " What was there is as it was." if os.path.isfile(path) else ""
    return OutputError(f"{path} cannot be written ({error.strerror or error}): {advice}.{kept}")


@contextmanager
def temporary_folder(beside: Path) -> Iterator[Path]:
    """Make a hidden folder beside ``beside`` to fill; what has not been renamed is removed at the end.

    One that a killed process has left is removed by the next process that writes there.

    Args:
        beside: file or folder that the content is for; the folder that it lies in is made.

    Yields:
        The folder.

    Raises:
        OutputError: it cannot be made.
    """
    make_folder(beside.parent)
    sweep(beside.parent)
    try:
        folder = Path(tempfile.mkdtemp(dir=beside.parent, prefix=_prefix(beside), suffix=".tmp"))
        os.chmod(folder, 0o755)
    except OSError as error:
        raise unwritable(beside, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def filled_folder(path: Path) -> Iterator[Path]:
    """Make a folder that appears at ``path`` when all in it is written, and not at all where that fails.

    Args:
        path: the new folder; the folder that it lies in is made.

    Yields:
        A temporary folder to write into.

    Raises:
        UsageError: something is at ``path``.
        OutputError: the folder cannot be made.
    """
    check_free(path)
    with temporary_folder(path) as folder:
        yield folder
        check_free(path)
        os.rename(folder, path)


def move_all(folder: Path) -> None:
    """Move the files of a temporary folder beside it: all of them, or none where one is taken.

    A process that is killed meanwhile leaves links that `sweep` takes back.

    Raises:
        UsageError: something is at one of the names.
    """
    moved: list[Path] = []
    try:
        for file in sorted(folder.iterdir()):
            _place(file, folder.parent / file.name)
            moved.append(folder.parent / file.name)
    except BaseException:
        for path in moved:
            path.unlink()
        raise


def _prefix(path: Path) -> str:
    """Return how temporary names for a path begin: they tell `sweep` which process writes."""
    return f".{path.name}.{os.getpid()}@{_MACHINE}-"


def sweep(folder: Path) -> None:
    """Delete the temporary files and folders that killed processes of this machine have left in a folder,
    once for each process and folder."""
    if folder in _SWEPT:
        return
    _SWEPT.add(folder)
    for file in folder.glob(".*.tmp"):
        writer = re.fullmatch(rf"\..+\.([0-9]+)@{re.escape(_MACHINE)}-\w+\.tmp", file.name)
        if writer:
            with contextlib.suppress(OSError):
                if not _may_write(int(writer[1]), since=file.stat().st_mtime):
                    _remove_folder(file) if file.is_dir() else file.unlink()


def _remove_folder(folder: Path) -> None:
    """Remove a temporary folder, and its files that `move_all` has moved where it did not come to all."""
    files = list(folder.iterdir())
    moved = [file for file in files if _same(file, folder.parent / file.name)]
    if len(moved) < len(files):
        for file in moved:
            (folder.parent / file.name).unlink()
    shutil.rmtree(folder)


def _same(file: Path, other: Path) -> bool:
    return os.path.lexists(other) and file.is_file() and file.samefile(other)


def _may_write(process: int, *, since: float) -> bool:
    """Whether a process runs that may have written at a time; its number may be another's by now."""
    import psutil

    try:
        return bool(psutil.Process(process).create_time() <= since + 1)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


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


def content_of(path: str) -> str:
    """Return a digest of a file's bytes; ``path`` itself, such as a module's name, where there is no file."""
    try:
        state = os.stat(path)
        return _content(path, state.st_mtime_ns, state.st_size)
    except (OSError, ValueError):
        return path


@lru_cache(maxsize=1024)
def _content(path: str, time: int, size: int) -> str:
    """Read a file once for each of its states: weights are large."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_free(*paths: Path) -> None:
    """Raise UsageError where something is at one of the paths, before the work whose result goes there."""
    for path in paths:
        if os.path.lexists(path):
            raise taken(path)


def taken(path: Path) -> UsageError:
    """Return the error that something is at a path which would be overwritten."""
    return UsageError(f"{path} is there already, and nothing is overwritten: give another name")


def rename_new(temporary: Path, path: Path) -> None:
    """Rename a file where nothing is; of several processes one can. Raises UsageError."""
    _place(temporary, path)
    temporary.unlink(missing_ok=True)


def _place(temporary: Path, path: Path) -> None:
    """Link a file to where nothing is, or rename it where the disk has no links."""
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
            with contextlib.suppress(OSError):
                holder.unlink()
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

    Raises:
        OutputError: the disk does not take a line, or the file has been deleted meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise unwritable(path, error) from error

    def write(self, line: str) -> None:
        """Add one line of text."""
        data = line.encode() + b"\n"
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise unwritable(self.path, error) from error
        if os.fstat(self._file.fileno()).st_nlink == 0:
            raise OutputError(f"{self.path} has been deleted while it is written: begin anew elsewhere")

    def sync(self) -> None:
        """Bring the lines to the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritable(self.path, error) from error

    def close(self) -> None:
        """Bring the lines to the disk and close the file."""
        try:
            self.sync()
        finally:
            self._file.close()
