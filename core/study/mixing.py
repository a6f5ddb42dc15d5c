"""What differs between two recipes, part by part, and the recipes in between."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from densedet.core.errors import DensedetError, UsageError
from densedet.core.mappings import at_path
from densedet.core.recipe.faults import RecipeError
from densedet.core.recipe.loading import Recipe, recipe_from_dict
from densedet.core.report.comparison import DATA
from densedet.core.training.fit import check_fit

SECTIONS = ("model", "data", "train")
FIRST = ("neck", "anchors", "head", "matcher", "coder", "class_loss", "box_loss", "postprocess")
"""Keys of the section ``model`` in the order in which they change; all other keys follow in the recipe's."""

SHARED = (
    *DATA,
    "data.category_ids",
    "evaluate.evaluator",
    "evaluate.metric",
    "evaluate.higher_is_better",
    "train.budget",
)
"""Paths of a recipe that are the same on all rungs, since gains would not compare."""

OF_THE_MACHINE = (
    *("data.workers", "data.cache_gb", "data.cache_folder", "evaluate.batch_size"),
    *("train.device", "train.threads", "train.channels_last", "train.deterministic", "train.evaluations"),
)
"""Paths that do not say what is learned: all rungs have those of the lower recipe."""

PER_STEP = ("train.batch_size", "train.accumulate")
"""Paths on which the number of images that so many optimizer steps see depends."""


def paths_between(lower: Recipe, upper: Recipe) -> list[str]:
    """Return the dotted paths that are to change from one recipe to the other: ``section.key`` each, in the
    order in which they change.

    Raises:
        UsageError: the two differ in what all rungs must share.
    """
    apart = [path for path in SHARED if at_path(lower.values, path) != at_path(upper.values, path)]
    if apart:
        raise UsageError(_unequal(apart[0], lower, upper, apart))
    keys = [
        f"{section}.{key}"
        for section in SECTIONS
        for key in dict.fromkeys([*(lower.values[section] or {}), *(upper.values[section] or {})])
    ]
    found = [
        path
        for path in keys
        if path not in (*SHARED, *OF_THE_MACHINE, "train.seed")
        and at_path(lower.values, path) != at_path(upper.values, path)
    ]
    uneven = [path for path in PER_STEP if path in found]
    if uneven and lower.train.budget.steps is not None:
        raise UsageError(
            f"the rungs would see different numbers of images: {uneven[0]} differs, and the budget counts "
            f"steps; write --budget epochs=N or --budget minutes=N, or {uneven[0]}=N for both"
        )
    first = [f"model.{key}" for key in FIRST]
    return sorted(found, key=lambda path: first.index(path) if path in first else len(first))


def _unequal(path: str, lower: Recipe, upper: Recipe, apart: Sequence[str]) -> str:
    """Say that two recipes do not share what they must."""
    mine, other = (value_words(at_path(recipe.values, path)) for recipe in (lower, upper))
    told = f"{lower.name} has {path}={mine} and {upper.name} {other}"
    if path == "train.budget":
        return f"a ladder has one budget, and {told}: write --budget minutes=5, epochs=10 or steps=500"
    more = f" ({', '.join(apart[1:])} differ, too)" if len(apart) > 1 else ""
    what = "evaluation" if path.startswith("evaluate.") else "data"
    on = " or --on NAME=PATH" if what == "data" else ""
    return f"the rungs of a ladder share their {what}, and {told}{more}: write {path}=VALUE for both{on}"


class Mixer:
    """Makes the recipes between two.

    Args:
        ends: {data set: (lower recipe, upper recipe)}; each can be built.

    Attributes:
        ends: as given.
    """

    def __init__(self, ends: Mapping[str, tuple[Recipe, Recipe]]) -> None:
        self.ends = ends

    def recipes(self, taken: Collection[str], *, top: bool = False) -> dict[str, Recipe]:
        """Return the recipe on each data set.

        Args:
            taken: paths at which the values are those of the upper recipe; none: the lower recipe itself.
            top: whether these are all: the upper recipe itself, with the other's settings of the machine.

        Raises:
            RecipeError: such a recipe is faulty.
            PluginError: the two need plug-ins that do not go together.
        """
        return {data: self._mixed(*ends, taken, top) for data, ends in self.ends.items()}

    def _mixed(self, lower: Recipe, upper: Recipe, taken: Collection[str], top: bool) -> Recipe:
        if not taken:
            return lower
        if top:
            own = {path: at_path(lower.values, path) for path in OF_THE_MACHINE}
            changed = {path: value for path, value in own.items() if value != at_path(upper.values, path)}
            return upper.with_overrides(changed) if changed else upper
        values = copy.deepcopy({key: value for key, value in lower.values.items() if key != "description"})
        for path in taken:
            section, _, key = path.partition(".")
            values[section].pop(key, None)
            if key in upper.values[section]:
                values[section][key] = copy.deepcopy(upper.values[section][key])
        plugins = dict.fromkeys([*(lower.values.get("plugins") or []), *(upper.values.get("plugins") or [])])
        values.pop("plugins", None)
        return recipe_from_dict(values, name=f"{lower.name}_to_{upper.name}", plugins=list(plugins))

    def fault(self, taken: Collection[str]) -> str:
        """Return why a recipe in between cannot be trained, in a sentence without a full stop; "" where it
        can be."""
        try:
            for recipe in self.recipes(taken).values():
                check_fit(recipe)
        except RecipeError as error:
            return "; ".join(" ".join(f"{fault.path}: {fault.message}".split()) for fault in error.faults)
        except DensedetError as error:
            return " ".join(str(error).split())
        return ""


def change_words(old: Any, new: Any) -> str:
    """Say what a value was and becomes: "ssd_extras → fpn", "negative 0.5 → 0.4"."""
    if isinstance(old, dict) and isinstance(new, dict) and old.get("name") == new.get("name"):
        keys = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
        return ", ".join(f"{key} {value_words(old.get(key))} → {value_words(new.get(key))}" for key in keys)
    return f"{value_words(old)} → {value_words(new)}"


def value_words(value: Any) -> str:
    """Write a value of a recipe in a few letters: a part by its name."""
    if isinstance(value, dict) and "name" in value:
        return str(value["name"])
    if isinstance(value, list) and value and all(isinstance(each, dict) and "name" in each for each in value):
        return f"[{', '.join(str(each['name']) for each in value)}]"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:59]}…"
