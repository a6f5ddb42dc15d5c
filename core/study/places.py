"""Where the runs of a study lie: each in a folder named by its content, so that every study finds it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from densedet.core.files import content_of, write_text
from densedet.core.recipe.loading import Recipe

LETTERS = 10
"""Letters of a digest in the name of a folder."""


def digest_of(recipe: Recipe | Mapping[str, Any]) -> str:
    """Return a text that is the same for recipes that train the same: all values count but the seed and
    ``run``, and the content of plug-in files in place of their paths."""
    values = dict(recipe.values if isinstance(recipe, Recipe) else recipe)
    for name in ("run", "description", "base"):
        values.pop(name, None)
    values["train"] = {key: value for key, value in (values.get("train") or {}).items() if key != "seed"}
    values["plugins"] = [content_of(str(name)) for name in values.get("plugins") or []]
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()[:LETTERS]


def frozen(recipe: Recipe, root: Path) -> Path:
    """Write a recipe down with all its values, once: a later change to its file does not reach the study.

    Args:
        recipe: the recipe of an arm on a data set.
        root: folder of all studies.

    Returns:
        The file; it is called as the recipe, since runs are.
    """
    path = root / "recipes" / f"{recipe.name}-{digest_of(recipe)}" / f"{recipe.name}.yaml"
    if not path.is_file():
        write_text(path, recipe.to_yaml())
    return path


def places_of(recipe: Recipe, root: Path) -> Iterator[Path]:
    """Yield the folders in which a run of this recipe and its seed may lie: those that are there, then new
    ones.

    Args:
        recipe: with the seed of the run.
        root: folder of all studies.
    """
    digest, seed, runs = digest_of(recipe), recipe.train.seed, root / "runs"
    ending = re.compile(rf"-{digest}-seed{seed}(\.\d+)?$")
    there = sorted(path for path in runs.glob(f"*-{digest}-seed{seed}*") if ending.search(path.name))
    yield from there
    number = 1
    while True:
        path = runs / f"{recipe.name}-{digest}-seed{seed}{f'.{number}' if number > 1 else ''}"
        if path not in there:
            yield path
        number += 1
