"""The ids of images in a results file: those of a data set that has the images, else numbers."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from densedet.core import assembly
from densedet.core.annotations.source import TableSource
from densedet.core.annotations.table import image_ids_of
from densedet.core.errors import DataError, DensedetError
from densedet.core.recipe.loading import Recipe


def ids_in(source: TableSource, files: Sequence[Path]) -> list[int | str]:
    """Return the id of each file in a data set.

    A file is the image of the same path, or else of the same name, as far as that is unique: the name with
    its folders first, then without.

    Args:
        source: the data set.
        files: image files, wherever they lie.

    Raises:
        DataError: a file is not in the data set, or two are the same image of it.
    """
    table = source.table
    places = {os.path.abspath(source.image(index)): index for index in range(len(table))}
    names: dict[str, list[int]] = defaultdict(list)
    for index in range(len(table)):
        names[table.name(index).rpartition("/")[2]].append(index)

    def position(file: Path) -> int | None:
        path = os.path.abspath(file)
        if path in places:
            return places[path]
        alike = names.get(file.name, [])
        below = [index for index in alike if Path(path).as_posix().endswith(f"/{table.name(index)}")]
        longest = sorted(below, key=lambda index: len(table.name(index)))[-1:]
        return next(iter(longest or (alike if len(alike) == 1 else [])), None)

    found = [position(file) for file in files]
    missing = [file for file, index in zip(files, found) if index is None]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(files)} images are not among the {len(table)} of the annotations "
            f"({missing[0]}, for one): give the images or the annotations of the same data set"
        )
    [(commonest, count)] = Counter(found).most_common(1) or [(None, 1)]
    if count > 1:
        twice = [str(file) for file, index in zip(files, found) if index == commonest]
        raise DataError(f"{' and '.join(twice[:2])} are the same image of the annotations: give one of them")
    return [table.image_id(index) for index in found if index is not None]


def image_ids(files: Sequence[Path], recipe: Recipe) -> tuple[list[int | str], str]:
    """Return an id for each file, and a sentence about them.

    They are those of the recipe's validation or training images, where all files lie among them; else the
    numbers in the file names, where all names are numbers; else 1, 2, 3 ...

    Args:
        files: image files.
        recipe: its sources are looked at; they need not be there.
    """
    for split in ("val", "train"):
        try:
            source = assembly.build_source(recipe, split)
            if isinstance(source, TableSource) and _all_below(files, source.images_folder):
                return ids_in(source, files), f"image ids are those of the recipe's data.{split}"
        except DensedetError:  # the data need not be on this machine
            continue
    ids: list[int | str] = list(image_ids_of([file.stem for file in files]))
    named = ids != list(range(1, len(files) + 1))
    told = "are the numbers in the file names" if named else "count the images from 1"
    return ids, f"image ids {told}; --annotations FILE gives those of a data set"


def _all_below(files: Sequence[Path], folder: Path) -> bool:
    base = os.path.abspath(folder)
    return all(os.path.abspath(file).startswith(base + os.sep) for file in files)
