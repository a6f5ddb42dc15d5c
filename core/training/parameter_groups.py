"""Which parameters share a learning rate, a weight decay and a start."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from typing import Any

from torch import nn

from densedet.core.recipe.loading import Recipe, RecipeError
from densedet.core.recipe.sections import ParameterGroup


def freeze(detector: nn.Module, recipe: Recipe) -> None:
    """Take the parameters that ``train.frozen`` names out of training.

    Raises:
        RecipeError: a pattern fits no parameter.
    """
    parameters = dict(detector.named_parameters())
    for position, pattern in enumerate(recipe.train.frozen):
        chosen = [name for name in parameters if fnmatch.fnmatchcase(name, pattern)]
        if not chosen:
            raise _unknown(recipe, f"train.frozen.{position}", "no parameter", pattern, parameters)
        for name in chosen:
            parameters[name].requires_grad_(False)


def _unknown(recipe: Recipe, path: str, what: str, pattern: str, names: Iterable[str]) -> RecipeError:
    starts = ", ".join(sorted({name.split(".")[0] for name in names}))
    return recipe.error(
        path,
        f"{what} is called {pattern!r}: write a pattern such as 'backbone.*'; the names start with {starts}",
    )


def grouped(detector: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Split the trainable parameters into the groups that an optimizer takes.

    Every group holds either weights, which decay, or biases, norms and scalars (one axis or none), which do
    not. ``train.parameter_groups`` sets the rest by name pattern; the first pattern that fits counts. A
    detector with a method ``parameter_groups(patterns)``, which returns {parameter name: pattern or None},
    decides by itself what a pattern means.

    Returns:
        Mappings with "params", "decay" (whether the optimizer's weight decay applies), "weight_decay" (where
        the recipe sets one), "lr_factor" and "start" (progress from which the group trains).

    Raises:
        RecipeError: a pattern fits no trainable parameter.
    """
    rules = recipe.train.parameter_groups
    trainable = {name: p for name, p in detector.named_parameters() if p.requires_grad}
    own = getattr(detector, "parameter_groups", None)
    chosen = own(list(rules)) if own is not None else {name: _first(name, rules) for name in trainable}
    for pattern in rules:
        if pattern not in chosen.values():
            raise _unknown(recipe, "train.parameter_groups", "no parameter that trains", pattern, trainable)
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    depth = {pattern: _stages(pattern, chosen) for pattern in rules}
    for name, parameter in trainable.items():
        chosen_by = chosen.get(name)
        rule = ParameterGroup.model_validate({}) if chosen_by is None else rules[chosen_by]
        factor = rule.lr
        if chosen_by is not None and rule.layer_decay is not None:
            stages = depth[chosen_by]
            factor *= rule.layer_decay ** (len(stages) - 1 - stages.index(_stage(name)))
        decay = parameter.ndim > 1
        group = {"params": [], "decay": decay, "lr_factor": factor, "start": rule.start}
        if decay and rule.weight_decay is not None:
            group["weight_decay"] = rule.weight_decay
        groups.setdefault((chosen_by, factor, decay), group)["params"].append(parameter)
    return list(groups.values())


def _first(name: str, rules: dict[str, ParameterGroup]) -> str | None:
    return next((pattern for pattern in rules if fnmatch.fnmatch(name, pattern)), None)


def _stage(name: str) -> str:
    """The part and its direct child that a parameter belongs to: "backbone.layer1"."""
    return ".".join(name.split(".")[:2])


def _stages(pattern: str, chosen: dict[str, str | None]) -> list[str]:
    """The stages that a pattern covers, from the input on: modules register in this order."""
    return list(dict.fromkeys(_stage(name) for name, rule in chosen.items() if rule == pattern))
