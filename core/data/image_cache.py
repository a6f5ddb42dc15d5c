"""A cache of decoded images on disk: a JPEG is decoded once for all epochs, seeds and recipes of one size."""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import shutil
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import platformdirs
import torch
from torch import Tensor

from densedet.core.annotations.source import sizes_of
from densedet.core.annotations.views import base_of
from densedet.core.contracts import ImageData, Resize, Source
from densedet.core.data import decoding as decode
from densedet.core.errors import DataError, OutputError
from densedet.core.files import write_text

FORMAT = 1
ENTRY = struct.Struct("<QII")
"""Of each image: its identity (see `identity_of`; 0: not cached yet), the checksum of its pixels, padding."""

GENERATED = 1
"""The identity of an image that is no file: the key of the cache covers it by the source's fingerprint."""

TRIES = 3
"""Another process may delete an older cache of the same annotations while this one opens it."""

SPARE = 1 << 28
"""Bytes that must stay free on the disk."""


def cache_root(folder: str | None = None) -> Path:
    """Return ``folder``, or else $DENSEDET_CACHE, or else the user's cache folder."""
    chosen = folder or os.environ.get("DENSEDET_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("densedet", appauthor=False)


def holds_caches(folder: Path) -> bool:
    """Return whether caches of decoded images lie in ``folder``."""
    return next(folder.glob("*/about.json"), None) is not None


class ImageCache:
    """The decoded and resized images of a source, in files.

    The folder is named by a hash of the source's fingerprint, the colour and every image's placement, so that
    all runs that want the same pixels share it. Several processes may use it at once; each adds the images
    that are missing. An entry counts only while the image file stays as it is (see `identity_of`) and if its
    checksum is right (which each process checks once), so that a machine that died while writing does no
    harm. Folders that were made from an older state of the same annotation files are deleted as soon as no
    process uses them.

    Args:
        source: the source; of a `Subset` the source beneath it, whose positions the methods take.
        resize: gives each image's placement.
        decoding: how images become pixels.
        folder: where caches lie; None: see `cache_root`.

    Attributes:
        bytes: size when all images are there; the files are sparse until then.
        folder: the folder of this cache.
    """

    def __init__(
        self, source: Source, *, resize: Resize, decoding: decode.Decoding, folder: str | None = None
    ) -> None:
        base, _ = base_of(source)
        self._plan(base, resize, 1 if decoding.color == "grey" else 3)
        key = hashlib.blake2b(digest_size=16)
        look = f"{decoding.color} {decoding.value_range}"
        key.update(f"{FORMAT} {decode.VERSION} {base.fingerprint()} {look} {self.dtype}\0".encode())
        key.update(self._shapes.tobytes())
        self.root = cache_root(folder)
        self.folder = self.root / key.hexdigest()
        self._about = {
            "location": getattr(base, "location", None),
            "fingerprint": base.fingerprint(),
            "bytes": self.bytes,
            "images": len(base),
        }
        self._opened: _Files | None = None
        self._process = 0

    def _plan(self, base: Source, resize: Resize, channels: int) -> None:
        """Set the shapes (I,3), offsets (I+1,) and dtype of the images, from their sizes in the source."""
        distinct, which = np.unique(sizes_of(base), axis=0, return_inverse=True)
        placements = [resize(int(width), int(height)) for width, height in distinct]
        exact = any(not p.antialias for p in placements)
        self.dtype = "float32" if exact else "uint8"
        shapes = np.array([(channels, p.height, p.width) for p in placements], dtype=np.int64).reshape(-1, 3)
        self._shapes = shapes[which.reshape(-1)]
        self._offsets = np.append(0, np.cumsum(self._shapes.prod(1) * np.dtype(self.dtype).itemsize))
        self.bytes = int(self._offsets[-1])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None, "_process": 0}

    def announcement(self) -> str:
        """Return a sentence about the space that the cache takes."""
        there = self.folder.is_dir()
        return (
            f"cache: {self.bytes / 1e6:,.0f} MB for {len(self._shapes):,} decoded images in {self.folder}"
            + (" (from before)" if there else "")
        )

    def missing(self) -> float:
        """Return the share of the images that are not there yet, 0..1. Nothing is opened or made."""
        try:
            rows = np.fromfile(self.folder / "entries.bin", dtype="<u8").reshape(-1, ENTRY.size // 8)
        except (OSError, ValueError):
            return 1.0
        return 1.0 - float((rows[:, 0] != 0).sum()) / max(1, len(self._shapes))

    def check_space(self) -> None:
        """Raise DataError where the disk is too small for the complete cache. Nothing is written."""
        parent = next(folder for folder in (self.folder, *self.folder.parents) if folder.is_dir())
        free = shutil.disk_usage(parent).free
        there = sum(getattr(f.stat(), "st_blocks", 0) * 512 for f in self.folder.glob("*.bin"))
        if self.bytes - there + SPARE > free:
            raise DataError(
                f"the cache of decoded images needs {self.bytes / 1e6:,.0f} MB in {self.root} and "
                f"the disk has {free / 1e6:,.0f} MB free: "
                "set data.cache_folder to another disk, or data.cache_gb to 0 to decode every time"
            )

    def _prepare(self) -> None:
        """Make the files and delete those of an older state.

        Raises:
            DataError: the folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, size in (("pixels.bin", self.bytes), ("entries.bin", ENTRY.size * len(self._shapes))):
                with open(self.folder / name, "ab") as file:
                    if file.tell() < size:
                        file.truncate(size)
            # A page that is mapped and not on the disk kills the process where the disk is full.
            if len(self._shapes) and hasattr(os, "posix_fallocate"):
                with open(self.folder / "entries.bin", "r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, ENTRY.size * len(self._shapes))
            write_text(self.folder / "about.json", json.dumps(self._about))
        except (OSError, OutputError) as error:
            raise DataError(
                f"the cache of decoded images cannot be made in {self.folder} "
                f"({getattr(error, 'strerror', None) or error}): set data.cache_folder to another disk, or "
                f"data.cache_gb to 0 to decode every time"
            ) from error
        self._delete_older()

    def _delete_older(self) -> None:
        if self._about["location"] is None:
            return
        for about in self.root.glob("*/about.json"):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                known = json.loads(about.read_text())
                if (
                    known["location"] == self._about["location"]
                    and known["fingerprint"] != self._about["fingerprint"]
                    and not _in_use(about.parent)
                ):
                    shutil.rmtree(about.parent, ignore_errors=True)

    def _files(self) -> _Files:
        if self._process != os.getpid():
            if self._opened is not None:
                _INHERITED.append(self._opened)
            self._opened, self._process = self._open(), os.getpid()
        assert self._opened is not None
        return self._opened

    def _open(self) -> _Files:
        for _ in range(TRIES):
            self._prepare()
            with contextlib.suppress(FileNotFoundError):
                return _Files(self.folder, len(self._shapes))
        raise DataError(
            f"the cache of decoded images vanishes from {self.folder}: leave it while runs use it"
        )

    def identity(self, index: int) -> int:
        """Return the identity of the file that image ``index`` was decoded from, 0 where it is not cached."""
        return int(ENTRY.unpack_from(self._files().entries, index * ENTRY.size)[0])

    def get(self, index: int) -> Tensor | None:
        """Return a copy of image ``index`` as a tensor (ch,h,w), or None where pixels are missing or their
        checksum is wrong."""
        files = self._files()
        start, end = int(self._offsets[index]), int(self._offsets[index + 1])
        pixels = files.read(start, end - start)
        if len(pixels) < end - start:
            return None
        if not files.verified[index]:
            if zlib.crc32(pixels) != ENTRY.unpack_from(files.entries, index * ENTRY.size)[1]:
                return None
            files.verified[index] = True
        return torch.from_numpy(np.frombuffer(pixels, dtype=self.dtype).reshape(self._shapes[index]))

    def put(self, index: int, identity: int, image: Tensor) -> None:
        """Store image ``index``, a tensor (ch,h,w). On a full disk it is silently not stored."""
        pixels = image.contiguous().numpy()
        if pixels.dtype != self.dtype or pixels.shape != tuple(self._shapes[index]):
            return
        files = self._files()
        if files.write("pixels.bin", pixels.tobytes(), int(self._offsets[index])):
            files.write("entries.bin", ENTRY.pack(identity, zlib.crc32(pixels.data), 0), index * ENTRY.size)
        files.verified[index] = False


_INHERITED: list[_Files] = []
"""Files of the process that this one was forked from. They stay open: closing them would release its lock."""


def _in_use(folder: Path) -> bool:
    """Whether a process has a cache open. Locks that processes have left behind are deleted."""
    for file in folder.glob("*.lock"):
        lock = filelock.FileLock(file, timeout=0)
        try:
            lock.acquire()
        except (filelock.Timeout, NotImplementedError, OSError):
            return True
        lock.release()
        file.unlink(missing_ok=True)
    return False


class _Files:
    """The files of a cache, open in one process, which holds a lock as long."""

    def __init__(self, folder: Path, images: int) -> None:
        name = f"{socket.gethostname()}-{os.getpid()}.lock"
        self._lock = filelock.FileLock(folder / name, timeout=0, is_singleton=True)
        with contextlib.suppress(filelock.Timeout, NotImplementedError, PermissionError):
            self._lock.acquire()
        self._handles = {
            name: os.open(folder / name, os.O_RDWR | getattr(os, "O_BINARY", 0))
            for name in ("pixels.bin", "entries.bin")
        }
        self.entries = mmap.mmap(self._handles["entries.bin"], 0, access=mmap.ACCESS_READ)
        self.verified = np.zeros(images, dtype=bool)

    def read(self, at: int, size: int) -> bytearray:
        """Read pixels, fewer bytes where the file is shorter.

        They are not mapped: the pages of a mapped file count as memory of each process that has looked at
        them, and would grow to the size of the file over an epoch.
        """
        pixels = bytearray(size)
        if hasattr(os, "preadv"):
            return pixels[: os.preadv(self._handles["pixels.bin"], [pixels], at)]
        os.lseek(self._handles["pixels.bin"], at, os.SEEK_SET)
        pixels[:] = os.read(self._handles["pixels.bin"], size)
        return pixels

    def write(self, name: str, data: bytes, at: int) -> bool:
        """Write and return whether all of it is there: a full disk takes a part, or nothing."""
        with contextlib.suppress(OSError):
            if hasattr(os, "pwrite"):
                return os.pwrite(self._handles[name], data, at) == len(data)
            os.lseek(self._handles[name], at, os.SEEK_SET)
            return os.write(self._handles[name], data) == len(data)
        return False

    def __del__(self) -> None:
        self._lock.release()
        for handle in getattr(self, "_handles", {}).values():
            with contextlib.suppress(OSError):
                os.close(handle)


def identity_of(image: ImageData) -> int:
    """Return a number for the state of an image file, from its path, size, times of change and inode.

    The time at which the system last changed the inode is among them, which no program can set: another file
    of the same size and time is told apart. An image that is no file, and a path where there is none, give
    `GENERATED`.
    """
    if not isinstance(image, (str, os.PathLike)):
        return GENERATED
    try:
        state = os.stat(image)
    except OSError:
        return GENERATED
    numbers = (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
    text = f"{os.fspath(image)}\0{numbers}"
    return (
        int.from_bytes(
            hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little"
        )
        | 2
    )


def fitting_cache(
    source: Source, *, resize: Resize, decoding: decode.Decoding, limit_gb: float, folder: str | None
) -> tuple[ImageCache | None, str]:
    """Plan the cache of a source, unless it would be larger than ``limit_gb``. Its files are made with the
    first image.

    Returns:
        The cache, or None, and a sentence for the user.

    Raises:
        DataError: the disk is too small.
    """
    if limit_gb <= 0 or not len(source):
        return None, ""
    cache = ImageCache(source, resize=resize, decoding=decoding, folder=folder)
    if cache.bytes > limit_gb * 1e9:
        return (
            None,
            f"no cache: {cache.bytes / 1e9:,.1f} GB of decoded images are more than data.cache_gb "
            f"({limit_gb:g}); images are decoded every time",
        )
    cache.check_space()
    return cache, cache.announcement()
