"""Files that survive: one dict of tensors and plain values, written to a temporary name, synced and renamed.

The dict of a checkpoint (`FIELDS`) defines the state of a run: `densedet.core.training.run.Run.state` writes
it and a new ``Run(recipe, resume=state)`` reads it. Everything in it can be read with ``weights_only=True``:
no code runs on loading.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from densedet.core.errors import CheckpointError
from densedet.core.files import atomic_file
from densedet.core.recipe.loading import Recipe, recipe_from_dict
from densedet.core.recipe.yaml_marks import parse_yaml
from densedet.core.state_dict import misfit

FORMAT = 1
FIELDS = {
    "format": "version of this table",
    "densedet": "version that wrote it",
    "recipe": "the resolved recipe, YAML text",
    "recipe_name": "its name",
    "classes": "class names in label order",
    "category_ids": "the data set's id of each class",
    "step": "optimizer steps done",
    "epoch": "epochs done",
    "batch": "batches of the current epoch done",
    "seconds": "seconds spent in the training loop",
    "detector": "weights being trained",
    "ema": "averaged weights, or None",
    "optimizer": "the optimizer's state, or None in best.pt",
    "scaler": "the gradient scaler's state, or None",
    "rng": "torch's, CUDA's and Python's random states",
    "best": "best value of evaluate.metric so far and its step",
    "metrics": "of the last evaluation",
    "stale": "evaluations since the best one",
    "plugins": "{hook: what its densedet_state gave}",
}

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
        CheckpointError: a tensor of it is not finite; the file stays as it was.
    """
    broken = [name for part in WEIGHTS for name in not_finite(state[part], part)]
    if broken:
        more = f" and {len(broken) - 1} more tensors are" if len(broken) > 1 else " is"
        raise CheckpointError(
            f"{path} is not written: {broken[0]}{more} not finite at step {state['step']}. An older file of "
            f"this name stays as it was: resume from it with a smaller train.optimizer.lr or a longer "
            f"train.schedule.warmup_steps"
        )
    with atomic_file(path) as file:
        torch.save(state, file)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        CheckpointError: it is missing, damaged, or not one of densedet.
    """
    if not path.is_file():
        raise CheckpointError(
            f"there is no checkpoint at {path}: give a run folder such as runs/quickstart_ssd/1 or a .pt file"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OSError,
        zipfile.BadZipFile,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path} is no readable checkpoint (damaged, or holds more than tensors and plain values): "
            f"{reason}"
        ) from error
    if not isinstance(state, dict) or "format" not in state or "detector" not in state:
        raise CheckpointError(f"{path} is not a densedet checkpoint: it lacks 'format' and 'detector'")
    if state["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has format {state['format']}, this densedet reads {FORMAT}: use the version that "
            f"wrote it"
        )
    missing = sorted(set(FIELDS) - set(state))
    if missing:
        raise CheckpointError(f"{path} is incomplete: {', '.join(missing)} is missing")
    return state


def resolve(path: Path, *, prefer: str = "best.pt") -> Path:
    """Return the checkpoint that ``path`` means: the file itself, or best.pt (else last.pt) of a run folder.

    Raises:
        CheckpointError: the folder holds neither.
    """
    if path.is_dir():
        for name in (prefer, "best.pt", "last.pt"):
            if (path / name).is_file():
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

    Args:
        state: From `load`.
        plugins: Plug-ins that the user hands over; those that the recipe names are not imported by
            themselves.
        for_training: False spares the parts that predicting does not build: a hook, a transform, a source
            or an evaluator may be unknown, and is told when it is built after all.
    """
    values = parse_yaml(state["recipe"], state["recipe_name"]).plain()
    spared = () if for_training else LATER
    return recipe_from_dict(values, name=state["recipe_name"], plugins=plugins, spared=spared)


def load_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy the state dict of a checkpoint into ``model``.

    Raises:
        CheckpointError: it does not fit.
    """
    problem = misfit(model.state_dict(), weights, reader="detector", may_lack=())
    if problem:
        raise CheckpointError(
            f"the weights do not fit this recipe's detector ({problem}): use the recipe they were "
            f"trained with"
        )
    model.load_state_dict(weights)
