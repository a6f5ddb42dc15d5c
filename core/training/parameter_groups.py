"""Which parameters share a learning rate, a weight decay and a start."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from types import MethodType
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from densedet.core.recipe.loading import Recipe, RecipeError
from densedet.core.recipe.sections import ParameterGroup


def freeze(detector: nn.Module, recipe: Recipe) -> None:
    """Take the parameters that ``train.frozen`` names out of training.

    A batch norm of which all parameters are named keeps its statistics, too, and normalises by them.

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
    for module in detector.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, _BatchNorm) and own and not any(p.requires_grad for p in own):
            module.train = MethodType(_stay_in_evaluation, module)  # type: ignore[method-assign]


def _stay_in_evaluation(module: nn.Module, mode: bool = True) -> nn.Module:
    """Take the place of a module's ``train``."""
    return nn.Module.train(module, False)


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
    stages = {
        pattern: stages_of([name for name, rule in chosen.items() if rule == pattern])
        for pattern, settings in rules.items()
        if settings.layer_decay is not None
    }
    for name, parameter in trainable.items():
        chosen_by = chosen.get(name)
        rule = ParameterGroup.model_validate({}) if chosen_by is None else rules[chosen_by]
        factor = rule.lr
        if chosen_by is not None and rule.layer_decay is not None:
            factor *= rule.layer_decay ** (max(stages[chosen_by].values()) - stages[chosen_by][name])
        decay = parameter.ndim > 1
        group = {"params": [], "decay": decay, "lr_factor": factor, "start": rule.start}
        if decay and rule.weight_decay is not None:
            group["weight_decay"] = rule.weight_decay
        groups.setdefault((chosen_by, factor, decay), group)["params"].append(parameter)
    return list(groups.values())


def _first(name: str, rules: dict[str, ParameterGroup]) -> str | None:
    return next((pattern for pattern in rules if fnmatch.fnmatch(name, pattern)), None)


def stages_of(names: Sequence[str]) -> dict[str, int]:
    """Number the stages that parameters belong to, from the input on: modules register in this order.

    A stage is a direct child of a part, such as backbone.layer1. Where a single child holds all parameters
    (backbone.body), its children are the stages.

    Args:
        names: names of parameters, in the order of registration.

    Returns:
        The number of each parameter's stage, from 0 on.
    """
    paths = {name: name.split(".") for name in names}
    depth = 2
    while len({tuple(path[:depth]) for path in paths.values()}) == 1 and depth < max(
        map(len, paths.values())
    ):
        depth += 1
    order = {
        stage: number for number, stage in enumerate(dict.fromkeys(tuple(p[:depth]) for p in paths.values()))
    }
    return {name: order[tuple(path[:depth])] for name, path in paths.items()}
