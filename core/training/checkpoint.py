"""Files that survive: one dict of tensors and plain values, written to a temporary name, synced and renamed.

The dict of a checkpoint (`densedet.core.training.checkpoint_fields.Fields`) defines the state of a run:
`densedet.core.training.run.Run.state` writes it and a new ``Run(recipe, resume=state)`` reads it. No code
runs on loading, a file with a changed byte is refused, and so is a field of another type.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from densedet.core import files, sealed_file
from densedet.core.data.image_cache import cache_root, holds_caches
from densedet.core.errors import CheckpointError, UsageError
from densedet.core.recipe.loading import Recipe, recipe_from_dict
from densedet.core.recipe.yaml_marks import parse_yaml
from densedet.core.state_dict import misfit
from densedet.core.text import counted
from densedet.core.training.checkpoint_fields import FORMAT, Fields

WEIGHTS = ("detector", "ema", "optimizer")
"""The fields whose tensors must be finite."""


def not_finite(value: Any, name: str) -> list[str]:
    """Return the dotted names, from ``name`` on, of the tensors within ``value`` that are not finite."""
    if isinstance(value, Tensor):
        return [] if bool(value.isfinite().all()) else [name]
    items = value.items() if isinstance(value, dict) else ()
    return [found for key, inner in items for found in not_finite(inner, f"{name}.{key}")]


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically.

    Raises:
        CheckpointError: a tensor of it is not finite, or a field could not be read again; the file stays as
            it was.
    """
    broken = [name for part in WEIGHTS for name in not_finite(state[part], part)]
    if broken:
        more = f" and {counted(len(broken) - 1, 'more tensor')} are" if len(broken) > 1 else " is"
        raise CheckpointError(
            f"{path} is not written: {broken[0]}{more} not finite at step {state['step']}. An older file of "
            f"this name stays as it was: resume from it with a smaller train.optimizer.lr or a longer "
            f"train.schedule.warmup_steps"
        )
    fault = _fault(state)
    if fault:
        raise CheckpointError(f"{path} is not written, since it could not be read again: {fault}")
    sealed_file.write(path, state)


def save_thresholds(path: Path, thresholds: dict[str, Any], *, of: Mapping[str, Tensor]) -> None:
    """Write a checkpoint anew with other thresholds; everything else stays bit by bit.

    Args:
        path: the checkpoint.
        thresholds: the fields of `densedet.core.training.checkpoint_fields.Thresholds`.
        of: the weights that they were found for.

    Raises:
        BusyError: a run writes to its folder.
        UsageError: the checkpoint has other weights by now.
        CheckpointError: it cannot be read, or the thresholds do not fit.
        OutputError: it cannot be written.
    """
    with files.locked(path.parent):
        state = load(path)
        weights = state["detector"] if state["ema"] is None else state["ema"]
        if not all(name in of and torch.equal(of[name].cpu(), value) for name, value in weights.items()):
            raise UsageError(f"{path} was written anew since it was evaluated: evaluate it again")
        save(path, {**state, "thresholds": thresholds})


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        CheckpointError: it is missing, damaged, or not one of densedet.
    """
    if not os.path.isfile(path):
        raise CheckpointError(
            f"there is no checkpoint at {path}: give a run folder such as runs/quickstart_ssd/1, a .pt file, "
            f"or a recipe with model.weights=FILE"
        )
    try:
        state = sealed_file.read(path)
    except (ValueError, OSError) as error:
        last = path.with_name("last.pt")
        instead = f". Take {last}" if path.name == "best.pt" and os.path.isfile(last) else ""
        raise CheckpointError(f"{path} is no readable checkpoint: {error}{instead}") from error
    if not isinstance(state, dict) or "format" not in state or "detector" not in state:
        raise CheckpointError(f"{path} is not a densedet checkpoint: it lacks 'format' and 'detector'")
    if type(state["format"]) is not int or state["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has format {state['format']!r:.40}, this densedet reads {FORMAT}: use the version that "
            f"wrote it"
        )
    fault = _fault(state)
    if fault:
        raise CheckpointError(f"{path} is not a checkpoint that densedet has written: {fault}")
    return state


def _fault(state: dict[str, Any]) -> str | None:
    """Return what is wrong with the first field that has a wrong type; None where none has."""
    try:
        Fields.model_validate(state)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"][:4]))[:80] or "its fields"
        return f"{place}: {first['msg'].removeprefix('Value error, ')}"
    return None


def resolve(path: Path, *, prefer: str = "best.pt") -> Path:
    """Return the checkpoint that ``path`` means: the file itself, or best.pt (else last.pt) of a run folder.

    Raises:
        CheckpointError: the folder holds neither.
    """
    if os.path.isdir(path):
        for name in (prefer, "best.pt", "last.pt"):
            if os.path.isfile(path / name):
                return path / name
        raise CheckpointError(
            f"{path} holds neither best.pt nor last.pt: give a run folder such as runs/quickstart_ssd/1"
        )
    return path


LATER = (
    "run",
    "train",
    "evaluate",
    "data.train",
    "data.val",
    "data.sampler",
    "data.transforms",
    "data.batch_transforms",
)
"""Dotted paths of a recipe whose parts a detector does without when it predicts."""


def recipe_of(state: dict[str, Any], plugins: tuple[str, ...] = (), *, for_training: bool = True) -> Recipe:
    """Return the recipe inside a checkpoint.

    A checkpoint of a stranger does not choose where this machine writes: its ``data.cache_folder`` counts
    only where such caches lie already, and else is null.

    Args:
        state: From `load`.
        plugins: Plug-ins that the user hands over; those that the recipe names are not imported by
            themselves.
        for_training: False spares the parts that predicting does not build: a hook, a transform, a source
            or an evaluator may be unknown, and is told when it is built after all.
    """
    values = recipe_values(state)
    data = values.get("data")
    if isinstance(data, dict) and not _is_a_cache(data.get("cache_folder")):
        data["cache_folder"] = None
    spared = () if for_training else LATER
    return recipe_from_dict(values, name=state["recipe_name"], plugins=plugins, spared=spared)


def recipe_values(state: dict[str, Any]) -> dict[str, Any]:
    """Return the plain values of the recipe inside a checkpoint, as it was written.

    Raises:
        CheckpointError: it is no recipe.
        RecipeError: it is no YAML.
    """
    values = parse_yaml(state["recipe"], state["recipe_name"]).plain()
    if not isinstance(values, dict):
        raise CheckpointError("the recipe in this checkpoint is no mapping: densedet has not written it")
    return values


def _is_a_cache(folder: Any) -> bool:
    try:
        return isinstance(folder, str) and holds_caches(cache_root(folder))
    except (OSError, RuntimeError, ValueError):  # a name that is no path, the home of nobody
        return False


def load_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy the state dict of a checkpoint into ``model``.

    Raises:
        CheckpointError: it does not fit, or is not finite.
    """
    own = model.state_dict()
    problem = misfit(own, weights, reader="detector", may_lack=()) or _unlike(own, weights)
    if problem:
        raise CheckpointError(
            f"the weights do not fit this recipe's detector ({problem}): use the recipe they were "
            f"trained with"
        )
    broken = [found for name, value in weights.items() for found in not_finite(value, name)]
    if broken:
        raise CheckpointError(f"the weights are not finite at {broken[0]}: take an older checkpoint")
    model.load_state_dict(weights)


def _unlike(own: dict[str, Tensor], weights: dict[str, Tensor]) -> str | None:
    for name, value in own.items():
        if weights[name].dtype != value.dtype:
            return f"they are {weights[name].dtype} at {name}, which is {value.dtype} here"
    return None
