"""The data sets of a study: --on NAME=PATH as changes to a recipe."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densedet.core.annotations.parts import training_sources
from densedet.core.errors import UsageError
from densedet.core.recipe.faults import RecipeError
from densedet.core.recipe.merging import find_recipe, load_merged, resolve_path
from densedet.core.recipe.plugin_loading import is_file, load_plugins
from densedet.core.recipe.signatures import MISSING, arguments_of
from densedet.core.recipe.yaml_marks import parse_yaml
from densedet.registry import Registry

OF_A_SET = (
    *("root", "train", "val", "holdout", "holdout_seed"),
    *("filter", "val_filter", "classes", "category_ids"),
)
"""Keys of the section ``data`` that say which images and boxes there are; all others are the arms' own."""


@dataclass(frozen=True)
class DataSet:
    """Images and boxes that every arm is trained and evaluated on.

    Attributes:
        name: in tables.
        overrides: changes to any recipe, as on the command line.
        to_judge: changes to the recipe of a finished run, for its detector to be evaluated on the set: on its
            part for evaluation, or on all of it where it has none.
        plugins: plug-in files and modules that its sources need.
        note: a sentence about what is taken of it; may be empty.
    """

    name: str = ""
    overrides: tuple[str, ...] = ()
    to_judge: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    note: str = ""


def data_sets(given: Sequence[str], images: Sequence[str], plugins: Sequence[str]) -> list[DataSet]:
    """Read --on and --on-images.

    Args:
        given: NAME=PATH or NAME=TRAIN,VAL each.
        images: NAME=DIR or NAME=TRAIN_DIR,VAL_DIR each.
        plugins: plug-in files with sources.

    Raises:
        UsageError: a text has another form, or a name is there twice.
        DataError: there is no data set at a path.
    """
    folders = dict(_named(text, "--on-images") for text in images)
    pairs = [_named(text, "--on") for text in given]
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--on names two data sets {name}: give them different names")
    for name in folders.keys() - set(names):
        raise UsageError(f"--on-images {name}=...: there is no --on {name}=...")
    components = load_plugins(plugins).components
    return [_data_set(name, path, folders.get(name), components, tuple(plugins)) for name, path in pairs]


def _named(text: str, option: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if not re.fullmatch(r"[\w-][\w.-]*", name) or not path:
        example = "cells=BCCD" if option == "--on" else "cells=BCCD/images"
        raise UsageError(f"{option} {text!r}: write a name for the tables and a path, as {option} {example}")
    return name, path


def _two(text: str | None) -> tuple[str | None, str | None]:
    """Split TRAIN,VAL; a path that is there may hold a comma."""
    if text is None or os.path.exists(text) or "," not in text:
        return text, None
    first, _, second = text.partition(",")
    return first, second


def _data_set(
    name: str, path: str, images: str | None, components: Registry, plugins: tuple[str, ...]
) -> DataSet:
    if _is_recipe(path):
        if images is not None:
            raise UsageError(f"--on-images {name}=...: the recipe {path} says where its images are")
        return _of_recipe(name, path)
    train_path, val_path = _two(path)
    train_images, val_images = _two(images)
    train, val, told = training_sources(
        str(train_path), val_path, components, images=train_images, val_images=val_images
    )
    if val is None:
        told = f"{told}; " if told else ""
        told += "a tenth of its images, the same for all runs, is held out to evaluate on"
    values = {
        "root": ".",
        "train": complete(train, components),
        "val": None if val is None else complete(val, components),
        "holdout": 0.1 if val is None else None,
        "classes": None,
        "category_ids": None,
    }
    local = any(components.get("source", spec["name"]).local for spec in (train, val) if spec)
    own = plugins if local else ()
    return DataSet(name, _overrides(values), _judging(values), own, f"{name}: {told}" if told else "")


def _is_recipe(path: str) -> bool:
    """Whether a path is a recipe's, and not a data set's (YOLO describes one in YAML, too)."""
    if not path.endswith((".yaml", ".yml")):
        if os.path.exists(path) or "," in path:
            return False
        try:
            find_recipe(path)
        except RecipeError:
            return False
        return True
    try:
        values = parse_yaml(Path(path).read_text(encoding="utf-8"), path).plain()
    except (OSError, ValueError, RecipeError):
        return not os.path.exists(path)  # the fault is told where the recipe is loaded
    return isinstance(values, dict) and (isinstance(values.get("data"), dict) or "base" in values)


def _of_recipe(name: str, path: str) -> DataSet:
    merged = load_merged(path)
    if merged.faults:
        raise RecipeError(merged.faults)
    data = merged.root.plain().get("data") or {}
    if not data.get("train"):
        raise UsageError(f"--on {name}={path}: this recipe has no data.train: name one with a data set")
    plugins = tuple(
        str(resolve_path(text, folder.resolve())) if is_file(text) else text
        for text, folder, _ in merged.plugins
    )
    components = load_plugins(plugins).components
    none = {"root": ".", "val": None, "holdout": None, "classes": None, "category_ids": None}
    values = none | {key: data[key] for key in OF_A_SET if key in data}
    for split in ("train", "val"):
        if values[split] is not None:
            values[split] = complete(values[split], components)
    return DataSet(name, _overrides(values), _judging(values), plugins)


def complete(spec: dict[str, Any] | str, components: Registry) -> dict[str, Any]:
    """Fill in the defaults of a source, so that no argument of another source stays where it takes its
    place."""
    spec = {"name": spec} if isinstance(spec, str) else spec
    known = arguments_of(components.get("source", spec["name"]))
    defaults = {name: a.default_value() for name, a in known.items() if not a.wired and not a.required}
    return {name: value for name, value in defaults.items() if value is not MISSING} | spec


def _judging(values: dict[str, Any]) -> tuple[str, ...]:
    """Return the changes by which a finished detector is evaluated on a set."""
    kept = {key: values[key] for key in ("root", "val_filter") if key in values}
    none = {"holdout": None, "classes": None, "category_ids": None}
    return _overrides(kept | none | {"val": values["val"] or values["train"]})


def _overrides(values: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"data.{key}={json.dumps(value)}" for key, value in values.items())
