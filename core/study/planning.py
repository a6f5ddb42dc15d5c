"""From recipes, finished runs, seeds, grids and data sets to the runs of a study; nothing is trained yet."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from densedet.core.errors import UsageError
from densedet.core.recipe.loading import Recipe, load_recipe
from densedet.core.recipe.merging import find_recipe
from densedet.core.recipe.yaml_marks import parse_yaml
from densedet.core.report.records import at_path, read_run
from densedet.core.report.rungs import Ladder
from densedet.core.study.data_sets import DataSet
from densedet.core.study.places import digest_of
from densedet.core.study.study import Arm, Study, StudyRun, in_turns
from densedet.core.training.fit import check_fit

NOWHERE = Path()
"""Folder of a run that has no place yet."""

OF_JUDGING = ("data.val", "data.root", "data.classes", "data.cache_", "evaluate.")
"""Beginnings of the changes that say on what and how a finished detector is evaluated."""


@dataclass
class Plan:
    """A study before its runs.

    Attributes:
        study: the study. Runs that are to be trained have no folder yet.
        recipes: recipe of each arm on each data set, by (arm, data); without those of finished runs.
        ladder: the steps between the arms; None where the arms are no ladder.
    """

    study: Study
    recipes: dict[tuple[str, str], Recipe]
    ladder: Ladder | None = None


def plan_study(
    names: Sequence[str],
    overrides: Sequence[str] = (),
    *,
    vary: Sequence[str] = (),
    sets: Sequence[DataSet] = (),
    seeds: int | None = None,
) -> Plan:
    """Plan the runs, and refuse what cannot be trained before the first one has trained for an hour.

    Args:
        names: recipes, and folders of finished runs.
        overrides: changes to all recipes, as on the command line. Those of the images to evaluate on, and of
            how, count for finished runs too.
        vary: grids, PATH=a,b,c each; every recipe is trained with each combination of values.
        sets: data sets that every recipe is trained on; none: its own.
        seeds: number of seeds, which are 0, 1, 2 ...; None: the recipe's own.

    Raises:
        UsageError: two arms would train the same, the seed is varied, or a folder is no run.
        RecipeError: a recipe of an arm is faulty.
    """
    folders = [Path(name) for name in names if Path(name).is_dir()]
    named = [name for name in names if not Path(name).is_dir()]
    _refuse_twice(named)
    judging = [text for text in overrides if text.startswith(OF_JUDGING)]
    if not named:
        _refuse_idle(overrides, judging, vary, seeds)
    arms, runs, recipes = [], list[StudyRun](), dict[tuple[str, str], Recipe]()
    titles = arm_titles(named)
    for name, values in itertools.product(named, list(_combinations(vary))):
        settings = [f"{path}={text}" for path, text in values.items()]
        title = " ".join([titles[name], *_settings(values)]) if len(named) > 1 or not values else ""
        title = title or ", ".join(_settings(values))
        for data in sets or [DataSet()]:
            given = [*data.overrides, *overrides, *settings]
            recipe = fair_recipe(name, given, data.plugins)
            recipes[title, data.name] = recipe
            chosen = [recipe.train.seed] if seeds is None else range(seeds)
            runs += [StudyRun(title, data.name, seed, NOWHERE) for seed in chosen]
        arms.append(Arm(title, recipe.name, {path: _value(text) for path, text in values.items()}))
    _refuse_same(recipes)
    for arm, own in _finished(folders, {arm.name for arm in arms}):
        arms.append(arm)
        for data in sets or [DataSet()]:
            changes = (*data.to_judge, *judging)
            runs += [replace(run, data=data.name, changes=changes) for run in own]
    return Plan(Study(arms, [data.name for data in sets] or [""], in_turns(runs)), recipes)


def _refuse_idle(
    overrides: Sequence[str], judging: Sequence[str], vary: Sequence[str], seeds: int | None
) -> None:
    """Refuse what changes nothing where all is trained already.

    Raises:
        UsageError: something is asked for that only training heeds.
    """
    idle = [text for text in overrides if text not in judging]
    idle += [f"--vary {text}" for text in vary] + ([] if seeds is None else [f"--seeds {seeds}"])
    if idle:
        raise UsageError(f"{idle[0]} changes nothing: everything to compare is trained already")


def fair_recipe(name: str, overrides: Sequence[str], plugins: Sequence[str] = ()) -> Recipe:
    """Load a recipe as a study trains it: all seeds hold out the same images, and each run gets its GPU from
    the launcher.

    Args:
        name: a file, or the name of a shipped recipe.
        overrides: changes to it, as on the command line.
        plugins: plug-in files and modules beside its own.

    Raises:
        RecipeError: it is faulty, or its parts do not fit each other.
    """
    find_recipe(name, "there is neither such a run folder nor such a recipe")
    recipe = load_recipe(name, overrides, plugins=plugins)
    check_fit(recipe)
    device = recipe.train.device
    if ":" in device:
        raise recipe.error(
            "train.device",
            f"each run is given its GPU: write train.device=auto, and CUDA_VISIBLE_DEVICES="
            f"{device.partition(':')[2]} before the command to use this one alone",
        )
    if recipe.data.holdout is not None and recipe.data.holdout_seed is None:
        return recipe.with_overrides({"data.holdout_seed": 0})
    return recipe


def arm_titles(names: Sequence[str]) -> dict[str, str]:
    """Return a name for each recipe: the stem of its file, with its folder where another has this stem."""
    stems = {name: Path(name.rpartition(":")[2]).stem for name in names}
    counts = Counter(stems.values())
    return {
        name: stem if counts[stem] == 1 else str(Path(name).with_suffix("")) for name, stem in stems.items()
    }


def _refuse_twice(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{name} is named twice: --seeds 2 trains it with two seeds")


def _refuse_same(recipes: dict[tuple[str, str], Recipe]) -> None:
    """Refuse arms that differ in their names alone."""
    known: dict[tuple[str, str], str] = {}
    for (arm, data), recipe in recipes.items():
        other = known.setdefault((digest_of(recipe), data), arm)
        if other != arm:
            raise UsageError(f"{other} and {arm} train the same: leave one out, or change something of it")


def _combinations(vary: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield {path: value as text} of each point of the grid; one empty one where nothing varies."""
    grids = [(path, values) for path, values in map(_grid, vary)]
    paths = [path for path, _ in grids]
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(f"--vary {path} is there twice: write all of its values in one")
    for values in itertools.product(*(values for _, values in grids)):
        yield dict(zip(paths, values))


def _grid(text: str) -> tuple[str, list[str]]:
    path, equals, values = text.partition("=")
    path = path.strip()
    found = split_values(values)
    if not equals or "." not in path or not all(found):
        raise UsageError(f"--vary {text!r}: write the path and its values, as train.optimizer.lr=0.01,0.02")
    if path == "train.seed":
        raise UsageError("--vary train.seed: the runs of one arm differ in the seed; write --seeds N")
    if path == "run" or path.startswith("run."):
        raise UsageError(f"--vary {path}: nothing below run changes what is trained")
    if twice := [value for value in found if found.count(value) > 1]:
        raise UsageError(f"--vary {path} has the value {twice[0]} twice")
    return path, found


def split_values(text: str) -> list[str]:
    """Split at the commas that stand outside of brackets and quotation marks."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if letter == "," and depth == 0 and not quote:
            parts.append("")
            continue
        parts[-1] += letter
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in "[{") - (letter in "]}")
    return [part.strip() for part in parts]


def _settings(values: dict[str, str]) -> list[str]:
    """Return "key=value" for each path: the last key of the path, or as many as tell it from the others."""
    keys = {path: path.split(".") for path in values}
    shown = []
    for path, text in values.items():
        count = 1
        while sum(other[-count:] == keys[path][-count:] for other in keys.values()) > 1:
            count += 1
        shown.append(f"{'.'.join(keys[path][-count:])}={text}")
    return shown


def _value(text: str) -> Any:
    return parse_yaml(text, "--vary").plain()


def _finished(folders: Sequence[Path], taken: set[str]) -> Iterator[tuple[Arm, list[StudyRun]]]:
    """Yield an arm for each recipe among finished runs, with its runs. A second run of the same seed is
    an arm of its own."""
    arms: list[tuple[str, str, list[StudyRun]]] = []  # digest, name of the recipe, runs
    for folder in folders:
        if [other.resolve() for other in folders].count(folder.resolve()) > 1:
            raise UsageError(f"{folder} is named twice")
        record = read_run(folder)
        digest = digest_of(record.recipe) if record.recipe else str(folder)
        seed = at_path(record.recipe, "train.seed")
        seed, name = seed if isinstance(seed, int) else 0, record.name
        run = StudyRun("", "", seed, folder, status="done")
        for other, _, runs in arms:
            if other == digest and seed not in {known.seed for known in runs}:
                runs.append(run)
                break
        else:
            arms.append((digest, name, [run]))
    counts = Counter(name for _, name, _ in arms)
    for _, name, runs in arms:
        alone = counts[name] == 1 and name not in taken
        title = name if alone else f"{name}/{runs[0].folder.resolve().name}"
        while title in taken:
            title += "'"
        taken.add(title)
        yield Arm(title, name), [replace(run, arm=title) for run in runs]
