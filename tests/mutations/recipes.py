"""Recipes and overrides, changed, then loaded, written down, loaded again, and some of them built."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
import yaml
from mutations import changes

from densedet.core import assembly
from densedet.core.recipe.loading import Recipe, load_recipe, recipe_from_dict
from densedet.core.recipe.merging import CONFIGS, shipped_recipes
from densedet.core.recipe.yaml_marks import parse_yaml
from densedet.core.state_dict import weights_follow
from densedet.core.training.fit import check_fit

LARGEST = 3_000_000
"""Parameters of a detector that is built in earnest; others are built without memory."""

BUILT = 0.25
"""Share of the recipes that are built, of those that load."""


class RecipeKind:
    """Shipped recipes, whole or as changes to one. corpus: not used."""

    def __init__(self, corpus: Path) -> None:
        self.files = [path.read_bytes() for path in sorted(CONFIGS.rglob("*.yaml"))]
        self.names = shipped_recipes()
        self.values = {name: load_recipe(name).values for name in self.names}
        self.small = [
            name for name in self.names if name.startswith(("laptop", "quickstart", "cross", "bccd"))
        ]
        self.paths = {name: list(paths(values)) for name, values in self.values.items()}

    def make(self, draw: random.Random, folder: Path) -> None:
        """Write recipe.yaml and overrides.json, one of them changed or both."""
        kind = draw.randrange(6)
        name = draw.choice(self.names if draw.random() < 0.15 else self.small)
        overrides: list[str] = []
        if kind == 0:  # a shipped file, with its bases
            content = changes.changed_bytes(draw.choice(self.files), draw, self.files)
        elif kind == 1:  # a shipped file as a tree
            tree = yaml.safe_load(draw.choice(self.files))
            content = changes.as_json(changes.changed_tree(tree, draw, changes.YAML_RAWS))
        elif kind == 2:  # a whole recipe, with every value of every part
            content = changes.as_json(changes.changed_tree(self.values[name], draw, changes.YAML_RAWS))
        elif kind == 3:  # numbers of a recipe
            content = f"base: {name}.yaml".encode()
            overrides = [self.number(name, draw) for _ in range(draw.choice((1, 1, 2, 5)))]
        else:
            content = f"base: {name}.yaml".encode()
            overrides = [self.override(name, draw) for _ in range(draw.choice((1, 1, 2, 5)))]
        (folder / "recipe.yaml").write_bytes(content)
        (folder / "overrides.json").write_text(json.dumps(overrides))

    def override(self, name: str, draw: random.Random) -> str:
        path, value = draw.choice(self.paths[name])
        keys = path.split(".")
        if draw.random() < 0.2:
            keys[draw.randrange(len(keys))] = draw.choice(
                (*changes.TEXTS[:18], "0", "-1", "99", "name", "base")
            )
        raws = changes.YAML_RAWS
        text = changes.as_json(changes.other_value(value, draw, raws)).decode("utf-8", "surrogatepass")
        return draw.choice(("{}={}",) * 9 + ("{}{}", "{} = {}", "={}{}")).format(".".join(keys), text)

    def number(self, name: str, draw: random.Random) -> str:
        """Return an override of a number or word by another one that may be as good."""
        path, value = draw.choice([row for row in self.paths[name] if isinstance(row[1], (int, float, str))])
        if isinstance(value, bool):
            value = not value
        elif isinstance(value, str):
            same = {v for rows in self.paths.values() for p, v in rows if p == path and isinstance(v, str)}
            value = draw.choice(sorted(same))
        else:
            value = draw.choice((value + 1, value * 2, value * 64, value / 2, value - 1, 1, 1 << 20, 10**9))
        return f"{path}={json.dumps(value)}"

    def use(self, draw: random.Random, folder: Path) -> None:
        """Load it. A recipe without faults is the same when it was written down, and can be built or not."""
        overrides = json.loads((folder / "overrides.json").read_text())
        recipe = load_recipe(folder / "recipe.yaml", overrides)
        text = recipe.to_yaml()
        again = recipe_from_dict(parse_yaml(text, "again").plain())
        assert again.to_yaml() == text, "written down, it is another recipe"
        if draw.random() < BUILT:
            build(recipe)


def build(recipe: Recipe) -> None:
    """Build what a run would, where it is small; else the detector alone, without its numbers."""
    classes = len(recipe.data.classes or "abc") if recipe.values["data"] is not None else 3
    if recipe.values["data"] is None:
        return
    with torch.device("meta"), weights_follow():
        detector = assembly.build_detector(recipe, classes, checked=False)
    if sum(parameter.numel() for parameter in detector.parameters()) <= LARGEST:
        check_fit(recipe)


def paths(value: Any, above: str = "") -> Any:
    """Give (dotted path, value) of everything in a recipe."""
    if above:
        yield above, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield from paths(child, f"{above}.{key}" if above else str(key))
