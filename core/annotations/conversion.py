"""Convert one annotation format to another, and recognise the format of a path. No torch here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densedet.core.annotations.faults import Faults
from densedet.core.annotations.source import TableSource
from densedet.core.annotations.table import AnnotationTable
from densedet.core.annotations.where import where_masks
from densedet.core.errors import DataError, UsageError
from densedet.registry import Registry, suggest


def formats(components: Registry) -> Iterator[tuple[str, type[TableSource]]]:
    """Give (name, class) of each source that knows a file format, loaded one by one."""
    for component in components.find("source", "*"):
        kind: Any = component.load()
        if hasattr(kind, "recognise"):
            yield component.name, kind


def recognise(
    path: Path, components: Registry, *, split: str | None = None, name: str | None = None
) -> dict[str, Any]:
    """Find the source that reads a path.

    Args:
        path: a file or folder.
        components: the registry.
        split: the part of the data set that is wanted; None: any.
        name: the only source to ask; None: all.

    Returns:
        The source as a recipe would write it: {"name": source, arguments}.

    Raises:
        DataError: there is nothing, no source recognises it, or it is laid out as one source's format and
            that source refuses it.
    """
    if not os.path.exists(path):
        raise DataError(f"there is nothing at {path}: correct the path")
    known = dict(formats(components))
    if name is not None and name not in known:
        raise UsageError(
            f"no source {name!r} reads annotations.{suggest(name, list(known))} There are: {', '.join(known)}"
        )
    refusals: list[DataError] = []
    # Several may know a path: an export of Roboflow's with COCO JSON in it is COCO JSON, too. sorted() leaves
    # equals by their names.
    for source, kind in sorted(known.items(), key=lambda one: not one[1].special):
        if name in (None, source):
            try:
                found = kind.recognise(path, split)
            except DataError as error:
                refusals.append(error)
                continue
            if found is not None:
                return {"name": source, **found}
    if refusals:
        raise refusals[0]
    what = "a folder" if os.path.isdir(path) else "a file"
    split_text = f", split {split}" if split else ""
    if name is not None:
        raise DataError(
            f"{path} is {what} that {name} does not recognise{split_text}: it looks for {known[name].layout}"
        )
    raise DataError(
        f"{path} is {what} that none of {', '.join(known)} recognises{split_text}: name its files and "
        f"folders in a recipe's data section instead"
    )


def holds_annotations(path: Path, components: Registry) -> bool:
    """Return whether a path is laid out as one of the formats is, be its content right or wrong."""
    for _, kind in formats(components):
        try:
            if os.path.exists(path) and kind.recognise(path) is not None:
                return True
        except DataError:
            return True
    return False


def open_source(spec: dict[str, Any], components: Registry, *, images: str | None = None) -> TableSource:
    """Make the source that `recognise` described. images: another folder of images."""
    arguments = {key: value for key, value in placed_images(spec, images).items() if key != "name"}
    source: TableSource = components.get("source", spec["name"]).load()(**arguments)
    return source


def placed_images(spec: dict[str, Any], images: str | None, option: str = "--images") -> dict[str, Any]:
    """Return a source's spec with another folder of images.

    Args:
        spec: as `recognise` returns it.
        images: the folder; None: as the spec says.
        option: by which the user named it, for messages.

    Raises:
        UsageError: the format finds its images itself, or there is no such folder.
    """
    if images is None:
        return spec
    if "images" not in spec:
        raise UsageError(f"source {spec['name']} finds its images itself: leave {option} out")
    if not os.path.isdir(images):
        raise UsageError(f"{option} {images} is no folder: name the folder of the images")
    return {**spec, "images": images}


def writer_of(path: Path, components: Registry, name: str | None = None) -> type[TableSource]:
    """Return the class that writes ``path``: by ``name``, or else by the suffix.

    Raises:
        UsageError: no source writes it.
    """
    known: list[str] = []
    for source, kind in formats(components):
        suffixes = kind.suffixes
        if suffixes is None:
            continue
        if name == source or (name is None and path.suffix.lower() in suffixes):
            if suffixes and path.suffix.lower() not in suffixes:
                raise UsageError(
                    f"{source} writes files that end in {' or '.join(suffixes)}: {path.name} does not"
                )
            return kind
        known.append(f"{source} ({', '.join(suffixes) or 'a folder'})")
    if name is not None:
        raise UsageError(f"no source {name!r} writes annotations. There are: {', '.join(known)}")
    raise UsageError(f"the name {path} does not determine a format: add --to NAME ({', '.join(known)})")


def writer_named(name: str, components: Registry) -> type[TableSource]:
    """Return the class that writes the format of this name.

    Raises:
        UsageError: there is none, or it is only read.
    """
    known = {source: kind for source, kind in formats(components) if kind.suffixes is not None}
    if name not in known:
        raise UsageError(
            f"no source {name!r} writes annotations.{suggest(name, list(known))} "
            f"There are: {', '.join(known)}"
        )
    return known[name]


@dataclass
class Report:
    """The outcome of a conversion.

    Attributes:
        images: number written.
        boxes: number written.
        classes: number written.
        faults: what was wrong in the input or does not fit the output.
        extras: names of what the source's objects carry besides a box; no format keeps it.
    """

    images: int
    boxes: int
    classes: int
    faults: Faults
    extras: list[str]


def convert(
    source: TableSource,
    target: type[TableSource],
    path: Path,
    *,
    split: str = "train",
    overwrite: bool = False,
    where: str | None = None,
    on_fault: Callable[[str], None] | None = None,
) -> Report:
    """Write the annotations of a source in another format.

    Args:
        source: the source; its faults are collected anew.
        target: the class that writes.
        path: the file or folder to make.
        split: what the part of a data set is called in a folder with several.
        overwrite: whether a file that is there may be replaced.
        where: SQL; only the images and boxes that it means are written (see
            `densedet.core.annotations.where`).
        on_fault: called with a sentence for each entry that cannot be used and is left out.

    Raises:
        DataError: the source cannot be read, ``where`` means no image, or the target cannot be written.
        WhereError: ``where`` is wrong.
        UsageError: the file is there, and it may not be replaced.
    """
    source.faults = faults = Faults(strict=False, on_fault=on_fault)
    table = source.table
    if where is not None:
        table = chosen(source, where)
    target.write(table, path, split=split, overwrite=overwrite, faults=faults, on_progress=source.on_progress)
    return Report(
        images=len(table),
        boxes=len(table.labels),
        classes=len(table.classes),
        faults=faults,
        extras=sorted(getattr(source, "extras", ())),
    )


def chosen(source: TableSource, where: str) -> AnnotationTable:
    """Return the part of a source's table that an SQL expression means.

    Raises:
        DataError: it means no image.
        WhereError: it is wrong.
    """
    images, boxes = where_masks(source, where)
    if not images.any():
        raise DataError(f"--where {where!r} means none of the {len(images)} images: nothing was written")
    return source.table.select(np.flatnonzero(images), boxes)
