"""Where the runs of a study lie: each in a folder named by its content, so that every study finds it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from densedet.core.files import write_text
from densedet.core.recipe.contents import contents_of, with_contents
from densedet.core.recipe.faults import RecipeError
from densedet.core.recipe.loading import Recipe
from densedet.core.recipe.yaml_marks import parse_yaml

LETTERS = 10
"""Letters of a digest in the name of a folder."""


def digest_of(recipe: Recipe | Mapping[str, Any]) -> str:
    """Return a text that is the same for recipes that train the same: all values count but the seed and
    ``run``, and the content of plug-ins, weights and other files in place of their names."""
    contents = contents_of(recipe)
    values = with_contents(_training(recipe), contents)
    values["contents"] = sorted(contents.values())
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()[:LETTERS]


def _training(recipe: Recipe | Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a recipe on which training depends, without its seed."""
    values = dict(recipe.values if isinstance(recipe, Recipe) else recipe)
    for name in ("run", "description", "base"):
        values.pop(name, None)
    values["train"] = {key: value for key, value in (values.get("train") or {}).items() if key != "seed"}
    return values


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


def with_other_files(recipe: Recipe, root: Path) -> Path | None:
    """Return the folder of a run of the same recipe and seed whose plug-ins, weights or other files held
    something else; None where there is none."""
    if not contents_of(recipe):
        return None
    own, training = digest_of(recipe), _training(recipe)
    for file in sorted((root / "recipes").glob(f"{recipe.name}-*/{recipe.name}.yaml")):
        digest = file.parent.name.rpartition("-")[2]
        with contextlib.suppress(OSError, ValueError, RecipeError):
            values = parse_yaml(file.read_text(encoding="utf-8"), str(file)).plain()
            if digest != own and _training(values) == training:
                for folder in _there(digest, recipe.train.seed, root):
                    return folder
    return None


def _there(digest: str, seed: int, root: Path) -> Iterator[Path]:
    """Yield the folders that are there of a digest's runs with a seed."""
    ending = re.compile(rf"-{digest}-seed{seed}(\.\d+)?$")
    yield from sorted(
        path for path in (root / "runs").glob(f"*-{digest}-seed{seed}*") if ending.search(path.name)
    )


def places_of(recipe: Recipe, root: Path) -> Iterator[Path]:
    """Yield the folders in which a run of this recipe and its seed may lie: those that are there, then new
    ones.

    Args:
        recipe: with the seed of the run.
        root: folder of all studies.
    """
    digest, seed = digest_of(recipe), recipe.train.seed
    there = list(_there(digest, seed, root))
    yield from there
    number = 1
    while True:
        path = root / "runs" / f"{recipe.name}-{digest}-seed{seed}{f'.{number}' if number > 1 else ''}"
        if path not in there:
            yield path
        number += 1
