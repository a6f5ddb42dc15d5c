"""Image files and folders of them, as a user names them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from densedet.core.annotations.folders import FileNames
from densedet.core.errors import DataError


def find_images(paths: Sequence[str | Path]) -> tuple[list[Path], list[str]]:
    """Find the images that a user means.

    Args:
        paths: files, which count whatever their names, and folders, of which the images count, those in
            sub-folders too.

    Returns:
        The files in the order of ``paths``, sorted within a folder, each once; and a sentence for each folder
        with images whose format cannot be read.

    Raises:
        DataError: there is nothing at a path, or no image in a folder.
    """
    found: dict[Path, None] = {}
    left_out: list[str] = []
    for path in map(Path, paths):
        if os.path.isdir(path):
            listing = FileNames(path)
            sentence = listing.left_out()
            if not listing.images:
                raise DataError(
                    f"there are no images in {path} that can be read{sentence and f': {sentence}'}"
                )
            left_out += [sentence] if sentence else []
            found |= dict.fromkeys(path / name for name in listing.images)
        elif os.path.isfile(path):
            found[path] = None
        else:
            raise DataError(f"there is no image or folder at {path}")
    return list(found), left_out
