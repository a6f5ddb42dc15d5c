"""The parts (train, val, test) of a data set, and which of them a command takes. No torch here."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, NamedTuple

from densedet.core.annotations.conversion import placed_images, recognise
from densedet.core.errors import DataError, UsageError
from densedet.registry import Registry

PARTS = ("train", "val", "test")

Spec = dict[str, Any]
"""A source as a recipe would write it: {"name": source, arguments}."""


def parts_of(path: Path, components: Registry, *, name: str | None = None) -> dict[str, Spec]:
    """Find the parts of a data set.

    Args:
        path: a file or folder.
        components: the registry.
        name: the only source to ask; None: all.

    Returns:
        {part: its source}, in the order of `PARTS`; empty where the path is not divided, as a file is not.
    """
    found: dict[str, Spec] = {}
    for part in PARTS:
        with contextlib.suppress(DataError):
            found[part] = recognise(path, components, split=part, name=name)
    specs = list(found.values())
    return {} if len(specs) > 1 and all(spec == specs[0] for spec in specs) else found


class Choice(NamedTuple):
    """The part of a data set that a command takes.

    Attributes:
        spec: its source.
        part: its name; None where the data set is not divided, or all of it is taken.
        note: a sentence about the choice; empty where there is none.
    """

    spec: Spec
    part: str | None
    note: str


def choose(path: Path, components: Registry, *, split: str | None, name: str | None = None) -> Choice:
    """Find the source that reads a path, or the part of it that is wanted.

    Args:
        path: a file or folder.
        components: the registry.
        split: the part; None: as the format has it, all or the first part.
        name: the only source to ask; None: all.

    Raises:
        DataError: there is nothing, or no source recognises it.
    """
    if split is not None:
        return Choice(recognise(path, components, split=split, name=name), split, "")
    parts = parts_of(path, components, name=name)
    try:
        spec = recognise(path, components, name=name)
    except DataError:
        if not parts:
            raise
        spec = next(iter(parts.values()))
    part = next((part for part, other in parts.items() if other == spec), None)
    taken = f"{part} is taken (--split takes another)" if part else "all are taken (--split takes one)"
    return Choice(spec, part, f"{path} has {', '.join(parts)}: {taken}" if len(parts) > 1 else "")


def training_sources(
    train: str, val: str | None, components: Registry, *, images: str | None, val_images: str | None
) -> tuple[Spec, Spec | None, str]:
    """Choose what to train and to evaluate on.

    Of a data set with parts, ``train`` means its part train, and ``val`` its part val. Where ``val`` is None,
    the part val of ``train`` is taken, if it has one.

    Args:
        train: a file or folder to train on.
        val: a file or folder to evaluate on.
        components: the registry.
        images: the folder of images; None: where the format has them.
        val_images: the same for ``val``; None: ``images``.

    Returns:
        The sources of train and val (None where no images are for evaluation alone), and a sentence on the
        choice.

    Raises:
        DataError: there is nothing, or no source recognises it.
        UsageError: a folder of images is named where the format finds its own, or ``val`` is the folder to
            train on, which has no part val.
    """
    path = Path(train)
    parts = parts_of(path, components)
    taken = parts.get("train") or choose(path, components, split=None).spec
    told = [f"training on part train of {path}"] if "train" in parts and len(parts) > 1 else []
    if val is None:
        found = parts.get("val")
        found = None if found == taken else found
        told += [] if found is None else ["no --val-db: evaluating on its part val"]
    else:
        own = parts_of(Path(val), components)
        found = own.get("val") or choose(Path(val), components, split=None).spec
        if found == taken and own:
            raise UsageError(f"{val} has no part val beside the one to train on: name other data")
        if found == taken:
            told.append(f"evaluating on {val} too, so AP says nothing about other images")
        elif len(own) > 1:
            part = next((part for part, spec in own.items() if spec == found), "all")
            told.append(f"evaluating on part {part} of {val}")
    if found is None and val_images is not None:
        raise UsageError("--val-images goes with --val-db FILE")
    if found is not None:
        found = placed_images(found, val_images or images, "--val-images" if val_images else "--images")
    return placed_images(taken, images), found, "; ".join(told)
