"""What `densedet predict` leaves: a folder with results and pictures, which vanishes where the call fails."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from densedet.core.text import json_text

if TYPE_CHECKING:
    from densedet.core.data.decoding import Decoding
    from densedet.core.types import Detections

SPARE = 64 << 20
"""Bytes of the disk that pictures leave free."""


def empty_folder(folder: Path) -> Path:
    """Make ``folder`` if need be and return it. UsageError where it holds something."""
    from densedet.core.errors import UsageError
    from densedet.core.files import make_folder

    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--output {folder} is there already and not empty: give another folder")
    make_folder(folder, "give another --output")
    return folder


def tiling_of(predictor: Any, text: str | None) -> dict[str, Any]:
    """Return what --tiles adds to the arguments of ``predictor.stream``.

    Raises:
        UsageError: ``text`` is no tiling, or the detector is an exported file.
    """
    from densedet.core.errors import UsageError

    if text is None:
        return {}
    if not hasattr(predictor, "tiling"):
        raise UsageError("--tiles needs a run folder, a checkpoint or a recipe, not an exported file")
    return {"tiling": predictor.tiling(text)}


@contextlib.contextmanager
def output_folder(given: str | None) -> Iterator[Path]:
    """Make the folder of one call; where the call fails, it vanishes with what was written into it.

    Args:
        given: the user's choice, which must hold nothing; None: runs/predict/N.
    """
    from densedet.core.training.folders import new_folder

    folder = empty_folder(Path(given)) if given else new_folder(Path("runs"), "predict")
    try:
        yield folder
    except BaseException:
        for picture in folder.glob("[0-9]*_*.jpg"):
            picture.unlink()
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise


class ResultRows:
    """Writes a list of rows as JSON, some at a time.

    Args:
        file: gets UTF-8.

    Attributes:
        rows: number of rows so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.rows = file, 0

    def __call__(self, rows: list[dict[str, Any]]) -> None:
        """Add rows."""
        if rows:
            before = ",\n" if self.rows else "[\n"
            self._file.write((before + json_text(rows, indent=0)[2:-2]).encode())
            self.rows += len(rows)

    def close(self) -> None:
        """Write the end of the list."""
        self._file.write(b"\n]" if self.rows else b"[]")


@contextlib.contextmanager
def results_file(path: Path) -> Iterator[ResultRows]:
    """Open a new file for rows, which is there when all of them are."""
    from densedet.core.files import atomic_file

    with atomic_file(path, overwrite=False) as file:
        rows = ResultRows(file)
        yield rows
        rows.close()


class Pictures:
    """Draws detections on their images, in threads, beside the network's work.

    Results are worth more than pictures: no picture takes the last `SPARE` bytes of the disk, and one that
    cannot be written stops nothing.

    Args:
        folder: where the pictures go.
        files: the images.
        decoding: how they become pixels.

    Attributes:
        unwritten: number of pictures that could not be written.
        fault: the first image of those, and why.
    """

    def __init__(self, folder: Path, files: Sequence[Path], decoding: Decoding) -> None:
        self._folder, self._files, self._decoding = folder, files, decoding
        self.unwritten, self.fault = 0, ""

    def drawn(self, found: Iterator[tuple[int, Detections]]) -> Iterator[None]:
        """Draw the detections of each image; one step of the iteration an image."""
        from densedet.core.data.ahead import made_ahead
        from densedet.core.machine import usable_cores

        cores = usable_cores()
        for name, fault in made_ahead(self._draw, found, threads=cores, count=4 * cores):
            if fault:
                self.fault = self.fault or f"{name}: {fault}"
                self.unwritten += 1
            yield

    def _draw(self, numbered: tuple[int, Detections]) -> tuple[str, str]:
        """Return the image's name, and why its picture could not be written, or ""."""
        from densedet.core.data.decoding import open_image
        from densedet.core.errors import sentence

        index, found = numbered
        file = self._files[index]
        picture = self._folder / picture_name(index, file)
        try:
            if shutil.disk_usage(self._folder).free < SPARE:
                return file.name, f"the last {SPARE >> 20} MB of the disk are kept for the results"
            found.draw(open_image(file, self._decoding)).save(picture, quality=90)
        except Exception as error:
            picture.unlink(missing_ok=True)
            return file.name, sentence(error)
        return file.name, ""


def picture_name(index: int, file: Path) -> str:
    """Return the name of an image's picture, which a file system takes however long the image's name is."""
    stem = os.fsencode(file.stem)[:200].decode("utf-8", "replace")
    return f"{index:05d}_{stem}.jpg"
