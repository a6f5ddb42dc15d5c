"""Images brought to where a written data set has them. No torch here."""

from __future__ import annotations

import filecmp
import os
import shutil
from pathlib import Path

from densedet.core.errors import DataError
from densedet.core.files import make_folder


def bring_image(image: str | os.PathLike[str] | bytes, destination: Path, *, link: bool) -> None:
    """Copy or link an image; one that is there already and the same stays.

    Args:
        image: its file, or its encoded content, which is written.
        destination: the file to make; its folder is made.
        link: whether to link it, by a hard link where possible.

    Raises:
        DataError: another image is there already, or the image cannot be brought.
    """
    make_folder(destination.parent)
    told = "an image of an annotation file" if isinstance(image, bytes) else os.fspath(image)
    try:
        if os.path.lexists(destination):
            if not _same(image, destination):
                raise DataError(f"another image is at {destination} already: rename it, or {told}")
        elif isinstance(image, bytes):
            destination.write_bytes(image)
        elif link:
            _link(Path(image), destination)
        else:
            shutil.copyfile(image, destination)
    except OSError as error:
        raise DataError(
            f"image {told} cannot be brought to {destination}: {error.strerror or error}"
        ) from error


def _same(image: str | os.PathLike[str] | bytes, destination: Path) -> bool:
    """Whether a file that is there may stay: it is the same image, or there is no image to bring."""
    if isinstance(image, bytes):
        return destination.is_file() and destination.read_bytes() == image
    return not os.path.exists(image) or (
        destination.is_file() and filecmp.cmp(image, destination, shallow=False)
    )


def _link(origin: Path, destination: Path) -> None:
    if not origin.is_file():
        raise FileNotFoundError(2, "it does not exist")
    try:
        destination.hardlink_to(origin)
    except OSError:  # another disk, or a file system without hard links
        destination.symlink_to(origin.resolve())
