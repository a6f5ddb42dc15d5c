"""From a run folder or a checkpoint to a run that goes on: what has changed since is said, applied or
refused."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from densedet.core import sealed_file
from densedet.core.assembly.class_weights import PATH as CLASS_WEIGHTS
from densedet.core.data.fingerprint import differences
from densedet.core.distributed import from_main
from densedet.core.errors import CheckpointError, UsageError
from densedet.core.mappings import at_path, differing, touches
from densedet.core.recipe.faults import RecipeError
from densedet.core.recipe.loading import Recipe
from densedet.core.recipe.merging import Overrides, shipped_recipes
from densedet.core.recipe.yaml_marks import parse_yaml
from densedet.core.training import checkpoint
from densedet.core.training.folders import stage_of
from densedet.core.training.run import Run

NAMED = 4
"""Changed values of a recipe that a sentence names."""

JUDGING = (
    *("evaluate.evaluator", "evaluate.metric", "evaluate.higher_is_better"),
    *("data.input_size_wh", "data.resize", "data.color"),
)
"""Where these change, the best value so far is no longer to be compared with."""

HELD_OUT = ("data.root", "data.classes", "data.holdout", "data.holdout_seed", "train.seed")
OF_THE_DATA = (*HELD_OUT, "data.train", "data.filter")
OF_VALIDATION = (*HELD_OUT, "data.val", "data.val_filter")
"""Where these change, the user has asked for other images or boxes."""

MEANS = ("run", "plugins", "description", "data.workers", "train.threads")
"""Where two recipes differ in these alone, they describe the same training."""

THERE = "{path} is {new} there and {old} in the checkpoint"


def place_of(path: Path) -> tuple[Path, Path]:
    """Return the run folder and the checkpoint that ``path`` means: a run folder with its last.pt, or a file.

    Raises:
        UsageError: it names neither, but a recipe.
        CheckpointError: there is no checkpoint.
    """
    if os.path.isfile(path):
        return path.parent, path
    if os.path.isdir(path):
        if not os.path.isfile(path / "last.pt"):
            raise CheckpointError(f"there is no checkpoint {path / 'last.pt'}: nothing of this run can go on")
        return path, path / "last.pt"
    if path.suffix in (".yaml", ".yml") or str(path) in shipped_recipes():
        raise UsageError(
            f"{path} is a recipe: write densedet train {path} --resume to continue its newest run"
        )
    raise CheckpointError(
        f"there is no checkpoint at {path}: give a run folder such as runs/quickstart_ssd/1, or its last.pt"
    )


def continued(
    folder: Path,
    file: Path,
    overrides: Overrides,
    *,
    plugins: Sequence[str] = (),
    hooks: Sequence[Any] = (),
    allow_changes: bool = False,
) -> Run:
    """Build the run of a checkpoint, ready to go on. Nothing is written.

    Args:
        folder: the run folder.
        file: the checkpoint.
        overrides: changes to its recipe.
        plugins: plug-in files that the recipe needs.
        hooks: hook objects that are called after those of the recipe.
        allow_changes: whether to go on where data or recipe.yaml have changed since.

    Raises:
        CheckpointError: there is no checkpoint, it does not fit, or something has changed that nobody told.
    """
    state = from_main(lambda: checkpoint.load(file))
    recipe = checkpoint.recipe_of(state, tuple(plugins))
    then = recipe.values
    if overrides:
        recipe = recipe.with_overrides(overrides)
    run = Run(recipe, resume=state, folder=folder, hooks=hooks)
    changed = dict(differing(then, recipe.values))
    if changed:
        run.notes.append(f"changed for this resume: {_listed(changed, '{path} {old} -> {new}')}")
    found, other_val = from_main(
        lambda: (
            [*_edited(folder, state, overrides), *_other_data(run, state, changed)],
            state["fingerprints"]["val"] != run.fingerprints["val"],
        )
    )
    if found and not allow_changes:
        raise CheckpointError(
            f"{folder} cannot go on as it was: {'; '.join(found)}. Undo this, or add --allow-changes (from "
            f"Python allow_changes=True) to go on with things as they are"
        )
    run.notes += [f"changed since the checkpoint: {sentence}" for sentence in found]
    if run.best["value"] is not None:
        run.notes += _about_the_best(run, folder / "best.pt", other=other_val or touches(changed, JUDGING))
    return run


def _about_the_best(run: Run, file: Path, *, other: bool) -> list[str]:
    """Forget the best evaluation so far where best.pt is not whole, or where the next evaluation is of
    something else. Return sentences about it."""
    damage = from_main(lambda: sealed_file.damage(file))
    if damage is None and run.val_set is None:
        return [f"nothing is evaluated any more: {file} stays that of step {run.best['step']}"]
    if damage is None and not other:
        return []
    run.best, run.stale = {"value": None, "step": 0}, 0
    if damage is not None:
        return [f"{file} cannot be used and is written anew: {damage}"]
    return ["the best evaluation so far was of something else: the next one is the first"]


def larger_budget(run: Run) -> str:
    """Return an override that doubles what a run has used of its budget."""
    budget = run.settings.budget
    if budget.minutes:
        return f"train.budget.minutes={2 * max(budget.minutes, run.seconds / 60):g}"
    if budget.epochs:
        return f"train.budget.epochs={2 * max(budget.epochs, run.epoch)}"
    return f"train.budget.steps={2 * max(budget.steps or 0, run.step)}"


def own_recipe(folder: Path, asked: Recipe, overrides: Overrides) -> str | None:
    """Say where the recipe of a run differs from the one by which the user found the run; None: nowhere."""
    differ = _but_told(_own_differences(folder, asked), overrides)
    if not differ:
        return None
    listed = _listed(differ, "{path} is {new} there and {old} here")
    return f"{folder} goes on with its own recipe, which differs from {asked.name}: {listed}"


def checked_stage(folder: Path, asked: Recipe) -> Literal["new", "begun", "ended"]:
    """Return how far the run in a folder is (`stage_of`).

    Raises:
        UsageError: it is a run of another recipe than the one asked for.
    """
    stage = stage_of(folder)
    differ = {} if stage == "new" else _own_differences(folder, asked)
    if other := {path: values for path, values in differ.items() if not touches([path], MEANS)}:
        listed = _listed(other, "{path} is {new} there and {old} here")
        raise UsageError(f"{folder} holds a run of another recipe ({listed}): give another folder")
    return stage


def other_means(folder: Path, asked: Recipe) -> dict[str, Any]:
    """Return the overrides by which the run in a folder goes on with the threads and workers asked for."""
    differ = _own_differences(folder, asked)
    return {path: here for path, (here, _) in differ.items() if path in ("data.workers", "train.threads")}


def _own_differences(folder: Path, asked: Recipe) -> dict[str, tuple[Any, Any]]:
    """Return where a recipe differs from that of the run in a folder; {} where it cannot be read."""
    own = _recipe_in(folder / "recipe.yaml")
    differ = {} if own is None else dict(differing(asked.values, own))
    if asked.values["train"] is not None and asked.train.batch_size == "auto":
        for path in ("train.batch_size", "train.optimizer.lr"):  # the run has numbers
            differ.pop(path, None)
    if not isinstance(at_path(asked.values, CLASS_WEIGHTS), list | None):
        differ.pop(CLASS_WEIGHTS, None)  # likewise
    return differ


def _edited(folder: Path, state: dict[str, Any], overrides: Overrides) -> list[str]:
    """Compare recipe.yaml in the run folder with the recipe in the checkpoint, but for what is overridden."""
    file = folder / "recipe.yaml"
    if not os.path.isfile(file):
        return []
    here = _recipe_in(file)
    if here is None:
        return [f"{file} is no recipe any more"]
    differ = _untold(checkpoint.recipe_values(state), here, overrides)
    if not differ:
        return []
    return [
        f"{file} is not the recipe in the checkpoint ({_listed(differ, THERE)}): give changes as path=value"
    ]


def _recipe_in(file: Path) -> dict[str, Any] | None:
    """Return the plain values of a recipe, or None where the file holds none."""
    try:
        values = parse_yaml(file.read_text(encoding="utf-8"), str(file)).plain()
    except (OSError, ValueError, RecipeError):
        return None
    return values if isinstance(values, dict) else None


def _untold(one: Any, other: Any, overrides: Overrides) -> dict[str, tuple[Any, Any]]:
    """Return where two recipes differ, but for what is overridden."""
    return _but_told(dict(differing(one, other)), overrides)


def _but_told(differ: dict[str, tuple[Any, Any]], overrides: Overrides) -> dict[str, tuple[Any, Any]]:
    given = [o.partition("=")[0].strip() for o in overrides]  # the keys of a mapping, likewise
    return {path: values for path, values in differ.items() if not touches([path], given)}


def _other_data(run: Run, state: dict[str, Any], changed: Mapping[str, Any]) -> list[str]:
    """Compare the data with those of the checkpoint, unless the user has changed what they are."""
    found = []
    for split, what, keys in (("train", "training", OF_THE_DATA), ("val", "validation", OF_VALIDATION)):
        then, now = state["fingerprints"][split], run.fingerprints[split]
        if then and now and not touches(changed, keys):
            found += differences(then, now, what)
    return found


def _listed(values: Mapping[str, tuple[Any, Any]], form: str) -> str:
    texts = [
        form.format(path=path, old=f"{old!r:.40}", new=f"{new!r:.40}") for path, (old, new) in values.items()
    ]
    more = f", and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return ", ".join(texts[:NAMED]) + more
