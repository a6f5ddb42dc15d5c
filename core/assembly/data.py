"""From a recipe to its images: sources, class table, datasets and loaders."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch.utils.data import DataLoader

from densedet.core.annotations.filters import filtered
from densedet.core.annotations.views import hold_out
from densedet.core.annotations.where import WhereError
from densedet.core.assembly.parts import build_component
from densedet.core.class_table import EMPTY
from densedet.core.data.dataset import DetectionDataset
from densedet.core.data.image_cache import fitting_cache
from densedet.core.data.loader import eval_loader
from densedet.core.distributed import world
from densedet.core.recipe.loading import Recipe
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.core.types import Batch
from densedet.registry import suggest


def build_source(recipe: Recipe, split: str) -> Any:
    """The recipe's source for ``split`` ("train" or "val"), or None where it names none."""
    spec = {"train": recipe.data.train, "val": recipe.data.val}[split]
    if spec is None:
        return None
    return build_component(recipe, f"data.{split}", "source", spec, {"root": recipe.data.root})


def _filtered(recipe: Recipe, split: str) -> Any:
    """The source of ``split``, or its images and boxes that the recipe's filter leaves."""
    source = build_source(recipe, split)
    key = "filter" if split == "train" else "val_filter"
    if source is None:
        return None
    rules = recipe.data.filter if split == "train" else recipe.data.val_filter
    try:
        return filtered(source, rules, classes=recipe.data.classes, resize=build_resize(recipe))
    except WhereError as error:
        raise recipe.error(f"data.{key}.where", str(error)) from error


def build_resize(recipe: Recipe, size: Sequence[int] | None = None) -> Any:
    """The recipe's resize to ``size`` (width, height), or to data.input_size_wh."""
    size_wh = tuple(size or recipe.data.input_size_wh)
    return build_component(recipe, "data.resize", "resize", recipe.data.resize, {"size_wh": size_wh})


def build_sources(recipe: Recipe) -> tuple[Any, Any]:
    """(training source, validation source or None), filtered; a share of the training images is held out
    where the recipe says so."""
    train, val = (_filtered(recipe, split) for split in ("train", "val"))
    share = recipe.data.holdout
    if share is None:
        return train, val
    if val is not None:
        raise recipe.error("data.holdout", "there is a data.val already: delete one of the two")
    if len(train) < 2:
        raise recipe.error(
            "data.holdout", f"the training source has {len(train)} images: nothing can be held out"
        )
    return hold_out(train, share, recipe.train.seed)


def build_split(recipe: Recipe, split: str) -> Any:
    """The source of "train" or "val" alone, filtered; the other one is opened only where a share of it is
    held out. None: there is none."""
    if recipe.data.holdout is None:
        return _filtered(recipe, split)
    return dict(zip(("train", "val"), build_sources(recipe)))[split]


def class_table(recipe: Recipe, source: Any) -> tuple[str, ...]:
    """Class names in label order: the recipe's ``data.classes`` (`EMPTY` where that has a null), or all of
    the source's.

    Raises RecipeError for a name that the source does not have or one that is listed twice.
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
    """The recipe's ``data.classes``, whatever the data. Raises RecipeError."""
    wanted = recipe.data.classes or []
    named = [name for name in wanted if name is not None]
    if len(set(named)) != len(named):
        raise recipe.error("data.classes", "a class is listed twice")
    if not named or "" in named:
        raise recipe.error(
            "data.classes", "name at least one class, none of them empty; write null for all of the source's"
        )
    return tuple(EMPTY if name is None else name for name in wanted)


def category_ids(recipe: Recipe, classes: Sequence[str], source: Any = None) -> tuple[int | None, ...]:
    """The data set's id of each of ``classes``: the source's, or without one the recipe's
    ``data.category_ids``, else 0, 1, 2 ...; None for a slot without a class, or a class that the source
    lacks. Raises RecipeError where the recipe's do not go with the classes."""
    listed = recipe.data.category_ids
    if listed is not None and len(listed) != len(classes):
        raise recipe.error(
            "data.category_ids",
            f"has {len(listed)} ids for {len(classes)} classes: write one for each, or "
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


def make_dataset(
    recipe: Recipe,
    source: Any,
    classes: tuple[str, ...],
    *,
    transforms: Sequence[Any] = (),
    size: Sequence[int] | None = None,
    notes: list[str] | None = None,
) -> DetectionDataset:
    """The recipe's way from a source's images to tensors, at ``size`` (width, height; None:
    data.input_size_wh); without ``transforms`` for evaluation. What the user should know (the cache) is added
    to ``notes``."""
    data = recipe.data
    resize = build_resize(recipe, size)
    cache, note = fitting_cache(
        source, resize=resize, color=data.color, limit_gb=data.cache_gb, folder=data.cache_folder
    )
    if notes is not None and note:
        notes.append(note)
    files = tuple(recipe.values.get("plugins") or ())
    return DetectionDataset(
        source,
        resize=resize,
        color=data.color,
        classes=classes,
        transforms=tuple(transforms),
        seed=recipe.train.seed,
        cache=cache,
        broken=data.broken_images,
        load_plugins=partial(load_plugins, files) if files else None,
    )


def make_eval_loader(
    recipe: Recipe, dataset: DetectionDataset, limit: int | None = None
) -> DataLoader[Batch]:
    """This process's share of ``dataset`` (of its first ``limit`` images) in batches."""
    rank, processes = world()
    return eval_loader(
        dataset,
        batch_size=recipe.evaluate.batch_size,
        workers=recipe.data.workers,
        pad_to=recipe.data.pad_to,
        rank=rank,
        world=processes,
        limit=limit,
    )
