"""From a recipe to its sources, its class table and the way of its images to the network. No torch here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from densedet.core.annotations.border import checked
from densedet.core.annotations.filters import filtered
from densedet.core.annotations.views import hold_out
from densedet.core.annotations.where import WhereError
from densedet.core.assembly.parts import build_component
from densedet.core.class_table import EMPTY
from densedet.core.contracts import ImageData, Resize, Source
from densedet.core.data.decoding import Decoding
from densedet.core.errors import DataError
from densedet.core.recipe.loading import Recipe
from densedet.core.text import counted
from densedet.registry import suggest


def build_source(recipe: Recipe, split: str) -> Any:
    """Build the source for ``split``, "train" or "val"; None where the recipe names none."""
    spec = {"train": recipe.data.train, "val": recipe.data.val}[split]
    if spec is None:
        return None
    return checked(build_component(recipe, f"data.{split}", "source", spec, {"root": recipe.data.root}))


def _filtered(recipe: Recipe, split: str) -> Any:
    """Build the source of ``split`` with the images and boxes that the recipe's filter leaves."""
    source = build_source(recipe, split)
    return None if source is None else filtered_source(recipe, split, source)


def filtered_source(recipe: Recipe, split: str, source: Source) -> Source:
    """Return the images and boxes that the recipe's filter leaves of the source of ``split``.

    Raises:
        DataError: no image is left.
        RecipeError: the filter's ``where`` is wrong.
    """
    key = "filter" if split == "train" else "val_filter"
    rules = recipe.data.filter if split == "train" else recipe.data.val_filter
    try:
        return filtered(source, rules, classes=recipe.data.classes, resize=build_resize(recipe))
    except WhereError as error:
        raise recipe.error(f"data.{key}.where", str(error)) from error


def build_resize(recipe: Recipe, size: Sequence[int] | None = None) -> Resize:
    """Build the recipe's resize to ``size`` (width, height), or to data.input_size_wh."""
    size_wh = tuple(size or recipe.data.input_size_wh)
    return build_component(recipe, "data.resize", "resize", recipe.data.resize, {"size_wh": size_wh})


def decoding_of(recipe: Recipe) -> Decoding:
    """Return how the recipe's images become pixels."""
    data = recipe.data
    return Decoding(data.color, data.value_range, data.max_megapixels)


def some_images(source: Source, count: int = 16) -> Iterator[ImageData]:
    """Give up to ``count`` images, evenly spread over a source."""
    for index in sorted(set(np.linspace(0, len(source) - 1, min(count, len(source))).astype(int).tolist())):
        with contextlib.suppress(DataError):  # a broken image is told where it is used
            yield source.image(index)


def build_sources(recipe: Recipe) -> tuple[Source, Source | None]:
    """Build the training source and the validation source, filtered.

    Where the recipe has ``data.holdout``, that share of the training images becomes the validation source.

    Returns:
        The training source, and the validation source or None.

    Raises:
        RecipeError: there are too few images to hold out a share.
    """
    train, val = (_filtered(recipe, split) for split in ("train", "val"))
    share = recipe.data.holdout
    if share is None:
        return train, val
    if len(train) < 2:
        raise recipe.error(
            "data.holdout", f"the training source has {counted(len(train), 'image')}: nothing can be held out"
        )
    seed = recipe.data.holdout_seed
    return hold_out(train, share, recipe.train.seed if seed is None else seed)


def build_split(recipe: Recipe, split: str) -> Source | None:
    """Build the filtered source of "train" or "val" alone; None where the recipe has none. The other split is
    opened only where a share of it is held out."""
    if recipe.data.holdout is None:
        return _filtered(recipe, split)
    return dict(zip(("train", "val"), build_sources(recipe)))[split]


def class_table(recipe: Recipe, source: Source) -> tuple[str, ...]:
    """Return the class names in label order: ``data.classes`` (`EMPTY` for a null), or all of the source.

    Raises:
        RecipeError: a name is not in the source.
    """
    wanted = recipe.data.classes
    if wanted is None:
        return tuple(source.classes)
    for position, name in enumerate(wanted):
        if name is not None and name not in source.classes:
            raise recipe.error(
                f"data.classes.{position}",
                f"the training images have no class {name!r}.{suggest(name, list(source.classes))} "
                f"Classes: {', '.join(source.classes)}",
            )
    return listed_classes(recipe)


def listed_classes(recipe: Recipe) -> tuple[str, ...]:
    """Return ``data.classes`` without a look at the data; `EMPTY` stands for a null."""
    return tuple(EMPTY if name is None else name for name in recipe.data.classes or ())


def category_ids(
    recipe: Recipe, classes: Sequence[str], source: Source | None = None
) -> tuple[int | None, ...]:
    """Return the category id of each class, for results.

    Args:
        recipe: its ``data.category_ids`` count where there is no source, else 0, 1, 2 ...
        classes: names in label order.
        source: the data set whose ids count, or None.

    Returns:
        One id a class; None for an empty slot and for a class that the source lacks.

    Raises:
        RecipeError: ``data.category_ids`` has another length than ``classes``.
    """
    listed = recipe.data.category_ids
    if listed is not None and len(listed) != len(classes):
        raise recipe.error(
            "data.category_ids",
            f"has {counted(len(listed), 'id')} for {counted(len(classes), 'class')}: write one for each, or "
            f"data.category_ids=null",
        )
    ids = range(len(classes)) if listed is None else listed
    if source is not None:
        known = dict(zip(source.classes, source.category_ids))
        ids = [known.get(name) for name in classes]
    return tuple(None if name == EMPTY else given for name, given in zip(classes, ids))


def working_size(recipe: Recipe) -> tuple[int, int]:
    """Return the (width, height) at which training images are cached and augmented: ``data.working_size_wh``,
    else the largest input size."""
    data = recipe.data
    sizes = data.input_sizes_wh or [data.input_size_wh]
    return data.working_size_wh or max(sizes, key=lambda size: size[0] * size[1])
