"""What recipes say that they reach, and what they reach here."""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from densedet.core.errors import UsageError
from densedet.core.text import json_text, say


def recipes(arguments: argparse.Namespace) -> int:
    """Train recipes that state what they reach (``expects``), seed by seed, and compare.

    A recipe reaches it where the mean of its metric over the seeds is no lower than expected, and no seed
    trains for more minutes. The exit code is 1 where one does not.
    """
    rows = [proved(name, overrides) for name, overrides in named(arguments.recipes)]
    if arguments.json:
        say(json_text(rows))
    else:
        say("\n".join(map(line, rows)))
    return 0 if all(row["reached"] for row in rows) else 1


def named(given: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return recipes with the changes that follow each; where none is named, all shipped ones that state
    something of data that they bring along. The others are told.

    Raises:
        UsageError: a change stands before any recipe, or a recipe states nothing.
    """
    from densedet.core.recipe.loading import load_recipe
    from densedet.core.recipe.merging import shipped_recipes

    found: list[tuple[str, list[str]]] = []
    for word in given:
        if "=" not in word:
            found.append((word, []))
        elif found:
            found[-1][1].append(word)
        else:
            raise UsageError(f"name a recipe before {word}, e.g. densedet benchmark recipes bccd_ssd {word}")
    if not found:
        stated = {name: load_recipe(name).expects for name in shipped_recipes()}
        for name, expected in stated.items():
            if expected is not None and expected.data is not None:
                say(
                    f"left out, as its data are to be given: densedet benchmark recipes {name} data.root=DIR "
                    f"(it states {expected.AP:g} on {expected.data})",
                    error=True,
                )
        return [(name, []) for name, one in stated.items() if one is not None and one.data is None]
    for name, changes in found:
        if load_recipe(name, changes).expects is None:
            raise UsageError(
                f"{name} does not state what it reaches: write e.g. expects: {{AP: .5, minutes: 10}} into it"
            )
    return found


def proved(name: str, changes: Sequence[str]) -> dict[str, Any]:
    """Train a recipe with each seed.

    Returns:
        "recipe", "metric", "expected", "found" (the mean over the seeds), "each" (by seed),
        "expected_minutes", "minutes" (the longest) and "reached".
    """
    from densedet.core.assembly.evaluators import metric_value
    from densedet.core.recipe.loading import load_recipe
    from densedet.core.training import session

    recipe = load_recipe(name, changes)
    expected = recipe.expects
    assert expected is not None
    values, minutes = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(recipe.train.seed, recipe.train.seed + expected.seeds):
            hooks = "run.hooks=[{name: metrics}, {name: progress}]"
            more = [
                f"train.seed={seed}",
                "train.evaluations=1",
                f"run.folder={Path(folder).as_posix()}",
                hooks,
            ]
            run = session.train(load_recipe(name, [*changes, *more]))
            values.append(metric_value(run.recipe, run.metrics))
            budget = run.recipe.train.budget.minutes or math.inf  # it ends with a whole step, a little later
            minutes.append(min(budget, run.seconds / 60))
    reached = mean(values) >= expected.AP and max(minutes) <= expected.minutes
    return {
        "recipe": name,
        "metric": recipe.evaluate.metric,
        "expected": expected.AP,
        "found": mean(values),
        "each": values,
        "expected_minutes": expected.minutes,
        "minutes": max(minutes),
        "reached": reached,
    }


def line(row: dict[str, Any]) -> str:
    """Tell one recipe's result."""
    each = ", ".join(f"{value:.3f}" for value in row["each"])
    return (
        f"{row['recipe']}: {row['metric']} {row['found']:.3f} ({each}) after {row['minutes']:.2f} minutes, "
        f"expected {row['expected']:.3f} after {row['expected_minutes']:g}: "
        + ("reached" if row["reached"] else "NOT reached")
    )
