"""Writing files that hold either their old or their new content, even after a power cut. No torch here."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Make a temporary name beside ``path``, for writers that open files themselves.

    The file is synced and renamed at the end, and removed on failure.

    Args:
        path: file to replace; its folder is made.

    Yields:
        The temporary name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces ``path`` when it is closed without an error.

    Args:
        path: file to replace; its folder is made.

    Yields:
        The file, open for writing bytes.
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        yield file
        file.flush()


def write_text(path: Path, text: str) -> None:
    """Replace a file's content by text in UTF-8.

    Args:
        path: file to replace; its folder is made.
        text: the new content.
    """
    with atomic_file(path) as file:
        file.write(text.encode())
