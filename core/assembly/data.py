"""From a recipe to its images: sources, class table, datasets and loaders."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from densedet.core.annotations.border import checked
from densedet.core.annotations.filters import filtered
from densedet.core.annotations.views import hold_out
from densedet.core.annotations.where import WhereError
from densedet.core.assembly.parts import build_component, build_list
from densedet.core.class_table import EMPTY
from densedet.core.contracts import Resize, Source, Transform
from densedet.core.data.dataset import DetectionDataset
from densedet.core.data.decoding import Decoding, range_notes
from densedet.core.data.image_cache import fitting_cache
from densedet.core.data.loader import collate, eval_loader, train_loader
from densedet.core.data.sampling import BatchKey, BatchSampler
from densedet.core.distributed import world
from densedet.core.errors import DataError
from densedet.core.recipe.loading import Recipe
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.core.text import counted
from densedet.core.types import Batch
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


def make_dataset(
    recipe: Recipe,
    source: Source,
    classes: tuple[str, ...],
    *,
    transforms: Sequence[Transform] = (),
    size: Sequence[int] | None = None,
    notes: list[str] | None = None,
) -> DetectionDataset:
    """Build the dataset that turns a source's images into tensors.

    Args:
        recipe: gives resize, colour, cache and seed.
        source: the images.
        classes: names in label order.
        transforms: augmentation of one sample; none for evaluation.
        size: (width, height) of the tensors; None: data.input_size_wh.
        notes: a list that sentences about the cache and about guessed ranges of values are added to.
    """
    data = recipe.data
    resize, decoding = build_resize(recipe, size), decoding_of(recipe)
    cache, note = fitting_cache(
        source, resize=resize, decoding=decoding, limit_gb=data.cache_gb, folder=data.cache_folder
    )
    if notes is not None:
        notes += [note] if note else []
        notes += [told for told in range_notes(_some_images(source), decoding) if told not in notes]
    files = tuple(recipe.values.get("plugins") or ())
    return DetectionDataset(
        source,
        resize=resize,
        decoding=decoding,
        classes=classes,
        transforms=tuple(transforms),
        seed=recipe.train.seed,
        cache=cache,
        broken=data.broken_images,
        load_plugins=partial(load_plugins, files) if files else None,
    )


def _some_images(source: Source, count: int = 16) -> Iterator[Any]:
    """Give up to ``count`` images, evenly spread over a source."""
    for index in sorted(set(np.linspace(0, len(source) - 1, min(count, len(source))).astype(int).tolist())):
        with contextlib.suppress(DataError):  # a broken image is told where it is used
            yield source.image(index)


def build_batch_sampler(recipe: Recipe, source: Source) -> BatchSampler:
    """Return the order of the training images, cut into batches for this process."""
    rank, processes = world()
    sampler = build_component(
        recipe, "data.sampler", "sampler", recipe.data.sampler, {"source": source, "seed": recipe.train.seed}
    )
    size = recipe.train.batch_size
    return BatchSampler(sampler, batch_size=size, images=len(source), rank=rank, world=processes)


def make_train_set(recipe: Recipe, source: Source, notes: list[str] | None = None) -> DetectionDataset:
    """Return the training images with the recipe's transforms; ``notes`` as in `make_dataset`."""
    transforms = build_list(recipe, "data.transforms", "transform", {})
    classes = class_table(recipe, source)
    size = working_size(recipe)
    return make_dataset(recipe, source, classes, transforms=transforms, size=size, notes=notes)


def make_train_loader(
    recipe: Recipe, dataset: DetectionDataset, keys: Iterable[BatchKey]
) -> DataLoader[Batch]:
    """Return the augmented training batches of ``keys``, such as a `BatchSampler`."""
    data = recipe.data
    return train_loader(
        dataset,
        keys,
        seed=recipe.train.seed,
        workers=data.workers,
        pad_to=data.pad_to,
        batch_transforms=build_list(
            recipe, "data.batch_transforms", "batch_transform", {"size_wh": working_size(recipe)}
        ),
        sizes=data.input_sizes_wh or ([data.input_size_wh] if data.working_size_wh else []),
    )


def first_batch(recipe: Recipe, dataset: DetectionDataset, count: int) -> Batch:
    """Return the first ``count`` images of a dataset as one batch."""
    samples, broken = dataset.samples(0, range(min(count, len(dataset))), replacing=False)
    return collate(samples, pad_to=recipe.data.pad_to, broken=broken)


def make_eval_loader(
    recipe: Recipe, dataset: DetectionDataset, limit: int | None = None
) -> DataLoader[Batch]:
    """Build the loader of this process's batches of ``dataset``, or of its first ``limit`` images."""
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
