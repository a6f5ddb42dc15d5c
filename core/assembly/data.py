"""From a recipe to its images: datasets and loaders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch

from densedet.core.assembly.parts import build_component, build_list
from densedet.core.assembly.sources import (
    build_resize,
    class_table,
    decoding_of,
    some_images,
    working_size,
)
from densedet.core.contracts import Source, Transform
from densedet.core.data.dataset import DetectionDataset
from densedet.core.data.decoding import range_notes
from densedet.core.data.image_cache import fitting_cache
from densedet.core.data.limited import Limited
from densedet.core.data.loader import BatchLoader, collate, eval_loader, host_bound, train_loader
from densedet.core.data.sampling import BatchKey, BatchSampler
from densedet.core.distributed import local_world, world
from densedet.core.machine import usable_cores
from densedet.core.recipe.loading import Recipe
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.core.types import Batch

MOST_WORKERS = 8


def make_dataset(
    recipe: Recipe,
    source: Source,
    classes: tuple[str, ...],
    *,
    transforms: Sequence[Transform | Limited] = (),
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
        notes += [told for told in range_notes(some_images(source), decoding) if told not in notes]
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


def build_batch_sampler(recipe: Recipe, source: Source) -> BatchSampler:
    """Return the order of the training images, cut into batches for this process."""
    rank, processes = world()
    sampler = build_component(
        recipe, "data.sampler", "sampler", recipe.data.sampler, {"source": source, "seed": recipe.train.seed}
    )
    size = recipe.train.images
    return BatchSampler(sampler, batch_size=size, images=len(source), rank=rank, world=processes)


def make_train_set(recipe: Recipe, source: Source, notes: list[str] | None = None) -> DetectionDataset:
    """Return the training images with the recipe's transforms; ``notes`` as in `make_dataset`."""
    transforms = _build_transforms(recipe, "data.transforms", "transform", {})
    classes = class_table(recipe, source)
    size = working_size(recipe)
    return make_dataset(recipe, source, classes, transforms=transforms, size=size, notes=notes)


def _build_transforms(recipe: Recipe, path: str, kind: str, wired: dict[str, Any]) -> list[Any]:
    """Return the built transforms of a list, `Limited` where the recipe ends one by ``until``."""
    ends = [spec["until"] for spec in getattr(recipe.data, path.partition(".")[2])]
    built = build_list(recipe, path, kind, wired)
    return [part if end is None else Limited(part, end) for part, end in zip(built, ends)]


def transforms_at(recipe: Recipe, progress: float) -> dict[str, bool]:
    """Tell which of the recipe's transforms take part at a progress of the training.

    Args:
        recipe: the recipe.
        progress: part of the budget that is used, 0..1.

    Returns:
        For each transform, by its path and name ("data.batch_transforms.0 mosaic"), whether it takes part.
    """
    return {
        f"data.{key}.{place} {spec['name']}": spec["until"] is None or progress < spec["until"]
        for key in ("transforms", "batch_transforms")
        for place, spec in enumerate(getattr(recipe.data, key))
    }


def worker_count(recipe: Recipe) -> int:
    """Return how many loader processes ``data.workers`` comes to on this machine, for each process."""
    if recipe.data.workers != "auto":
        return int(recipe.data.workers)
    trains_on_cpu = recipe.values["train"] is not None and recipe.train.device == "cpu"
    if trains_on_cpu or not torch.cuda.is_available():
        return 0
    return max(1, min(MOST_WORKERS, usable_cores() // local_world()))


def make_train_loader(
    recipe: Recipe,
    dataset: DetectionDataset,
    keys: Iterable[BatchKey],
    *,
    device: torch.device | None = None,
    notes: list[str] | None = None,
) -> BatchLoader:
    """Return the augmented training batches of ``keys``, such as a `BatchSampler`.

    Args:
        recipe: gives transforms, sizes, workers and seed.
        dataset: the training images.
        keys: which images make which batch.
        device: of the run; on a GPU the batches are made and augmented there.
        notes: a list that a sentence about batch transforms that cannot run there is added to.
    """
    data = recipe.data
    transforms = _build_transforms(
        recipe, "data.batch_transforms", "batch_transform", {"size_wh": working_size(recipe)}
    )
    on_gpu = device is not None and device.type == "cuda"
    bound = host_bound(transforms) if on_gpu else []
    if bound and notes is not None:
        notes.append(
            f"batches are augmented on the CPU: {', '.join(bound)} does not say any_device = True, that it "
            f"also takes a batch on a GPU"
        )
    return train_loader(
        dataset,
        keys,
        seed=recipe.train.seed,
        workers=worker_count(recipe),
        pad_to=data.pad_to,
        batch_transforms=transforms,
        device=device if on_gpu else None,
        sizes=data.input_sizes_wh or ([data.input_size_wh] if data.working_size_wh else []),
    )


def first_batch(recipe: Recipe, dataset: DetectionDataset, count: int) -> Batch:
    """Return the first ``count`` images of a dataset as one batch."""
    samples, broken = dataset.samples(0, range(min(count, len(dataset))), replacing=False)
    return collate(samples, pad_to=recipe.data.pad_to, broken=broken)


def make_eval_loader(recipe: Recipe, dataset: DetectionDataset, limit: int | None = None) -> BatchLoader:
    """Build the loader of this process's batches of ``dataset``, or of its first ``limit`` images."""
    rank, processes = world()
    return eval_loader(
        dataset,
        batch_size=recipe.evaluate.batch_size,
        workers=worker_count(recipe),
        pad_to=recipe.data.pad_to,
        rank=rank,
        world=processes,
        limit=limit,
    )
