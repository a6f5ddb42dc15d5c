"""The images of a study, decoded once before its runs, so that none of them pays for it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable

from densedet.core import assembly
from densedet.core.data.dataset import DetectionDataset
from densedet.core.errors import DataError
from densedet.core.recipe.loading import Recipe
from densedet.core.terminal import progress

OF_PIXELS = (
    *("root", "train", "val", "holdout", "holdout_seed", "filter", "val_filter", "input_size_wh", "color"),
    *("value_range", "max_megapixels", "resize", "working_size_wh", "input_sizes_wh"),
    *("cache_gb", "cache_folder"),
)
"""Keys of the section ``data`` on which the cached pixels depend."""


def decode_once(recipes: Iterable[Recipe]) -> None:
    """Bring the images of recipes into the cache of decoded images, each of them once.

    Images that cannot be read are left to the runs, whose recipe says what becomes of them.

    Args:
        recipes: of the runs that are to be trained.
    """
    done = set()
    for recipe in recipes:
        key = json.dumps({name: recipe.values["data"].get(name) for name in OF_PIXELS}, sort_keys=True)
        if key in done or not recipe.data.cache_gb:
            continue
        done.add(key)
        train, val = assembly.build_sources(recipe)
        classes = assembly.class_table(recipe, train)
        _decode(assembly.make_dataset(recipe, train, classes, size=assembly.working_size(recipe)))
        if val is not None:
            _decode(assembly.make_dataset(recipe, val, classes))


def _decode(dataset: DetectionDataset) -> None:
    if dataset.cache is None:
        return
    with progress() as bar:
        for index in bar.track(range(len(dataset)), description="decoding the images of all runs"):
            with contextlib.suppress(DataError):
                dataset[index]
