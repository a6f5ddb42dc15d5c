"""The difference of two recipes as a diff of YAML, each changed line with its argument's description."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from densedet.core.errors import DensedetError
from densedet.core.recipe.plugin_loading import load_plugins
from densedet.core.recipe.sections import SECTIONS
from densedet.core.recipe.signatures import arguments_of, part_of_field
from densedet.core.report.records import RunRecord
from densedet.core.text import visible

Recipe = dict[str, Any]
Line = tuple[str, str, str]
"""" ", "-" or "+"; the line of YAML; the comment, which may be empty."""

LEFT_OUT = ("description", "base", "run", "plugins")
"""Keys of a recipe that do not say what is trained."""
SENTENCE_END = re.compile(r"(?<!\.)(?<!et al)\. (?=[A-Z])")
LONGEST = 110
"""Letters of a comment."""


def recipe_diff(first: RunRecord, second: RunRecord) -> list[Line]:
    """Return the lines that differ between the recipes of two runs, below the keys that they stand under.

    Args:
        first: the run whose lines carry "-".
        second: the run whose lines carry "+".

    Returns:
        The lines in the order of the recipes; none where nothing differs.
    """
    old, new = ({k: v for k, v in run.recipe.items() if k not in LEFT_OUT} for run in (first, second))
    return list(_differences(old, new, (), (first.recipe, second.recipe)))


def _differences(
    old: Recipe, new: Recipe, path: tuple[str, ...], recipes: tuple[Recipe, Recipe]
) -> Iterator[Line]:
    """The lines below ``path``; a part whose name differs is another part and stands there whole."""
    indent = "  " * len(path)
    for key in dict.fromkeys([*old, *new]):
        if key in old and key in new and old[key] == new[key]:
            continue
        here = (*path, str(key))
        mine, other = old.get(key), new.get(key)
        if isinstance(mine, dict) and isinstance(other, dict) and mine.get("name") == other.get("name"):
            yield " ", f"{indent}{key}:", ""
            yield from _differences(mine, other, here, recipes)
            continue
        for sign, values, recipe in (("-", old, recipes[0]), ("+", new, recipes[1])):
            if key in values:
                lines = _whole(sign, key, values[key], here, recipe)
                # A comment stands once where both recipes have the key.
                bare = sign == "-" and key in new and not isinstance(new[key], dict)
                yield from ((sign, line, "") for _, line, _ in lines) if bare else lines


def _whole(sign: str, key: str, value: Any, path: tuple[str, ...], recipe: Recipe) -> Iterator[Line]:
    indent = "  " * (len(path) - 1)
    if isinstance(value, dict) and value:
        yield sign, f"{indent}{key}:", ""
        for name, inner in value.items():
            yield from _whole(sign, name, inner, (*path, str(name)), recipe)
        return
    # A list in brackets keeps the value on the line of its key.
    text = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=1 << 20).strip()[1:-1]
    yield sign, visible(f"{indent}{key}: {text}"), comment_of(path, recipe)


def comment_of(path: tuple[str, ...], recipe: Recipe) -> str:
    """Return the first sentence about a value of a recipe, or "" where nothing is known about it.

    Args:
        path: keys from the root on, such as ``("model", "matcher", "positive")``.
        recipe: plain values.
    """
    try:
        text = _described(path, recipe)
    except (DensedetError, LookupError, TypeError, AttributeError, ImportError):
        return ""  # a plug-in that is not installed here
    text = " ".join(text.split())
    text = SENTENCE_END.split(text)[0].removesuffix(".")
    return visible(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")


def _described(path: tuple[str, ...], recipe: Recipe) -> str:
    section, *keys = path
    field = SECTIONS[section].model_fields.get(keys[0]) if section in SECTIONS and keys else None
    if len(keys) == 1:
        return (field.description or "") if field else ""
    if len(keys) != 2:
        return ""
    slot = part_of_field(field) if field else None
    spec = recipe[section][keys[0]]
    component = load_plugins().components.get(slot.kind if slot else keys[0], spec["name"])
    return component.summary if keys[1] == "name" else arguments_of(component)[keys[1]].doc
