"""Files of tensors and plain values that carry a SHA-256 over their own bytes.

torch writes a zip archive whose end record has an empty comment. The digest becomes that comment, so that
``torch.load`` and every zip tool still read the file, and any other byte than those that were written is
noticed before anything is unpickled.
"""

from __future__ import annotations

import hashlib
import os
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from densedet.core.files import atomic_file

MARK = b"densedet sha256 "
NO_COMMENT = b"\0\0"
"""The end of a zip archive without a comment: its length as two bytes."""

TAIL_BYTES = len(NO_COMMENT) + len(MARK) + 2 * hashlib.sha256().digest_size
CHUNK = 1 << 20

GLOBALS = {
    "collections OrderedDict",
    "torch.storage UntypedStorage",
    *(f"torch._utils _rebuild_{what}" for what in ("tensor_v2", "tensor_v3", "parameter")),
    *(f"torch {name}" for name in dir(torch) if name.endswith("Storage")),
    *(f"torch {name}" for name, value in vars(torch).items() if isinstance(value, torch.dtype)),
}
"""What the pickle of tensors and plain values names. torch allows more: some of it takes memory at will."""

NAMING = ("GLOBAL", "INST", "OBJ", "EXT")
"""Parts of the names of pickle's operations that look something up by its name."""


def write(path: Path, value: Any) -> None:
    """Write ``value`` atomically with its digest.

    Args:
        path: file to replace; its folder is made.
        value: dicts, lists, tuples, tensors and plain values.

    Raises:
        OSError: the disk does not take it; the old file is left as it was.
    """
    with atomic_file(path) as file:
        hashed = _Hashed(file)
        try:
            torch.save(value, hashed)  # type: ignore[arg-type]
        except RuntimeError as error:
            raise hashed.error or error from error
        file.seek(-len(NO_COMMENT), os.SEEK_END)
        file.write(_tail(hashed.digest))


def write_archive(path: Path, content: bytes) -> None:
    """Write a zip archive atomically with its digest.

    Args:
        path: file to replace; its folder is made.
        content: the archive, which has no comment.

    Raises:
        OSError or OutputError: the disk does not take it; the old file is left as it was.
    """
    with atomic_file(path) as file:
        file.write(content[: -len(NO_COMMENT)])
        file.write(_tail(hashlib.sha256(content)))


def read(path: Path) -> Any:
    """Read a file that `write` has written, onto the CPU.

    Raises:
        ValueError: a byte of it has changed, or it holds more than tensors and plain values; with the reason.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:  # once: the file may be replaced meanwhile
        check_seal(file)
        try:
            _check_content(file)
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:
            raise ValueError(" ".join(str(error).split())[:200] or type(error).__name__) from error


def read_foreign(path: Path) -> Any:
    """Read any file of torch's onto the CPU, once the checksums of a zip archive's entries are compared;
    torch's old format has none.

    Raises:
        ValueError: a checksum is wrong.
        OSError: it cannot be read.
        Exception: what torch raises where it cannot read it.
    """
    with open(path, "rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                broken = archive.testzip()
            if broken:
                raise ValueError(f"it is damaged: the checksum of {broken} is wrong")
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)


def check_seal(file: BinaryIO) -> None:
    """Compare the bytes of an open file with the digest at its end.

    Raises:
        ValueError: there is no digest, or it is of other bytes.
    """
    left = file.seek(0, os.SEEK_END) - TAIL_BYTES
    file.seek(max(left, 0))
    tail = file.read()
    if left < 0 or not tail.startswith(MARK, len(NO_COMMENT)):
        raise ValueError("it was cut off, or densedet has not written it: it does not end with its checksum")
    file.seek(0)
    digest = hashlib.sha256()
    while left:
        chunk = file.read(min(CHUNK, left))
        digest.update(chunk)
        left -= len(chunk)
    digest.update(NO_COMMENT)
    if tail != _tail(digest):
        raise ValueError("it was changed or damaged since it was written: its checksum is another")


def damage(path: Path) -> str | None:
    """Say why the bytes of a file are not those that `write` wrote; None where they are."""
    try:
        with open(path, "rb") as file:
            check_seal(file)
    except ValueError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _tail(digest: hashlib._Hash) -> bytes:
    comment = MARK + digest.hexdigest().encode()
    return struct.pack("<H", len(comment)) + comment


def _check_content(file: BinaryIO) -> None:
    """Refuse an archive that unpacks to more than its own size, and a pickle that names anything else than
    tensors."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if packed or len(pickles) != 1 or len(set(names)) != len(names):
            raise ValueError("torch has not written it")
        for operation, argument, _ in pickletools.genops(archive.read(pickles[0])):
            if any(part in operation.name for part in NAMING) and argument not in GLOBALS:
                raise ValueError(f"it holds more than tensors and plain values: {argument}")


class _Hashed:
    """A file that hashes what is written to it.

    torch's writer hides the error of a full disk behind one of its own; it is kept here.

    Attributes:
        digest: of all bytes so far.
        error: what the file raised, or None.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()
