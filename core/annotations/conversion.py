"""From one annotation format to another, and recognising what lies at a path. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densedet.core.annotations.builder import Faults
from densedet.core.annotations.source import TableSource
from densedet.core.annotations.table import AnnotationTable
from densedet.core.annotations.where import where_masks
from densedet.core.errors import DataError, UsageError
from densedet.registry import Registry


def formats(components: Registry) -> Iterator[tuple[str, type[TableSource]]]:
    """(name, class) of the sources that know a format (`TableSource`), loaded one by one."""
    for component in components.find("source", "*"):
        kind: Any = component.load()
        if hasattr(kind, "recognise"):
            yield component.name, kind


def recognise(
    path: Path, components: Registry, *, split: str | None = None, name: str | None = None
) -> dict[str, Any]:
    """What a recipe would write to read ``path``: {"name": source, arguments}. name: look no further than
    this source. Raises DataError."""
    if not path.exists():
        raise DataError(f"there is nothing at {path}: correct the path")
    tried = []
    # Several may know a path: an export of Roboflow's with COCO JSON in it is COCO JSON, too. sorted() leaves
    # equals by their names.
    for source, kind in sorted(formats(components), key=lambda one: not one[1].special):
        if name in (None, source):
            found = kind.recognise(path, split)
            if found is not None:
                return {"name": source, **found}
            tried.append(source)
    what = "a folder" if path.is_dir() else "a file"
    split_text = f", split {split}" if split else ""
    raise DataError(
        f"{path} is {what} that none of {', '.join(tried)} recognises{split_text}: name its parts in a "
        f"recipe's data section instead"
    )


def open_source(spec: dict[str, Any], components: Registry, *, images: str | None = None) -> TableSource:
    """The source that `recognise` described. images: another folder of images."""
    arguments = {key: value for key, value in spec.items() if key != "name"}
    if images is not None:
        if "images" not in arguments:
            raise UsageError(f"source {spec['name']} finds its images itself: leave --images out")
        arguments["images"] = str(Path(images).resolve())
    source: TableSource = components.get("source", spec["name"]).load()(**arguments)
    return source


def writer_of(path: Path, components: Registry, name: str | None = None) -> type[TableSource]:
    """The class that writes ``path``: by ``name``, else by its suffix. Raises UsageError."""
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
    raise UsageError(
        f"what {path} is to become cannot be told from its name: add --to NAME ({', '.join(known)})"
    )


@dataclass
class Report:
    """What a conversion did. faults: {kind: number} of what was wrong in the input or does not fit the
    output; sentences: the first of them."""

    images: int
    boxes: int
    classes: int
    dropped: int
    clipped: int
    faults: Counter[str]
    sentences: list[str]


def convert(
    source: TableSource,
    target: type[TableSource],
    path: Path,
    *,
    split: str = "train",
    where: str | None = None,
    on_fault: Callable[[str], None] | None = None,
) -> Report:
    """Write what ``source`` holds to ``path``; entries that cannot be used are left out and told to
    ``on_fault``.

    where: SQL; only what it means is written (see `densedet.core.annotations.where`). Raises DataError,
    WhereError.
    """
    source.faults = faults = Faults(strict=False, on_fault=on_fault)
    table = source.table
    dropped, clipped = table.dropped, table.clipped
    if where is not None:
        table = chosen(source, where)
    target.write(table, path, split=split, faults=faults, on_progress=source.on_progress)
    return Report(
        len(table), len(table.labels), len(table.classes), dropped, clipped, faults.counts, faults.sentences
    )


def chosen(source: TableSource, where: str) -> AnnotationTable:
    """The part of a source's table that an SQL expression means."""
    images, boxes = where_masks(source, where)
    return source.table.select(np.flatnonzero(images), boxes)
